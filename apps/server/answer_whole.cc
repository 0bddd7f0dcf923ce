// SPDX-License-Identifier: Apache-2.0
// Answers that are sent when all of them is there.
#include "apps/server/answer_output.h"

namespace hga::server {
namespace {

struct Choice {
  std::string text;
  std::vector<TokenText> prompt;
  std::vector<TokenText> tokens;
  std::vector<ToolDelta> calls;  // one each, whole
  std::string finish_reason;
};

class WholeOutput : public AnswerOutput {
 public:
  WholeOutput(const AnswerJob& job, std::shared_ptr<ResponseWriter> writer)
      : job_(job), writer_(std::move(writer)), choices_(static_cast<size_t>(job.choices())) {}

  bool Begin(int) override { return !writer_->closed(); }
  bool Progress(const PrefillProgress&) override { return !writer_->closed(); }
  void PromptTokens(int choice, std::vector<TokenText> tokens) override {
    At(choice).prompt = std::move(tokens);
  }

  bool Piece(int choice, ChoicePiece piece) override {
    Choice& to = At(choice);
    to.text += piece.text;
    for (TokenText& token : piece.tokens) to.tokens.push_back(std::move(token));
    for (const ToolDelta& delta : piece.tools) {
      if (delta.starts) to.calls.push_back({delta.index, true, delta.name, ""});
      if (!to.calls.empty()) to.calls.back().arguments += delta.arguments;
    }
    return !writer_->closed();
  }

  bool EndChoice(int choice, const std::string& finish_reason) override {
    At(choice).finish_reason = finish_reason;
    return !writer_->closed();
  }

  void End(const AnswerUsage& usage) override {
    Json choices = Json::array();
    for (int i = 0; i < job_.choices(); ++i) {
      choices.push_back(job_.chat ? ChatChoice(i) : CompletionChoice(i));
    }
    const Json body = {{"id", job_.id},
                       {"object", job_.chat ? "chat.completion" : "text_completion"},
                       {"created", job_.created},
                       {"model", job_.common.model},
                       {"choices", std::move(choices)},
                       {"usage", UsageJson(usage)},
                       {"timings", TimingsJson(usage)}};
    writer_->Respond({200, "application/json", Dump(body)});
  }

  void Fail(const ApiError& error) override { writer_->Respond(ErrorResponse(error)); }

 private:
  Choice& At(int choice) { return choices_[static_cast<size_t>(choice)]; }

  Json ChatChoice(int index) {
    const Choice& from = At(index);
    Json message = {{"role", "assistant"}, {"content", from.text}, {"refusal", nullptr}};
    if (!from.calls.empty()) {
      if (from.text.empty()) message["content"] = nullptr;
      message["tool_calls"] = ToolCallsJson(from.calls, job_.id, true);
    }
    const bool logprobs = job_.common.top_logprobs >= 0;
    return {{"index", index},
            {"message", std::move(message)},
            {"logprobs", logprobs ? ChatLogprobs(from.tokens) : Json(nullptr)},
            {"finish_reason", from.finish_reason}};
  }

  Json CompletionChoice(int index) {
    Choice& from = At(index);
    const std::string echo =
        job_.echoes.empty() ? "" : job_.echoes[static_cast<size_t>(index / job_.common.n)];
    Json logprobs = nullptr;
    if (job_.common.top_logprobs >= 0) {
      std::vector<TokenText> tokens = from.prompt;
      if (!job_.no_answer) tokens.insert(tokens.end(), from.tokens.begin(), from.tokens.end());
      int64_t offset = 0;
      logprobs = CompletionLogprobs(tokens, &offset);
    }
    return {{"index", index},
            {"text", job_.no_answer ? echo : echo + from.text},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", from.finish_reason}};
  }

  const AnswerJob& job_;
  const std::shared_ptr<ResponseWriter> writer_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<AnswerOutput> MakeWholeOutput(const AnswerJob& job,
                                              std::shared_ptr<ResponseWriter> writer) {
  return std::make_unique<WholeOutput>(job, std::move(writer));
}

}  // namespace hga::server
