// SPDX-License-Identifier: Apache-2.0
// Chat: messages through the template to tokens, formats and tools to a grammar.
#include <fmt/core.h>

#include "apps/server/answer.h"
#include "apps/server/chat_request.h"
#include "apps/server/routes.h"
#include "apps/server/submit.h"

namespace hga::server {
namespace {

// Calls that must come leave no room for the format.
bool IsJson(const ChatRequest& request) {
  return request.format != AnswerFormat::kText && !request.prompt.tools_required;
}

// Null: any text.
Result<std::shared_ptr<const Grammar>> MakeGrammar(const ServedModel& model,
                                                   const ChatRequest& request) {
  const ChatPrompt& prompt = request.prompt;
  const bool json = IsJson(request);
  std::shared_ptr<const Grammar> format;
  if (json) {
    HGA_ASSIGN_OR_RETURN(format, request.format == AnswerFormat::kJsonObject
                                     ? Grammar::JsonObject(model.vocabulary)
                                     : Grammar::JsonSchema(model.vocabulary, request.schema));
  }
  if (prompt.tools.empty()) return format;
  // Beside JSON there is no free text around calls.
  HGA_ASSIGN_OR_RETURN(
      auto calls, Grammar::ToolCalls(model.vocabulary, prompt.tools, prompt.tools_required || json,
                                     prompt.parallel_tool_calls));
  return json ? Grammar::Either(std::move(format), std::move(calls)) : calls;
}

// Nothing once an error was sent.
std::optional<ChatText> Render(const ServedModel& model, const RouteCall& call,
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

}  // namespace

void PostChat(Service* service, RouteCall call) {
  if (!CheckQueue(service, call)) return;
  const ServedModel& model = *service->model;
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  ChatRequest request = ReadChatRequest(fields, model);
  if (!CheckFields(service, call, fields)) return;
  const auto text = Render(model, call, request.prompt.input);
  if (!text || !CheckBytes(model, call, text->text.size())) return;
  auto ids = EncodeChat(*model.tokenizer, *text);
  if (!ids.ok()) return Fail(call, FromStatus(ids.status()));
  auto grammar = MakeGrammar(model, request);
  if (!grammar.ok()) {
    ApiError error = FromStatus(grammar.status());
    const bool tools = !request.prompt.tools.empty(), format = IsJson(request);
    error.param = format ? "response_format" : "tools";
    error.message =
        (tools && format ? "response_format or tools" : error.param) + ": " + error.message;
    return Fail(call, error);
  }
  AnswerJob job;
  job.chat = true;
  job.id = NewId("chatcmpl-");
  job.common = std::move(request.common);
  job.prompts.push_back(std::move(*ids));
  job.grammar = std::move(*grammar);
  if (!request.prompt.tools.empty()) {
    job.tool_calls = IsJson(request) ? ToolCalls::kOnlyCalls : ToolCalls::kAnywhere;
  }
  Submit(service, call, std::move(job));
}

void PostApplyTemplate(Service* service, RouteCall call) {
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  const ChatPrompt prompt = ReadChatPrompt(fields);
  fields.Ignore({"model"});
  if (!CheckFields(service, call, fields)) return;
  const auto text = Render(*service->model, call, prompt.input);
  if (text) RespondJson(call, {{"prompt", text->text}});
}

}  // namespace hga::server
