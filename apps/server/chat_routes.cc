// SPDX-License-Identifier: Apache-2.0
// Chat: messages through the template to tokens, formats and tools to a grammar.
#include <fmt/core.h>

#include "apps/server/answer.h"
#include "apps/server/chat_encode.h"
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

}  // namespace

void PostChat(Service* service, RouteCall call) {
  if (!CheckQueue(service, call)) return;
  const ServedModel& model = *service->model;
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  ChatRequest request = ReadChatRequest(fields, model);
  if (!CheckFields(service, call, fields)) return;
  auto ids = EncodeMessages(model, call, request.prompt.input);
  if (!ids) return;
  auto grammar = MakeGrammar(model, request);
  if (!grammar.ok()) {
    ApiError error = FromStatus(grammar.status());
    error.param = request.format == AnswerFormat::kText ? "tools" : "response_format";
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
  const auto text = RenderMessages(*service->model, call, prompt.input);
  if (text) RespondJson(call, {{"prompt", text->text}});
}

}  // namespace hga::server
