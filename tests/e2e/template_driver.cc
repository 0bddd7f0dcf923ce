// SPDX-License-Identifier: Apache-2.0
// Renders chat templates for comparison with another implementation.
//
//   template_driver [TOKENIZER_DIRECTORY]
//
// One JSON object a line on stdin: {"template", "bos", "eos", "messages", "tools", "options",
// "add_generation_prompt", "continue_final_message"}; messages, tools and options are JSON texts.
// One line on stdout for each: {"text", "trusted": [[begin, end], ...], "ids"} or {"error",
// "code"}.
#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "hga/chat_template.h"
#include "hga/tokenizer.h"

namespace {

using nlohmann::json;

json Failed(const hga::Status& status) {
  return {{"error", status.message()}, {"code", static_cast<int>(status.code())}};
}

json Answer(const json& request, const hga::Tokenizer* tokenizer) {
  const auto made = hga::ChatTemplate::Parse(request.at("template").get<std::string>(),
                                             request.value("bos", ""), request.value("eos", ""));
  if (!made.ok()) return Failed(made.status());
  hga::ChatInput input;
  input.messages = request.value("messages", "[]");
  input.tools = request.value("tools", "");
  input.options = request.value("options", "");
  input.add_generation_prompt = request.value("add_generation_prompt", true);
  input.continue_final_message = request.value("continue_final_message", false);
  const auto chat = (*made)->Render(input);
  if (!chat.ok()) return Failed(chat.status());
  json answer = {{"text", chat->text}, {"trusted", json::array()}};
  for (const hga::TextRange& range : chat->trusted) {
    answer["trusted"].push_back({range.begin, range.end});
  }
  if (tokenizer == nullptr) return answer;
  const auto ids = EncodeChat(*tokenizer, *chat);
  if (!ids.ok()) return Failed(ids.status());
  answer["ids"] = *ids;
  return answer;
}

}  // namespace

int main(int argc, char** argv) {
  std::unique_ptr<hga::Tokenizer> tokenizer;
  if (argc > 1) {
    auto loaded = hga::Tokenizer::Load(argv[1]);
    if (!loaded.ok()) {
      std::cerr << loaded.status().message() << "\n";
      return 1;
    }
    tokenizer = std::move(*loaded);
  }
  for (std::string line; std::getline(std::cin, line);) {
    const json request = json::parse(line, nullptr, false);
    if (!request.is_object()) return 2;
    std::cout << Answer(request, tokenizer.get()).dump() << std::endl;
  }
  return 0;
}
