// SPDX-License-Identifier: Apache-2.0
// The loop from logits to text.
#include "run_generate.h"

#include <algorithm>
#include <utility>

#include "progress.h"

namespace hga::cli {
namespace {

// Tokens in, complete characters out, stop strings taken away.
class AnswerText {
 public:
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops,
             const std::function<Status(std::string_view)>& emit, std::string* text)
      : tokenizer_(tokenizer), filter_(std::move(stops)), emit_(emit), text_(text) {}

  Status Push(int32_t token) {
    HGA_ASSIGN_OR_RETURN(const std::string bytes, tokenizer_.Decode({&token, 1}, false));
    return Show(filter_.Push(characters_.Push(bytes)));
  }
  Status Finish() {
    HGA_RETURN_IF_ERROR(Show(filter_.Push(characters_.Finish())));
    return Show(filter_.Finish());
  }
  bool stopped() const { return filter_.stopped(); }

 private:
  Status Show(const std::string& shown) {
    if (shown.empty()) return OkStatus();
    *text_ += shown;
    return emit_(shown);
  }

  const Tokenizer& tokenizer_;
  Utf8Stream characters_;
  apps::StopFilter filter_;
  const std::function<Status(std::string_view)>& emit_;
  std::string* text_;
};

Status FeedPrompt(const GlobalOptions& global, Engine& engine, Sequence& sequence,
                  std::span<const int32_t> prompt, std::span<float> logits, Generated* out) {
  Progress progress(global, "prefill", Progress::Unit::kTokens);
  const int64_t before = sequence.length();
  const double start = Now();
  const Status status = engine.Feed(sequence, prompt, LogitsWanted::kLast, logits,
                                    [&progress](int64_t done, int64_t total) {
                                      progress.Update(done, total);
                                      return !Interrupted();
                                    });
  out->prompt_seconds = Now() - start;
  out->prompt_fed = sequence.length() - before;
  out->prompt_stats = sequence.stats();
  return status;
}

// A checkpoint when it is due, all but the newest token being fed. The seconds it took.
double Keep(const GenerateRequest& request, const Generated& out) {
  const size_t fed = out.tokens.size() - 1;
  const auto every = static_cast<size_t>(request.checkpoint_every);
  const bool due = fed == 0 || (every > 0 && fed % every == 0);
  if (!request.checkpoint || !due) return 0;
  const double start = Now();
  request.checkpoint(std::span(out.tokens).first(fed), out.sampler);
  return Now() - start;
}

// Feeds the last token of an answer that ended at its length.
Status Complete(Engine& engine, Sequence& sequence, const Sampler& sampler,
                const GenerateRequest& request, Generated* out) {
  if (!request.checkpoint) return OkStatus();
  const BatchItem item{&sequence, std::span(out->tokens).last(1), LogitsWanted::kNone, {}};
  HGA_RETURN_IF_ERROR(engine.Forward({&item, 1}));
  out->sampler = sampler.state();
  return OkStatus();
}

// Samples and feeds until something ends the answer.
Status Decode(Engine& engine, Sequence& sequence, Sampler& sampler, const GenerateRequest& request,
              std::span<float> logits, AnswerText* text, Generated* out) {
  std::vector<int32_t> context(request.history.begin(), request.history.end());
  context.insert(context.end(), request.prompt.begin(), request.prompt.end());
  double last = Now();
  for (;;) {
    if (request.checkpoint) out->sampler = sampler.state();
    const int32_t token = sampler.Sample(logits, context, out->tokens);
    if (token < 0) return Internal("the model gave no number among its logits");
    const double now = Now();
    if (out->first_token_seconds == 0) {
      out->first_token_seconds = out->prompt_seconds + (now - last);
    } else {
      out->step_seconds.push_back(now - last);
    }
    last = now;
    if (request.stop_tokens.contains(token)) {
      out->finish = FinishReason::kStopToken;
      return OkStatus();
    }
    out->tokens.push_back(token);
    HGA_RETURN_IF_ERROR(text->Push(token));
    if (text->stopped()) {
      out->finish = FinishReason::kStopText;
      return OkStatus();
    }
    if (static_cast<int64_t>(out->tokens.size()) >= request.max_tokens) {
      out->finish = FinishReason::kLength;
      return Complete(engine, sequence, sampler, request, out);
    }
    if (Interrupted()) {
      out->finish = FinishReason::kInterrupted;
      return OkStatus();
    }
    last += Keep(request, *out);
    const BatchItem item{&sequence, {&token, 1}, LogitsWanted::kLast, logits};
    HGA_RETURN_IF_ERROR(engine.Forward({&item, 1}));
  }
}

}  // namespace

const char* FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStopToken:
      return "eos";
    case FinishReason::kStopText:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kInterrupted:
      return "interrupted";
  }
  return "";
}

Result<Generated> Generate(const GlobalOptions& global, Engine& engine, Sequence& sequence,
                           Sampler& sampler, const GenerateRequest& request,
                           const std::function<Status(std::string_view)>& emit) {
  Generated out;
  std::vector<float> logits(static_cast<size_t>(engine.info().vocab));
  sequence.ResetStats();
  out.kv_start = engine.kv_stats();
  out.sampler = sampler.state();
  const Status fed = FeedPrompt(global, engine, sequence, request.prompt, logits, &out);
  out.kv_end = out.kv_fed = engine.kv_stats();
  if (fed.code() == StatusCode::kCancelled && Interrupted()) {
    out.finish = FinishReason::kInterrupted;
    return out;
  }
  HGA_RETURN_IF_ERROR(fed);
  sequence.ResetStats();
  AnswerText text(engine.tokenizer(), request.stops, emit, &out.text);
  HGA_RETURN_IF_ERROR(Decode(engine, sequence, sampler, request, logits, &text, &out));
  HGA_RETURN_IF_ERROR(text.Finish());
  out.decode_stats = sequence.stats();
  out.kv_end = engine.kv_stats();
  return out;
}

}  // namespace hga::cli
