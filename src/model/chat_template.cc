// SPDX-License-Identifier: Apache-2.0
// A checkpoint's chat template: found, parsed once, and run with the variables that transformers
// gives it.
#include "hga/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_eval.h"
#include "model/chat_template_json.h"
#include "model/chat_template_parser.h"
#include "model/json_fields.h"

namespace hga {
namespace {

using chat::TextValue;
using chat::TrackedText;
using chat::Value;
using Variables = std::map<std::string, Value, std::less<>>;

constexpr int64_t kConfigBytesMax = int64_t{16} << 20;

Result<Value> Parsed(std::string_view json, std::string_view name, bool list) {
  HGA_ASSIGN_OR_RETURN(Value value, chat::ParseJson(json, name));
  if (list ? value.list() != nullptr : value.dict() != nullptr) return value;
  return InvalidArgument(fmt::format("{}: {} is needed, not {}", name,
                                     list ? "a list" : "an object", value.TypeName()));
}

// `dict` with another value for `key`.
Value With(const chat::DictValue& dict, const char* key, Value value) {
  chat::DictValue changed = dict;
  changed.Set(TextValue(key, false), std::move(value));
  return DictOf(std::move(changed));
}

// `content` with `mark` behind its text: a text itself, or the last part of a list that has one.
std::optional<Value> Marked(const Value* content, const std::string& mark) {
  if (content == nullptr) return std::nullopt;
  if (const TrackedText* text = content->text()) return TextValue(text->bytes() + mark, false);
  if (content->list() == nullptr) return std::nullopt;
  std::vector<Value> parts = content->list()->items;
  for (size_t i = parts.size(); i-- > 0;) {
    const Value* text = parts[i].dict() != nullptr ? parts[i].dict()->Find("text") : nullptr;
    if (text == nullptr || text->text() == nullptr) continue;
    parts[i] = With(*parts[i].dict(), "text", TextValue(text->text()->bytes() + mark, false));
    return chat::ListOf(std::move(parts));
  }
  return std::nullopt;
}

// A word that stands nowhere in `json`. The blank behind it shows whether the template keeps white
// space at the end of a message.
std::string MarkFor(std::string_view json) {
  for (int i = 0;; ++i) {
    std::string mark = fmt::format("HGA-CONTINUES-HERE-{}-", i);
    if (json.find(mark) == std::string_view::npos) return mark + " ";
  }
}

Result<Value> MarkLast(const Value& messages, const std::string& mark) {
  std::vector<Value> items = messages.list()->items;
  if (items.empty()) return InvalidArgument("messages: there is no final message to go on with");
  const chat::DictValue& last = *items.back().dict();
  const std::optional<Value> content = Marked(last.Find("content"), mark);
  if (!content) return InvalidArgument("messages: the final message has no text to go on with");
  items.back() = With(last, "content", *content);
  return chat::ListOf(std::move(items));
}

// Leaves what stands before the mark.
Status CutAt(const std::string& mark, TrackedText* text) {
  const size_t at = text->bytes().rfind(mark.substr(0, mark.size() - 1));
  if (at == std::string::npos) {
    return InvalidArgument("the chat template does not write the final message as it is");
  }
  const bool keeps_space = text->bytes().compare(at, mark.size(), mark) == 0;
  text->Truncate(at);
  if (!keeps_space) text->Truncate(Strip(*text, nullptr, chat::Side::kRight).size());
  return OkStatus();
}

class JinjaTemplate final : public ChatTemplate {
 public:
  JinjaTemplate(std::unique_ptr<const chat::Program> program, std::string source, std::string bos,
                std::string eos)
      : program_(std::move(program)),
        source_(std::move(source)),
        bos_(std::move(bos)),
        eos_(std::move(eos)) {}

  // The one for conversations with tools, if there is one.
  void set_with_tools(std::unique_ptr<const chat::Program> program) {
    with_tools_ = std::move(program);
  }

  const std::string& source() const override { return source_; }

  Result<ChatText> Render(const ChatInput& input) const override {
    HGA_ASSIGN_OR_RETURN(Value messages, Parsed(input.messages, "messages", true));
    for (const Value& message : messages.list()->items) {
      if (message.dict() != nullptr) continue;
      return InvalidArgument("messages: an object is needed, not " + message.TypeName());
    }
    HGA_ASSIGN_OR_RETURN(Variables variables, Options(input.options));
    std::string mark;
    if (input.continue_final_message) {
      mark = MarkFor(input.messages);
      HGA_ASSIGN_OR_RETURN(messages, MarkLast(messages, mark));
    }
    Value tools(chat::None{});
    if (!input.tools.empty()) {
      HGA_ASSIGN_OR_RETURN(tools, Parsed(input.tools, "tools", true));
    }
    const bool has_tools = tools.Truth();
    variables["messages"] = std::move(messages);
    variables["tools"] = std::move(tools);
    variables.emplace("documents", Value(chat::None{}));
    variables["add_generation_prompt"] =
        Value(input.add_generation_prompt && !input.continue_final_message);
    // An empty text is a token that the checkpoint lacks.
    if (!bos_.empty()) variables["bos_token"] = TextValue(bos_, true);
    if (!eos_.empty()) variables["eos_token"] = TextValue(eos_, true);
    chat::Evaluator evaluator(has_tools && with_tools_ ? *with_tools_ : *program_, {});
    HGA_ASSIGN_OR_RETURN(TrackedText text, evaluator.Run(std::move(variables)));
    if (input.continue_final_message) HGA_RETURN_IF_ERROR(CutAt(mark, &text));
    ChatText out;
    out.text = text.bytes();
    out.trusted.assign(text.trusted().begin(), text.trusted().end());
    return out;
  }

 private:
  static Result<Variables> Options(const std::string& options) {
    Variables variables;
    if (options.empty()) return variables;
    HGA_ASSIGN_OR_RETURN(const Value parsed, Parsed(options, "options", false));
    std::vector<std::string> own = {"messages", "tools", "add_generation_prompt", "bos_token",
                                    "eos_token"};
    for (std::string& name : chat::FunctionNames()) own.push_back(std::move(name));
    for (const auto& [key, value] : parsed.dict()->items) {
      const std::string& name = key.text()->bytes();
      if (std::find(own.begin(), own.end(), name) != own.end()) {
        return InvalidArgument(fmt::format("options: {} can't be replaced", Quoted(name)));
      }
      variables[name] = value;
    }
    return variables;
  }

  std::unique_ptr<const chat::Program> program_;
  std::unique_ptr<const chat::Program> with_tools_;
  std::string source_;
  std::string bos_;
  std::string eos_;
};

// The templates of a checkpoint and its two tokens.
struct Found {
  std::string text;
  std::string with_tools;
  std::string bos, eos;
};

std::string TokenText(const simdjson::dom::object& config, const char* name) {
  simdjson::dom::element value;
  if (config[name].get(value)) return "";
  simdjson::dom::object object;
  if (!value.get(object) && object["content"].get(value)) return "";
  std::string_view text;
  return value.get(text) ? "" : std::string(text);
}

void TakeTemplates(const simdjson::dom::object& config, Found* found) {
  simdjson::dom::element value;
  if (config["chat_template"].get(value)) return;
  std::string_view text;
  if (!value.get(text)) {
    found->text = text;
    return;
  }
  simdjson::dom::array list;
  if (value.get(list)) return;
  for (const simdjson::dom::element item : list) {
    std::string_view name;
    if (item["name"].get(name) || item["template"].get(text)) continue;
    if (name == "default") found->text = text;
    if (name == "tool_use") found->with_tools = text;
  }
}

Status ReadConfig(const std::string& directory, Found* found) {
  Result<std::string> json = ReadSmallFile(directory, "tokenizer_config.json", kConfigBytesMax);
  if (!json.ok()) {
    return json.status().code() == StatusCode::kNotFound ? OkStatus() : json.status();
  }
  simdjson::dom::parser parser;
  HGA_ASSIGN_OR_RETURN(const simdjson::dom::object config,
                       ParseJsonObject(parser, *json, directory + "/tokenizer_config.json"));
  TakeTemplates(config, found);
  found->bos = TokenText(config, "bos_token");
  found->eos = TokenText(config, "eos_token");
  return OkStatus();
}

Result<Found> Find(const std::string& directory) {
  Found found;
  HGA_RETURN_IF_ERROR(ReadConfig(directory, &found));
  Result<std::string> jinja =
      ReadSmallFile(directory, "chat_template.jinja", static_cast<int64_t>(chat::kSourceBytesMax));
  if (jinja.ok()) {
    found.text = *std::move(jinja);
    found.with_tools.clear();
  } else if (jinja.status().code() != StatusCode::kNotFound) {
    return jinja.status();
  }
  if (!found.text.empty()) return found;
  return NotFound(fmt::format("{}: the checkpoint has no chat template", Quoted(directory)));
}

Result<std::unique_ptr<JinjaTemplate>> Make(std::string_view source, const std::string& bos,
                                            const std::string& eos) {
  for (const std::string* token : {&bos, &eos}) {
    if (FindInvalidUtf8(*token)) return InvalidArgument("a token of the template is not UTF-8");
  }
  HGA_ASSIGN_OR_RETURN(auto program, chat::ParseTemplate(source));
  return std::make_unique<JinjaTemplate>(std::move(program), std::string(source), bos, eos);
}

}  // namespace

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const Found found, Find(directory));
  HGA_ASSIGN_OR_RETURN(auto made, Make(found.text, found.bos, found.eos));
  if (!found.with_tools.empty()) {
    HGA_ASSIGN_OR_RETURN(auto program, chat::ParseTemplate(found.with_tools));
    made->set_with_tools(std::move(program));
  }
  return std::unique_ptr<ChatTemplate>(std::move(made));
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source,
                                                          const std::string& bos_token,
                                                          const std::string& eos_token) {
  HGA_ASSIGN_OR_RETURN(auto made, Make(source, bos_token, eos_token));
  return std::unique_ptr<ChatTemplate>(std::move(made));
}

Result<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer, const ChatText& chat) {
  return tokenizer.EncodeTrusted(chat.text, chat.trusted);
}

}  // namespace hga
