// SPDX-License-Identifier: Apache-2.0
// Tools, formats and lengths of a chat request. What it asks for and cannot have is refused by
// name.
#include "apps/server/chat_request.h"

#include <fmt/core.h>

#include <algorithm>

namespace hga::server {
namespace {

bool IsToolName(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && std::ranges::all_of(name, fits);
}

// Fills `tools`; the JSON for the template is what the client sent.
Json ReadTools(Fields& fields, std::vector<ToolSpec>* tools) {
  const Json* list = fields.Array("tools", kLimits.tools);
  if (list == nullptr) return Json::array();
  for (size_t i = 0; i < list->size(); ++i) {
    Fields tool((*list)[i], fmt::format("tools[{}].", i));
    if (tool.Text("type", kLimits.name_bytes).value_or("function") != "function") {
      tool.Fail("type", "must be function");
    }
    const Json* function = tool.Object("function");
    if (tool.ok() && function == nullptr) tool.Fail("function", "is missing");
    if (!tool.ok()) {
      fields.Fail(tool.error());
      return Json::array();
    }
    Fields inner(*function, fmt::format("tools[{}].function.", i));
    ToolSpec spec;
    spec.name = inner.Text("name", kLimits.name_bytes).value_or("");
    if (!IsToolName(spec.name)) inner.Fail("name", "must be letters, digits, '_', '-' or '.'");
    inner.Text("description", kLimits.text_bytes);
    if (const Json* parameters = inner.Object("parameters")) spec.parameters = Dump(*parameters);
    const bool twice =
        std::ranges::any_of(*tools, [&](const ToolSpec& other) { return other.name == spec.name; });
    if (twice) inner.Fail("name", "is there twice");
    if (!inner.ok()) {
      fields.Fail(inner.error());
      return Json::array();
    }
    tools->push_back(std::move(spec));
  }
  return *list;
}

// {"type": "function", "function": {"name": ...}} leaves that tool alone.
void ChooseNamed(Fields& fields, const Json& choice, ChatPrompt* prompt) {
  const bool shaped = choice.is_object() && choice.contains("function") &&
                      choice["function"].is_object() && choice["function"].contains("name") &&
                      choice["function"]["name"].is_string();
  if (!shaped) {
    return fields.Fail("tool_choice",
                       "must be none, auto, required or {\"type\": \"function\", \"function\": "
                       "{\"name\": ...}}");
  }
  const auto& name = choice["function"]["name"].get_ref<const std::string&>();
  std::erase_if(prompt->tools, [&](const ToolSpec& tool) { return tool.name != name; });
  if (prompt->tools.empty()) {
    return fields.Fail("tool_choice", fmt::format("there is no tool {}", Quoted(name)));
  }
  prompt->tools_required = true;
  prompt->parallel_tool_calls = false;
}

void ReadToolChoice(Fields& fields, ChatPrompt* prompt) {
  const Json* choice = fields.Find("tool_choice");
  if (choice == nullptr) return;
  if (!choice->is_string()) return ChooseNamed(fields, *choice, prompt);
  const auto& word = choice->get_ref<const std::string&>();
  if (word == "none") {
    prompt->tools.clear();
    prompt->input.tools.clear();
  } else if (word == "required") {
    if (prompt->tools.empty()) fields.Fail("tool_choice", "required needs tools");
    prompt->tools_required = true;
  } else if (word != "auto") {
    fields.Fail("tool_choice", "must be none, auto, required or a named function");
  }
}

void ReadFormat(Fields& fields, ChatRequest* out) {
  const Json* format = fields.Object("response_format");
  if (format == nullptr) return;
  Fields inner(*format, "response_format.");
  const std::string type = inner.Text("type", kLimits.name_bytes).value_or("");
  if (type == "json_object") {
    out->format = AnswerFormat::kJsonObject;
  } else if (type == "json_schema") {
    out->format = AnswerFormat::kJsonSchema;
    if (const Json* holder = inner.Object("json_schema")) {
      Fields schema(*holder, "response_format.json_schema.");
      const Json* body = schema.Find("schema");
      const bool shaped = body != nullptr && (body->is_object() || body->is_boolean());
      if (!shaped) schema.Fail("schema", "must be a JSON schema");
      if (!schema.ok()) inner.Fail(schema.error());
      if (shaped) out->schema = Dump(*body);
    } else {
      inner.Fail("json_schema", "is missing");
    }
  } else if (type != "text") {
    inner.Fail("type", "must be text, json_object or json_schema");
  }
  if (!inner.ok()) return fields.Fail(inner.error());
}

void ReadLogprobs(Fields& fields, CommonRequest* common) {
  const bool wanted = fields.Bool("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, kLimits.top_logprobs);
  if (top && *top > 0 && !wanted) fields.Fail("top_logprobs", "needs logprobs");
  if (wanted) common->top_logprobs = static_cast<int>(top.value_or(0));
}

}  // namespace

ChatPrompt ReadChatPrompt(Fields& fields) {
  ChatPrompt prompt;
  bool last_is_answer = false;
  prompt.input.messages = Dump(ReadMessages(fields, &last_is_answer));
  const Json tools = ReadTools(fields, &prompt.tools);
  if (!tools.empty()) prompt.input.tools = Dump(tools);
  prompt.parallel_tool_calls = fields.Bool("parallel_tool_calls").value_or(true);
  ReadToolChoice(fields, &prompt);
  if (const Json* options = fields.Object("chat_template_kwargs")) {
    prompt.input.options = Dump(*options);
  }
  const auto add = fields.Bool("add_generation_prompt");
  const auto goes_on = fields.Bool("continue_final_message");
  if (goes_on.value_or(false) && !last_is_answer) {
    fields.Fail("continue_final_message", "the last message is none of the assistant");
  }
  if (goes_on.value_or(false) && add.value_or(false)) {
    fields.Fail("continue_final_message", "contradicts add_generation_prompt");
  }
  // An answer that the client began goes on, unless it says otherwise.
  prompt.input.continue_final_message = goes_on.value_or(last_is_answer && !add.value_or(false));
  prompt.input.add_generation_prompt = add.value_or(!prompt.input.continue_final_message);
  return prompt;
}

ChatRequest ReadChatRequest(Fields& fields, const ServedModel& model) {
  ChatRequest out;
  out.common = ReadCommon(fields, model, 1);
  out.prompt = ReadChatPrompt(fields);
  ReadFormat(fields, &out);
  ReadLogprobs(fields, &out.common);
  if (!fields.Bool("ignore_eos").value_or(false)) {
    out.common.stop_ids.insert(out.common.stop_ids.end(), model.turn_end.begin(),
                               model.turn_end.end());
  }
  fields.Ignore({"reasoning_format", "reasoning_effort", "modalities", "verbosity", "prediction"});
  for (const char* name : {"functions", "function_call", "audio"}) {
    if (fields.Find(name) != nullptr) fields.Fail(name, "is not supported");
  }
  return out;
}

}  // namespace hga::server
