// SPDX-License-Identifier: Apache-2.0
// A choice begins when the one before it has ended, so that it finds the prompt's K/V there.
#include "apps/server/answer.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>

#include "apps/server/answer_output.h"

namespace hga::server {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A full disk is no full queue: asking again would not help.
ApiError FailedAnswer(const Status& status) {
  const bool full = status.code() == StatusCode::kResourceExhausted;
  return full ? ApiError{500, status.message(), "", "out_of_resources"} : FromStatus(status);
}

class Answer : public GenerationListener, public std::enable_shared_from_this<Answer> {
 public:
  Answer(Service* service, AnswerJob job, std::shared_ptr<ResponseWriter> writer)
      : service_(*service),
        job_(std::move(job)),
        writer_(std::move(writer)),
        output_(job_.common.stream ? MakeStreamOutput(job_, writer_, service->options.ping_seconds)
                                   : MakeWholeOutput(job_, writer_)) {}

  void Start() {
    writer_->OnClose([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->ClientLeft();
    });
    Submit();
  }

  void OnPrefill(const PrefillProgress& progress) override {
    const std::lock_guard lock(mutex_);
    BeginOnce();
    if (!output_->Progress(progress)) left_ = true;
  }

  void OnPromptLogprobs(std::span<const GeneratedToken> tokens) override {
    const std::lock_guard lock(mutex_);
    BeginOnce();
    GeneratedToken first;
    first.id = job_.prompt_of(choice_).front();
    std::vector<TokenText> texts = {Describe(tokenizer(), first)};
    texts.front().has_logprob = false;
    for (const GeneratedToken& token : tokens) texts.push_back(Describe(tokenizer(), token));
    output_->PromptTokens(choice_, std::move(texts));
  }

  bool OnToken(const GeneratedToken& token) override {
    const std::lock_guard lock(mutex_);
    BeginOnce();
    const double now = SecondsSince(start_);
    if (first_token_seconds_ == 0) {
      first_token_seconds_ = now;
    } else {
      service_.metrics->CountTokenGap(now - last_token_seconds_);
    }
    last_token_seconds_ = now;
    ChoicePiece piece = text_->Push(token);
    if (job_.common.trace && job_.common.stream) {
      piece.lens = LensJson(token, context_++);
    }
    if (!output_->Piece(choice_, std::move(piece))) left_ = true;
    return !left_ && !text_->stopped();
  }

  void OnEnd(const GenerationEnd& end) override {
    const std::lock_guard lock(mutex_);
    running_ = 0;
    ended_ = choice_ + 1;
    AddUsage(end);
    if (end.finish == GenerationFinish::kError || end.finish == GenerationFinish::kCancelled) {
      const bool error = end.finish == GenerationFinish::kError;
      Count(left_ || !error ? "abort" : "error", end);
      Note(left_ ? ", left" : ", failed");
      if (!left_) output_->Fail(error ? FailedAnswer(end.error) : FromStatus(Cancelled("")));
      return;
    }
    BeginOnce();
    EndChoice(end);
  }

 private:
  const Tokenizer& tokenizer() const { return *service_.model->tokenizer; }

  void ClientLeft() {
    left_ = true;
    if (const uint64_t running = running_; running != 0) service_.scheduler->Cancel(running);
  }

  // The next choice, on a thread that is not the scheduler's.
  void Submit() {
    GenerationRequest request;
    int choice = 0;
    {
      const std::lock_guard lock(mutex_);
      choice = choice_;
      text_ = std::make_unique<ChoiceText>(tokenizer(), job_.common.stops,
                                           job_.common.top_logprobs >= 0, job_.tool_calls);
      begun_ = false;
      request = MakeRequest();
    }
    const auto submitted = service_.scheduler->Submit(std::move(request));
    Submitted(choice, submitted);
    // Never under the lock: the scheduler may be waiting for it in a call.
    if (submitted.ok() && left_) service_.scheduler->Cancel(*submitted);
  }
  void Submitted(int choice, const Result<uint64_t>& submitted) {
    const std::lock_guard lock(mutex_);
    if (!submitted.ok()) {
      Note(", refused");
      return output_->Fail(FromStatus(submitted.status()));
    }
    if (ended_ > choice) return;  // it has ended, and another may have begun
    BeginOnce();
    running_ = *submitted;
  }

  GenerationRequest MakeRequest() {
    GenerationRequest request;
    const CommonRequest& common = job_.common;
    request.prompt = job_.prompt_of(choice_);
    const int64_t room =
        service_.scheduler->options().context - static_cast<int64_t>(request.prompt.size());
    request.max_tokens = common.max_tokens.value_or(room);
    request.sampling = common.sampling;
    request.sampling.seed += static_cast<uint64_t>(choice_ % common.n);
    request.stop_ids = common.stop_ids;
    request.top_logprobs = common.top_logprobs;
    request.trace_plans = common.trace && common.stream;
    context_ = static_cast<int64_t>(request.prompt.size());
    request.prompt_logprobs = job_.prompt_logprobs;
    request.reuse_prefix = common.reuse_prefix;
    request.continues = choice_ > 0;
    request.owner = job_.owner;
    // What earlier choices have left of it.
    constexpr double kLeast = 1e-3;
    const double seconds = service_.options.request_seconds;
    if (seconds > 0) request.seconds = std::max(kLeast, seconds - SecondsSince(start_));
    if (job_.grammar != nullptr) request.constraint = job_.grammar->Start();
    request.listener = shared_from_this();
    return request;
  }

  void BeginOnce() {
    if (begun_) return;
    begun_ = true;
    if (!output_->Begin(choice_)) left_ = true;
  }

  void EndChoice(const GenerationEnd& end) {
    if (!output_->Piece(choice_, text_->Finish())) left_ = true;
    std::string reason = end.finish == GenerationFinish::kLength ? "length" : "stop";
    if (text_->called_tools() && reason == "stop") reason = "tool_calls";
    if (!output_->EndChoice(choice_, reason)) left_ = true;
    Count(left_ ? "abort" : reason, end);
    if (left_) return Note(", left");
    if (++choice_ < job_.choices()) {
      first_token_seconds_ = 0;
      service_.post([self = shared_from_this()] { self->Submit(); });
      return;
    }
    Note("");
    output_->End(usage_);
  }

  void AddUsage(const GenerationEnd& end) {
    // A prompt counts once, however many answers it gets.
    if (choice_ % job_.common.n == 0) {
      usage_.prompt_tokens += end.prompt_tokens;
      usage_.cached_tokens += end.cached_tokens;
      usage_.prefill_seconds += end.prefill_seconds;
      usage_.queue_seconds += end.queue_seconds;
    }
    usage_.answer_tokens += job_.no_answer ? 0 : end.answer_tokens;
    usage_.decode_seconds += end.decode_seconds;
  }

  void Count(const std::string& reason, const GenerationEnd& end) {
    service_.metrics->CountChoice({reason, end, first_token_seconds_, SecondsSince(start_)});
  }
  void Note(const char* how) {
    writer_->Note(fmt::format(", {} prompt tokens ({} cached), {} answer tokens{}",
                              usage_.prompt_tokens, usage_.cached_tokens, usage_.answer_tokens,
                              how));
  }

  Service& service_;
  const AnswerJob job_;
  const std::shared_ptr<ResponseWriter> writer_;
  const Clock::time_point start_ = Clock::now();
  std::atomic<bool> left_{false};     // the client
  std::atomic<uint64_t> running_{0};  // number of the request under way

  std::mutex mutex_;  // of what follows: a worker's thread submits, the scheduler's calls
  const std::unique_ptr<AnswerOutput> output_;
  std::unique_ptr<ChoiceText> text_;
  int choice_ = 0;
  int ended_ = 0;  // choices
  bool begun_ = false;
  int64_t context_ = 0;  // tokens before the next one
  AnswerUsage usage_;
  double first_token_seconds_ = 0, last_token_seconds_ = 0;
};

}  // namespace

void StartAnswer(Service* service, AnswerJob job, std::shared_ptr<ResponseWriter> writer) {
  std::make_shared<Answer>(service, std::move(job), std::move(writer))->Start();
}

}  // namespace hga::server
