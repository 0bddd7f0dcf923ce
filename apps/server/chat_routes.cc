// SPDX-License-Identifier: Apache-2.0
// Chat: messages through the template to tokens, formats and tools to a grammar.
#include <fmt/core.h>

#include "apps/server/answer.h"
#include "apps/server/chat_request.h"
#include "apps/server/routes.h"
#include "apps/server/submit.h"

namespace hga::server {
namespace {

Result<std::shared_ptr<const Grammar>> MakeGrammar(const ServedModel& model,
                                                   const ChatRequest& request) {
  switch (request.format) {
    case AnswerFormat::kJsonObject:
      return Grammar::JsonObject(model.vocabulary);
    case AnswerFormat::kJsonSchema:
      return Grammar::JsonSchema(model.vocabulary, request.schema);
    case AnswerFormat::kText:
      break;
  }
  if (request.prompt.tools.empty()) return std::shared_ptr<const Grammar>();
  return Grammar::ToolCalls(model.vocabulary, request.prompt.tools, request.prompt.tools_required,
                            request.prompt.parallel_tool_calls);
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
    error.param = request.format == AnswerFormat::kText ? "tools" : "response_format";
    error.message = error.param + ": " + error.message;
    return Fail(call, error);
  }
  AnswerJob job;
  job.chat = true;
  job.id = NewId("chatcmpl-");
  job.common = std::move(request.common);
  job.prompts.push_back(std::move(*ids));
  job.grammar = std::move(*grammar);
  job.find_tool_calls = !request.prompt.tools.empty();
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
