// SPDX-License-Identifier: Apache-2.0
// Opening, reusing and saving, with what a person is told about it.
#include "session_keeper.h"

#include <fmt/core.h>

#include <algorithm>

#include "common.h"

namespace hga::cli {
namespace {

// Tokens in common at the beginning.
int64_t Common(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

Result<SessionKeeper> SessionKeeper::Open(Engine* engine, const std::string& name,
                                          const AttentionConfig& attention, int64_t capacity) {
  SessionReport report;
  report.name = name;
  if (name.empty()) {
    HGA_ASSIGN_OR_RETURN(auto sequence, engine->NewSequence(attention, capacity));
    return SessionKeeper(engine, std::move(sequence), std::move(report));
  }
  const KvStats before = engine->kv_stats();
  const double start = Now();
  HGA_ASSIGN_OR_RETURN(auto sequence, engine->OpenSession(name, attention, capacity));
  report.open_seconds = Now() - start;
  report.stored_tokens = sequence->length();
  report.recomputed_tokens = engine->kv_stats().recomputed_tokens - before.recomputed_tokens;
  if (report.recomputed_tokens > 0) {
    Warn(fmt::format(
        "session {}: K/V of {} of its {} tokens was damaged or missing and has been computed again",
        OneLine(name), FormatCount(report.recomputed_tokens), FormatCount(report.stored_tokens)));
  }
  SessionKeeper keeper(engine, std::move(sequence), std::move(report));
  if (keeper.report_.stored_tokens > 0) return keeper;
  Info(fmt::format("session {}: new", OneLine(name)));
  keeper.Save({});  // without a checkpoint it would look like a broken one
  return keeper;
}

Result<int64_t> SessionKeeper::Reuse(std::span<const int32_t> prompt) {
  const int64_t common = Common(sequence_->tokens(), prompt);
  const int64_t kept = std::min(common, static_cast<int64_t>(prompt.size()) - 1);
  report_.reused_tokens = kept;
  report_.dropped_tokens = sequence_->length() - common;
  HGA_RETURN_IF_ERROR(sequence_->Truncate(kept));
  return kept;
}

Status SessionKeeper::CutTo(std::span<const int32_t> tokens) {
  return sequence_->Truncate(Common(sequence_->tokens(), tokens));
}

void SessionKeeper::Save(const SessionNote& note) {
  if (!active()) return;
  const double start = Now();
  const Status status = sequence_->Checkpoint(note);
  report_.checkpoint_seconds += Now() - start;
  report_.error = status.message();
  if (status.ok()) {
    ++report_.checkpoints;
    return;
  }
  ++report_.failed_checkpoints;
  if (warned_) return;
  warned_ = true;
  Warn(fmt::format("session {}: not saved, and the run goes on: {}", OneLine(report_.name),
                   status.message()));
}

void SessionKeeper::CheckDisk() {
  if (warned_ || engine_->kv_stats().error.empty()) return;
  warned_ = true;
  WarnOfDisk(*engine_);
}

}  // namespace hga::cli
