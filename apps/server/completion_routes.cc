// SPDX-License-Identifier: Apache-2.0
// Plain completions: text goes on as it is; special tokens written in it are that.
#include "apps/server/answer.h"
#include "apps/server/completion_request.h"
#include "apps/server/routes.h"
#include "apps/server/submit.h"

namespace hga::server {
namespace {

// Fills the prompts; false once an error was sent.
bool Encode(const ServedModel& model, const RouteCall& call, CompletionRequest* request) {
  for (const std::string& text : request->texts) {
    if (!CheckBytes(model, call, text.size())) return false;
    auto ids = EncodePrompt(model, text, true, true);
    if (!ids.ok()) {
      Fail(call, FromStatus(ids.status()));
      return false;
    }
    request->prompts.push_back(std::move(*ids));
  }
  return true;
}

}  // namespace

void PostCompletion(Service* service, RouteCall call) {
  if (!CheckQueue(service, call)) return;
  const ServedModel& model = *service->model;
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  CompletionRequest request = ReadCompletionRequest(fields, model);
  if (!CheckFields(service, call, fields)) return;
  if (!Encode(model, call, &request)) return;
  AnswerJob job;
  job.id = NewId("cmpl-");
  job.common = std::move(request.common);
  job.prompts = std::move(request.prompts);
  job.no_answer = request.no_answer;
  if (request.echo) {
    job.prompt_logprobs = job.common.top_logprobs >= 0;
    for (const auto& prompt : job.prompts) {
      const auto text = model.tokenizer->Decode(prompt, true);
      job.echoes.push_back(text.ok() ? *text : "");
    }
  }
  Submit(service, call, std::move(job));
}

}  // namespace hga::server
