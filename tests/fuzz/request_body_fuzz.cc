// SPDX-License-Identifier: Apache-2.0
// Any bytes as the body of a request: errors are JSON that names a field, values are in range.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "apps/server/chat_request.h"
#include "apps/server/completion_request.h"

namespace {

using hga::server::Fields;
using hga::server::kLimits;

void CheckError(const Fields& fields) {
  const hga::server::ApiError& error = fields.error();
  if (error.status < 400 || error.status > 499 || error.message.empty()) std::abort();
  const std::string body = hga::server::Dump(hga::server::ErrorBody(error));
  if (!hga::server::ParseJson(body, kLimits).ok()) std::abort();
}

void CheckCommon(const hga::server::CommonRequest& common) {
  if (common.n < 1 || common.n > kLimits.n || common.model.empty()) std::abort();
  if (!hga::Validate(common.sampling).ok()) std::abort();
  if (common.top_logprobs < -1 || common.top_logprobs > kLimits.top_logprobs) std::abort();
  for (const std::string& stop : common.stops) {
    if (stop.empty()) std::abort();
  }
  for (const auto& [id, bias] : common.sampling.logit_bias) {
    if (id < 0 || id >= 1000) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hga::server::ServedModel model;
  model.names = {"m"};
  model.info.vocab = 1000;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto body = hga::server::ParseJson(text, kLimits);
  if (!body.ok()) {
    const hga::server::Json nothing = hga::server::Json::object();
    Fields none(nothing);
    none.Fail("x", body.status().message());
    CheckError(none);
    return 0;
  }
  Fields chat(*body);
  const auto request = hga::server::ReadChatRequest(chat, model);
  chat.ok() ? CheckCommon(request.common) : CheckError(chat);
  if (body->is_object() && body->contains("suffix")) return 0;  // needs a tokenizer
  Fields plain(*body);
  const auto completion = hga::server::ReadCompletionRequest(plain, model);
  if (!plain.ok()) {
    CheckError(plain);
    return 0;
  }
  CheckCommon(completion.common);
  for (const auto& prompt : completion.prompts) {
    for (const int32_t id : prompt) {
      if (id < 0 || id >= 1000) std::abort();
    }
  }
  return 0;
}
