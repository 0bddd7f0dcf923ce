// SPDX-License-Identifier: Apache-2.0
// The template's refusals are the request's fault.
#include "apps/server/chat_encode.h"

#include <utility>

#include "apps/server/submit.h"

namespace hga::server {

std::optional<ChatText> RenderMessages(const ServedModel& model, const RouteCall& call,
                                       const ChatInput& input) {
  if (model.chat_template == nullptr) {
    Fail(call, {400, "this model has no chat template: " + model.no_template, "", "no_template"});
    return std::nullopt;
  }
  auto text = model.chat_template->Render(input);
  if (!text.ok()) {
    // A template's limits are no matter of load.
    Fail(call, {400, text.status().message(), "messages"});
    return std::nullopt;
  }
  return std::move(*text);
}

std::optional<std::vector<int32_t>> EncodeMessages(const ServedModel& model, const RouteCall& call,
                                                   const ChatInput& input) {
  const auto text = RenderMessages(model, call, input);
  if (!text || !CheckBytes(model, call, text->text.size())) return std::nullopt;
  auto ids = EncodeChat(*model.tokenizer, *text);
  if (ids.ok()) return std::move(*ids);
  Fail(call, FromStatus(ids.status()));
  return std::nullopt;
}

}  // namespace hga::server
