// SPDX-License-Identifier: Apache-2.0
// Answers as server-sent events, each a chunk of JSON.
#include "apps/server/answer_output.h"

namespace hga::server {
namespace {

std::string Event(const Json& json) { return "data: " + Dump(json) + "\n\n"; }

class StreamOutput : public AnswerOutput {
 public:
  StreamOutput(const AnswerJob& job, std::shared_ptr<ResponseWriter> writer, double ping_seconds)
      : job_(job), writer_(std::move(writer)), ping_seconds_(ping_seconds) {
    offsets_.resize(static_cast<size_t>(job.choices()));
  }

  bool Begin(int choice) override {
    if (!started_) {
      HttpResponse head{200, "text/event-stream; charset=utf-8", ""};
      // The second one keeps proxies from collecting events.
      head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
      writer_->StartStream(std::move(head), ": ping\n\n", ping_seconds_);
      started_ = true;
    }
    if (!job_.chat) {
      if (job_.echoes.empty()) return !writer_->closed();
      ChoicePiece echo;
      echo.text = job_.echoes[static_cast<size_t>(choice / job_.common.n)];
      return job_.prompt_logprobs || SendPiece(choice, echo);
    }
    return SendChat(choice, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
  }

  bool Progress(const PrefillProgress& progress) override {
    if (!job_.common.return_progress) return !writer_->closed();
    Json chunk = Chunk(Json::array());
    chunk["prompt_progress"] = {{"total", progress.total},
                                {"cache", progress.cached},
                                {"processed", progress.done},
                                {"time_ms", progress.seconds * 1e3}};
    return writer_->Send(Event(chunk));
  }

  // The echo then comes with them.
  void PromptTokens(int choice, std::vector<TokenText> tokens) override {
    ChoicePiece echo;
    if (!job_.echoes.empty()) echo.text = job_.echoes[static_cast<size_t>(choice / job_.common.n)];
    echo.tokens = std::move(tokens);
    SendPiece(choice, echo);
  }

  bool Piece(int choice, ChoicePiece piece) override {
    if (job_.no_answer || piece.empty()) return !writer_->closed();
    return SendPiece(choice, piece);
  }

  bool EndChoice(int choice, const std::string& finish_reason) override {
    if (job_.chat) return SendChat(choice, Json::object(), nullptr, finish_reason);
    return Send(choice, {{"text", ""}, {"logprobs", nullptr}, {"finish_reason", finish_reason}});
  }

  void End(const AnswerUsage& usage) override {
    if (job_.common.include_usage || job_.common.timings_per_token) {
      Json chunk = Chunk(Json::array());
      chunk["usage"] = UsageJson(usage);
      chunk["timings"] = TimingsJson(usage);
      writer_->Send(Event(chunk));
    }
    writer_->Send("data: [DONE]\n\n");
    writer_->End();
  }

  void Fail(const ApiError& error) override {
    if (!started_) return writer_->Respond(ErrorResponse(error));
    writer_->Send(Event(ErrorBody(error)));
    writer_->End();
  }

 private:
  Json Chunk(Json choices) const {
    Json chunk = {{"id", job_.id},
                  {"object", job_.chat ? "chat.completion.chunk" : "text_completion"},
                  {"created", job_.created},
                  {"model", job_.common.model},
                  {"choices", std::move(choices)}};
    if (job_.common.include_usage) chunk["usage"] = nullptr;
    return chunk;
  }

  bool Send(int choice, Json body, const Json& lens = nullptr) {
    Json with_index = {{"index", choice}};
    with_index.update(body);
    Json choices = Json::array();
    choices.push_back(std::move(with_index));
    Json chunk = Chunk(std::move(choices));
    if (!lens.is_null()) chunk["hga"] = lens;
    return writer_->Send(Event(chunk));
  }

  bool SendChat(int choice, Json delta, Json logprobs, Json finish_reason,
                const Json& lens = nullptr) {
    return Send(choice,
                {{"delta", std::move(delta)},
                 {"logprobs", std::move(logprobs)},
                 {"finish_reason", std::move(finish_reason)}},
                lens);
  }

  bool SendPiece(int choice, const ChoicePiece& piece) {
    const bool logprobs = job_.common.top_logprobs >= 0;
    if (!job_.chat) {
      Json values = nullptr;
      if (logprobs) {
        values = CompletionLogprobs(piece.tokens, &offsets_[static_cast<size_t>(choice)]);
      }
      return Send(
          choice,
          {{"text", piece.text}, {"logprobs", std::move(values)}, {"finish_reason", nullptr}},
          piece.lens);
    }
    Json delta = Json::object();
    if (!piece.text.empty() || piece.tools.empty()) delta["content"] = piece.text;
    if (!piece.tools.empty()) delta["tool_calls"] = ToolCallsJson(piece.tools, job_.id, false);
    return SendChat(choice, std::move(delta), logprobs ? ChatLogprobs(piece.tokens) : Json(nullptr),
                    nullptr, piece.lens);
  }

  const AnswerJob& job_;
  const std::shared_ptr<ResponseWriter> writer_;
  const double ping_seconds_;
  bool started_ = false;
  std::vector<int64_t> offsets_;  // of each choice's next token in its text
};

}  // namespace

std::unique_ptr<AnswerOutput> MakeStreamOutput(const AnswerJob& job,
                                               std::shared_ptr<ResponseWriter> writer,
                                               double ping_seconds) {
  return std::make_unique<StreamOutput>(job, std::move(writer), ping_seconds);
}

}  // namespace hga::server
