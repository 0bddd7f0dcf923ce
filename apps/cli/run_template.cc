// SPDX-License-Identifier: Apache-2.0
// Recognising ChatML by its marks, since there is no template engine to run.
#include "run_template.h"

#include <fmt/core.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common.h"

namespace hga::cli {
namespace {

using nlohmann::json;

constexpr int64_t kMaxTemplateBytes = 4 << 20;

// The template named "default" of a list of them, or the only text.
std::string FromConfig(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return "";
  for (const json& item : value) {
    if (item.is_object() && item.contains("template") && item["template"].is_string() &&
        item.contains("name") && item["name"] == "default") {
      return item["template"].get<std::string>();
    }
  }
  return "";
}

// "" when the checkpoint has none.
Result<std::string> ReadTemplate(const std::string& directory) {
  const std::string jinja = directory + "/chat_template.jinja";
  if (access(jinja.c_str(), F_OK) == 0) return ReadTextFile(jinja, kMaxTemplateBytes);
  const std::string name = directory + "/tokenizer_config.json";
  if (access(name.c_str(), F_OK) != 0) return std::string();
  HGA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(name, kMaxTemplateBytes));
  const json config = json::parse(text, nullptr, false);
  if (!config.is_object()) return DataLoss(name + ": not a JSON object");
  return config.contains("chat_template") ? FromConfig(config["chat_template"]) : std::string();
}

void Append(const std::vector<int32_t>& from, std::vector<int32_t>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

}  // namespace

bool IsChatMl(std::string_view chat_template, std::string* why) {
  constexpr std::string_view kForeign[] = {
      "[INST]",          "<|start_header_id|>", "<start_of_turn>", "<|im_sep|>",
      "<|user|>",        "<|start|>",           "<|turn>",         "<\xEF\xBD\x9CUser\xEF\xBD\x9C>",
      "<|header_start|>"};
  for (std::string_view mark : kForeign) {
    if (chat_template.find(mark) != std::string_view::npos) {
      *why = fmt::format("it writes {}", mark);
      return false;
    }
  }
  for (std::string_view mark : {"<|im_start|>", "<|im_end|>"}) {
    if (chat_template.find(mark) == std::string_view::npos) {
      *why = fmt::format("it does not write {}", mark);
      return false;
    }
  }
  return true;
}

Result<ChatMl> ChatMl::For(const std::string& directory, const Tokenizer& tokenizer) {
  HGA_ASSIGN_OR_RETURN(const std::string chat_template, ReadTemplate(directory));
  if (chat_template.empty()) {
    return Unsupported(
        fmt::format("{}: the checkpoint has no chat template; use --raw", directory));
  }
  std::string why;
  if (!IsChatMl(chat_template, &why)) {
    return Unsupported(fmt::format(
        "{}: the chat template is not ChatML, the only one built in: {}; use --raw and write the "
        "format yourself",
        directory, why));
  }
  const auto start = tokenizer.TokenId("<|im_start|>");
  const auto end = tokenizer.TokenId("<|im_end|>");
  if (!start || !end) {
    return Unsupported(fmt::format("{}: the chat template is ChatML, but the tokenizer has no {}",
                                   directory, start ? "<|im_end|>" : "<|im_start|>"));
  }
  return ChatMl(tokenizer, *start, *end);
}

Result<std::vector<int32_t>> ChatMl::Message(std::string_view role, std::string_view text) const {
  std::vector<int32_t> ids = {start_};
  HGA_ASSIGN_OR_RETURN(const auto body,
                       tokenizer_->Encode(fmt::format("{}\n{}", role, text), false));
  HGA_ASSIGN_OR_RETURN(const auto end, AnswerEnd());
  Append(body, &ids);
  Append(end, &ids);
  return ids;
}

Result<std::vector<int32_t>> ChatMl::AnswerStart() const {
  std::vector<int32_t> ids = {start_};
  HGA_ASSIGN_OR_RETURN(const auto role, tokenizer_->Encode("assistant\n", false));
  Append(role, &ids);
  return ids;
}

Result<std::vector<int32_t>> ChatMl::AnswerEnd() const {
  std::vector<int32_t> ids = {end_};
  HGA_ASSIGN_OR_RETURN(const auto newline, tokenizer_->Encode("\n", false));
  Append(newline, &ids);
  return ids;
}

}  // namespace hga::cli
