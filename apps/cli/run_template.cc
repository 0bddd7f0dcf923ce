// SPDX-License-Identifier: Apache-2.0
// Messages become JSON for the engine; what it refuses leads to --raw.
#include "run_template.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace hga::cli {
namespace {

using nlohmann::json;

Result<ChatText> RenderWith(const ChatTemplate& chat, std::span<const Message> messages,
                            bool answer_begins) {
  json list = json::array();
  for (const Message& message : messages) {
    list.push_back({{"role", message.role}, {"content", message.content}});
  }
  ChatInput input;
  input.messages = list.dump(-1, ' ', false, json::error_handler_t::replace);
  input.add_generation_prompt = answer_begins;
  return chat.Render(input);
}

}  // namespace

Result<PromptTemplate> PromptTemplate::Load(const std::string& directory,
                                            const Tokenizer& tokenizer) {
  Result<std::unique_ptr<ChatTemplate>> chat = ChatTemplate::Load(directory);
  if (!chat.ok() && chat.status().code() == StatusCode::kNotFound) {
    return Unsupported(
        fmt::format("{}: the checkpoint has no chat template; use --raw", directory));
  }
  if (!chat.ok()) {
    return Unsupported(fmt::format("{}: {}; use --raw and write the format yourself", directory,
                                   chat.status().message()));
  }
  PromptTemplate made(*std::move(chat));
  made.FindTurnEnd(tokenizer);
  return made;
}

Result<ChatText> PromptTemplate::Render(std::span<const Message> messages) const {
  return RenderWith(*template_, messages, /*answer_begins=*/true);
}

// Looks at what follows an answer in a small conversation. A template that refuses it has none.
void PromptTemplate::FindTurnEnd(const Tokenizer& tokenizer) {
  constexpr std::string_view kAnswer = "hga-answer";
  const std::vector<Message> messages = {{"user", "a"}, {"assistant", std::string(kAnswer)}};
  const Result<ChatText> chat = RenderWith(*template_, messages, /*answer_begins=*/false);
  if (!chat.ok()) return;
  const size_t answer = chat->text.rfind(kAnswer);
  if (answer == std::string::npos) return;
  const std::string rest = chat->text.substr(answer + kAnswer.size());
  const auto ids = tokenizer.Encode(rest, /*parse_special=*/true);
  if (ids.ok() && !ids->empty() && tokenizer.IsSpecial(ids->front())) {
    turn_end_.insert(ids->front());
  }
}

}  // namespace hga::cli
