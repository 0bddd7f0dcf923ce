// SPDX-License-Identifier: Apache-2.0
// Chat templates against recorded renderings of Jinja2 (tools/golden_templates.py).
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "hga/chat_template.h"

namespace hga {
namespace {

using nlohmann::ordered_json;

std::string ReadAll(const std::string& path) {
  std::ifstream file(std::string(HGA_SOURCE_DIR) + "/" + path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::unique_ptr<ChatTemplate> TemplateOf(const std::string& name, const ordered_json& tokens) {
  std::string source;
  if (name == "hga-mini") {
    const auto config = ordered_json::parse(ReadAll("models/hga-mini/tokenizer_config.json"));
    source = config["chat_template"];
  } else {
    source = ReadAll("tests/golden/templates/" + name + ".jinja");
  }
  auto made = ChatTemplate::Parse(source, tokens[0], tokens[1]);
  EXPECT_TRUE(made.ok()) << name << ": " << made.status().message();
  return made.ok() ? *std::move(made) : nullptr;
}

// Look-alikes stand in the conversations, each of them in the input only as part of a longer text.
void ExpectInputUntrusted(const ChatText& chat, const std::string& content) {
  for (size_t at = chat.text.find(content); at != std::string::npos;
       at = chat.text.find(content, at + 1)) {
    for (const TextRange& range : chat.trusted) {
      EXPECT_TRUE(range.end <= at || range.begin >= at + content.size())
          << content << " at byte " << at;
    }
  }
}

TEST(ChatTemplateGolden, RendersWhatJinjaRenders) {
  const auto golden = ordered_json::parse(ReadAll("tests/golden/data/chat_templates.json"));
  std::map<std::string, std::unique_ptr<ChatTemplate>> templates;
  for (const auto& [name, tokens] : golden["tokens"].items()) {
    templates[name] = TemplateOf(name, tokens);
    ASSERT_NE(templates[name], nullptr);
  }
  size_t refused = 0;
  for (const auto& record : golden["records"]) {
    const std::string conversation = record["conversation"];
    ChatInput input;
    input.messages = golden["conversations"][conversation].dump();
    // Whole numbers beyond 64 bits lose digits in this library's tree, so the text is put together.
    if (record["tools"]) input.tools = golden["tools_json"];
    input.options = golden["options"][record["options"].get<size_t>()].dump();
    input.add_generation_prompt = record["add_generation_prompt"];
    const auto chat = templates[record["template"]]->Render(input);
    SCOPED_TRACE(record.dump());
    ASSERT_EQ(chat.ok(), !record["text"].is_null()) << chat.status().message();
    if (!chat.ok()) {
      EXPECT_EQ(chat.status().code(), StatusCode::kInvalidArgument);
      ++refused;
      continue;
    }
    ASSERT_EQ(chat->text, record["text"].get<std::string>());
    for (const auto& message : golden["conversations"][conversation]) {
      // One token alone may well be the template's own.
      const bool longer = conversation == "look-alikes" && message["content"] != "<|im_start|>";
      if (longer) ExpectInputUntrusted(*chat, message["content"]);
    }
  }
  EXPECT_GT(golden["records"].size(), 600u);
  EXPECT_GT(refused, 50u);
}

}  // namespace
}  // namespace hga
