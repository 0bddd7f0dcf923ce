// SPDX-License-Identifier: Apache-2.0
// Sequences whose K/V is on disk: computing again what a disk lost, sessions, checkpoints.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/kill_point.h"
#include "engine/engine_impl.h"
#include "spec/layout.h"

namespace hga {
namespace {

constexpr int kMostRecoveries = 6;  // of one sequence in a row
// From this one on nothing that was read from the disk is relied on: whatever is lost then was
// written just now, and the disk is of no use.
constexpr int kFromStart = 4;
constexpr int64_t kMaxFileBytes = int64_t{256} << 20;  // of config.json and tokenizer.json

}  // namespace

Status EngineImpl::Truncate(SequenceImpl& sequence, int64_t length) {
  sequence.Cut(length);
  const Status status = CutTo(sequence, length);
  return status.code() == StatusCode::kDataLoss ? Recover(sequence) : status;
}

Status EngineImpl::CutTo(SequenceImpl& sequence, int64_t length) {
  HGA_RETURN_IF_ERROR(sequence.history_->Truncate(length));
  return sequence.attention_.Truncate(*ops_, *sequence.history_, length);
}

// Cuts a sequence where its history ends since a record was lost.
Status EngineImpl::CutAtLoss(SequenceImpl& sequence, bool all) {
  const KvHistory& history = *sequence.history_;
  Status status;
  do {
    const int64_t lost = all ? 0 : history.lost_chunk();
    const int64_t keep =
        lost < 0 ? history.length() : std::min(lost * spec::kChunk, history.length());
    sequence.Cut(keep);
    status = CutTo(sequence, keep);
  } while (status.code() == StatusCode::kDataLoss);
  return status;
}

// Feeds what is missing of `tokens`, which the sequence begins with.
Status EngineImpl::Replay(SequenceImpl& sequence, std::span<const int32_t> tokens) {
  replaying_ = true;
  Status status;
  while (status.ok() && sequence.tokens_.size() < tokens.size()) {
    const size_t at = sequence.tokens_.size();
    const size_t room = static_cast<size_t>(span_ - (span_ >= 64 ? at % 64 : 0));
    const BatchItem item{
        &sequence, tokens.subspan(at, std::min(room, tokens.size() - at)), LogitsWanted::kNone, {}};
    SequenceImpl* failed = nullptr;
    status = RunOnce({&item, 1}, {}, &failed);
    if (status.ok()) recomputed_tokens_ += static_cast<int64_t>(item.tokens.size());
  }
  replaying_ = false;
  return status;
}

// Everything from the lost record's chunk on is forgotten and computed again from its tokens: the
// bluntest way, and the one that is the same code as any prefill.
Status EngineImpl::Recover(SequenceImpl& sequence) {
  const std::vector<int32_t> tokens = sequence.tokens_;
  Status status;
  for (int attempt = 0; attempt < kMostRecoveries; ++attempt) {
    HGA_RETURN_IF_ERROR(CutAtLoss(sequence, attempt >= kFromStart));
    status = Replay(sequence, tokens);
    if (status.code() != StatusCode::kDataLoss) break;
  }
  return status;
}

void SequenceImpl::Cut(int64_t length) {
  tokens_.resize(static_cast<size_t>(length));
  if (durable_ != nullptr) durable_->Cut(length);
}

void SequenceImpl::Extend(std::span<const int32_t> tokens) {
  const auto n = static_cast<int64_t>(tokens.size());
  history_->Advance(length() + n);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  if (durable_ != nullptr) durable_->Extend(n, Describe(attention_.config()));
}

Status SequenceImpl::Checkpoint(const SessionNote& note) {
  return engine_->Checkpoint(*this, note);
}

Result<SessionIdentity> EngineImpl::Identity() {
  if (identity_) return *identity_;
  const ModelConfig& c = transformer_.config();
  std::string tokenizer;
  HGA_ASSIGN_OR_RETURN(const std::string config,
                       ReadSmallFile(info_.directory, "config.json", kMaxFileBytes));
  if (tokenizer_ != nullptr) {
    HGA_ASSIGN_OR_RETURN(tokenizer,
                         ReadSmallFile(info_.directory, "tokenizer.json", kMaxFileBytes));
  }
  identity_ = MakeIdentity({c.layers, c.kv_heads, c.head_dim}, config, tokenizer,
                           transformer_.weights().Fingerprint());
  return *identity_;
}

Result<std::unique_ptr<Sequence>> EngineImpl::OpenSession(const std::string& name,
                                                          const AttentionConfig& attention,
                                                          int64_t capacity) {
  HGA_RETURN_IF_ERROR(CheckSequence(attention, capacity));
  if (!ops_->device().host_memory()) {
    return Unsupported(fmt::format("{}: no sessions on a GPU", ops_->device().name()));
  }
  HGA_RETURN_IF_ERROR(PrepareFor(attention, capacity));
  HGA_ASSIGN_OR_RETURN(const SessionIdentity identity, Identity());
  const HeadShape heads = transformer_.head_shape();
  HGA_ASSIGN_OR_RETURN(KvSpace::Session session,
                       space_->OpenSession(name, identity, attention, heads, capacity, span_));
  HGA_ASSIGN_OR_RETURN(
      SequenceAttention rules,
      SequenceAttention::Make(attention, heads, transformer_.config().rope_theta, *session.history,
                              ops_->device(),
                              space_->SummaryBudget(attention, heads, capacity, span_)));
  auto sequence =
      std::make_unique<SequenceImpl>(this, std::move(session.history), std::move(rules));
  sequence->durable_ = std::move(session.durable);
  sequence->note_ = std::move(session.note);
  HGA_RETURN_IF_ERROR(CheckTokens(session.tokens));
  HGA_RETURN_IF_ERROR(Resume(*sequence, session.tokens));
  return std::unique_ptr<Sequence>(std::move(sequence));
}

// Summaries are built from the records; what of the history was lost is computed again.
Status EngineImpl::Resume(SequenceImpl& sequence, std::span<const int32_t> tokens) {
  sequence.tokens_.assign(tokens.begin(), tokens.end());
  Status status;
  for (int attempt = 0; attempt < kMostRecoveries; ++attempt) {
    HGA_RETURN_IF_ERROR(CutAtLoss(sequence, attempt >= kFromStart));
    status = sequence.attention_.Rebuild(*ops_, *sequence.history_, sequence.length());
    if (status.ok()) status = Replay(sequence, tokens);
    if (status.code() != StatusCode::kDataLoss) break;
  }
  return status;
}

Status EngineImpl::Checkpoint(SequenceImpl& sequence, const SessionNote& note) {
  if (sequence.durable_ == nullptr) return InvalidArgument("the sequence belongs to no session");
  const Status status = TakeCheckpoint(sequence, note);
  // A record that was read ahead, and needed by nobody since, was bad.
  if (status.code() != StatusCode::kDataLoss) return status;
  HGA_RETURN_IF_ERROR(Recover(sequence));
  return TakeCheckpoint(sequence, note);
}

Status EngineImpl::TakeCheckpoint(SequenceImpl& sequence, const SessionNote& note) {
  space_->Drain();
  HGA_RETURN_IF_ERROR(
      sequence.durable_->Checkpoint(sequence.tokens_, note, sequence.history_.get()));
  sequence.note_ = note;
  return OkStatus();
}

// Before a record that a checkpoint speaks of is overwritten by other tokens, a checkpoint says
// that it no longer counts.
Status EngineImpl::PublishCut(SequenceImpl& sequence, std::span<const int32_t> next) {
  const bool must = sequence.durable_ != nullptr && !replaying_ &&
                    sequence.durable_->MustPublish(sequence.length(), next);
  if (!must) return OkStatus();
  KillPoint("publish_cut.begun");
  HGA_RETURN_IF_ERROR(TakeCheckpoint(sequence, sequence.note_));
  KillPoint("publish_cut.ended");
  return OkStatus();
}

KvStats EngineImpl::kv_stats() const {
  KvStats stats = space_->stats();
  stats.recomputed_tokens = recomputed_tokens_;
  return stats;
}

}  // namespace hga
