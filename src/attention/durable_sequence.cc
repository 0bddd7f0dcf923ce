// SPDX-License-Identifier: Apache-2.0
// Spans and rules as they come and go, and checkpoints of them with the history.
#include "attention/durable_sequence.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/kill_point.h"
#include "spec/layout.h"

namespace hga {
namespace {

int64_t UnixSeconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// Adds to run-length lists.
void AddSpan(int64_t rows, std::vector<SpanRun>* spans) {
  if (!spans->empty() && spans->back().rows == rows) {
    ++spans->back().count;
  } else {
    spans->push_back({rows, 1});
  }
}

void AddRule(int64_t tokens, const std::string& text, std::vector<RuleRun>* rules) {
  if (!rules->empty() && rules->back().text == text) {
    rules->back().tokens += tokens;
  } else {
    rules->push_back({tokens, text});
  }
}

// Keeps the first `length` tokens of a list of spans; the last of them may become shorter.
void CutSpans(int64_t length, std::vector<SpanRun>* spans) {
  std::vector<SpanRun> kept;
  for (const SpanRun& run : *spans) {
    if (length == 0) break;
    const int64_t whole = std::min(run.count, length / run.rows);
    if (whole > 0) kept.push_back({run.rows, whole});
    length -= whole * run.rows;
    if (whole == run.count) continue;
    if (length > 0) kept.push_back({length, 1});
    length = 0;
  }
  *spans = std::move(kept);
}

void CutRules(int64_t length, std::vector<RuleRun>* rules) {
  std::vector<RuleRun> kept;
  for (const RuleRun& run : *rules) {
    if (length == 0) break;
    kept.push_back({std::min(run.tokens, length), run.text});
    length -= kept.back().tokens;
  }
  *rules = std::move(kept);
}

}  // namespace

SessionIdentity MakeIdentity(const HistoryShape& shape, std::string_view config_json,
                             std::string_view tokenizer_json,
                             const std::array<uint8_t, 16>& weights) {
  SessionIdentity identity;
  identity.shape = shape;
  identity.config = Sha256(config_json);
  identity.tokenizer = Sha256(tokenizer_json);
  std::copy(weights.begin(), weights.end(), identity.weights.begin());
  return identity;
}

DurableSequence::DurableSequence(SessionFiles files, std::vector<SpanRun> spans,
                                 std::vector<RuleRun> rules, std::vector<int32_t> tokens)
    : files_(std::move(files)),
      spans_(std::move(spans)),
      rules_(std::move(rules)),
      saved_(std::move(tokens)),
      changed_from_(static_cast<int64_t>(saved_.size()) / spec::kChunk) {}

bool DurableSequence::MustPublish(int64_t length, std::span<const int32_t> next) const {
  const auto behind = std::span(saved_).subspan(
      static_cast<size_t>(std::min(length, static_cast<int64_t>(saved_.size()))));
  const size_t common = std::min(next.size(), behind.size());
  return !std::equal(behind.begin(), behind.begin() + static_cast<std::ptrdiff_t>(common),
                     next.begin());
}

void DurableSequence::Cut(int64_t length) {
  CutSpans(length, &spans_);
  CutRules(length, &rules_);
  changed_from_ = std::min(changed_from_, length / spec::kChunk);
}

void DurableSequence::Extend(int64_t tokens, const std::string& rule) {
  AddSpan(tokens, &spans_);
  AddRule(tokens, rule, &rules_);
}

Status DurableSequence::Checkpoint(std::span<const int32_t> tokens, const SessionNote& note,
                                   KvHistory* history) {
  HGA_RETURN_IF_ERROR(history->Save());
  KillPoint("checkpoint.records_written");
  const int64_t closed = history->length() / spec::kChunk;
  SessionState state;
  state.tokens.assign(tokens.begin(), tokens.end());
  state.spans = spans_;
  state.rules = rules_;
  state.sampler = note.sampler;
  state.extra = note.text;
  state.saved_at = UnixSeconds();
  if (history->length() % spec::kChunk != 0) {
    state.tail.resize(static_cast<size_t>(history->shape().layers * RecordBytes(history->shape())));
    history->CopyOpenChunk(state.tail);
  }
  const int64_t first = std::min(changed_from_, closed);
  if (first < closed && closed < files_.acknowledged_length() / spec::kChunk) {
    // Records of the same tokens were written again, and the end is nearer: the shorter state comes
    // first, with the index as it is.
    HGA_RETURN_IF_ERROR(files_.Checkpoint(state, history->records(), closed, closed));
  }
  HGA_RETURN_IF_ERROR(files_.Checkpoint(state, history->records(), first, closed));
  history->SetGeneration(files_.next_generation());
  saved_ = std::move(state.tokens);
  changed_from_ = closed;
  return OkStatus();
}

}  // namespace hga
