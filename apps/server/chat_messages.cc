// SPDX-License-Identifier: Apache-2.0
// Messages in the many shapes clients write, as the one shape that chat templates read.
#include <fmt/core.h>

#include "apps/server/chat_request.h"

namespace hga::server {
namespace {

// A string, null, or a list of parts of which only texts are taken.
std::string ReadContent(Fields& message) {
  const Json* content = message.Find("content");
  if (content == nullptr) return "";
  if (content->is_string()) return *message.Text("content", kLimits.text_bytes);
  const Json* parts = message.Array("content", kLimits.parts);
  if (parts == nullptr) return "";
  std::string text;
  for (const Json& part : *parts) {
    const bool object = part.is_object() && part.contains("type") && part["type"].is_string();
    if (!object) {
      message.Fail("content", "a part is no object with a type");
      return "";
    }
    const auto& type = part["type"].get_ref<const std::string&>();
    if (type != "text" && type != "input_text") {
      message.Fail("content",
                   fmt::format("parts of type {} are not supported, only text is", Quoted(type)));
      return "";
    }
    if (!part.contains("text") || !part["text"].is_string()) {
      message.Fail("content", "a part of type text has no text");
      return "";
    }
    if (!text.empty()) text += '\n';
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

// {"id", "type", "function": {"name", "arguments": text}}; templates want the arguments as an
// object where they are one.
Json ReadToolCalls(Fields& message) {
  Json calls = Json::array();
  const Json* given = message.Array("tool_calls", kLimits.tool_calls);
  if (given == nullptr) return calls;
  for (const Json& call : *given) {
    const bool shaped = call.is_object() && call.contains("function") &&
                        call["function"].is_object() && call["function"].contains("name") &&
                        call["function"]["name"].is_string();
    if (!shaped) {
      message.Fail("tool_calls", "a call is no {\"function\": {\"name\", \"arguments\"}}");
      return calls;
    }
    Json arguments = call["function"].value("arguments", Json("{}"));
    if (!arguments.is_string() && !arguments.is_object()) {
      message.Fail("tool_calls", "arguments are neither a string nor an object");
      return calls;
    }
    if (arguments.is_string()) {
      auto parsed = ParseJson(arguments.get_ref<const std::string&>(), kLimits);
      if (parsed.ok() && parsed->is_object()) arguments = std::move(*parsed);
    }
    Json kept = {{"type", "function"},
                 {"function", {{"name", call["function"]["name"]}, {"arguments", arguments}}}};
    if (call.contains("id") && call["id"].is_string()) kept["id"] = call["id"];
    calls.push_back(std::move(kept));
  }
  return calls;
}

Json ReadMessage(Fields& message) {
  const std::string role = message.Text("role", kLimits.name_bytes).value_or("");
  const bool known = role == "system" || role == "developer" || role == "user" ||
                     role == "assistant" || role == "tool" || role == "function";
  if (!known) {
    message.Fail("role", "must be system, developer, user, assistant or tool");
    return {};
  }
  // Templates do not know the newer name.
  Json out = {{"role", role == "developer" ? "system" : role == "function" ? "tool" : role}};
  out["content"] = ReadContent(message);
  for (const char* name : {"name", "tool_call_id", "reasoning_content"}) {
    if (const auto text = message.Text(name, kLimits.text_bytes)) out[name] = *text;
  }
  if (Json calls = ReadToolCalls(message); !calls.empty()) out["tool_calls"] = std::move(calls);
  const bool empty = message.Find("content") == nullptr && !out.contains("tool_calls");
  if (empty && role != "assistant") message.Fail("content", "is missing");
  return out;
}

}  // namespace

Json ReadMessages(Fields& fields, bool* continues) {
  Json out = Json::array();
  const Json* messages = fields.Array("messages", kLimits.messages);
  if (messages == nullptr) {
    fields.Fail("messages", "is missing");
    return out;
  }
  if (messages->empty()) fields.Fail("messages", "must have at least one message");
  for (size_t i = 0; i < messages->size(); ++i) {
    Fields message((*messages)[i], fmt::format("messages[{}].", i));
    Json read = ReadMessage(message);
    if (!message.ok()) {
      fields.Fail(message.error());
      return out;
    }
    out.push_back(std::move(read));
  }
  *continues =
      !out.empty() && out.back()["role"] == "assistant" && !out.back().contains("tool_calls");
  return out;
}

}  // namespace hga::server
