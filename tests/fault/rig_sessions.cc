// SPDX-License-Identifier: Apache-2.0
// Cuts, recoveries, checkpoints and whole comparisons of rig sequences; mirrors
// src/engine/engine_kv.cc.
#include <algorithm>

#include "spec/layout.h"
#include "tests/fault/rig_engine.h"

namespace hga::rigs {
namespace {

using spec::kCellsPerChunk;
using spec::kChunk;

constexpr int kMostRecoveries = 6;
constexpr int kFromStart = 4;
constexpr int64_t kVerifyChunks = 2;  // together

}  // namespace

void RigEngine::Cut(RigSequence& s, int64_t length) {
  s.tokens.resize(static_cast<size_t>(length));
  if (s.durable != nullptr) s.durable->Cut(length);
}

Status RigEngine::Truncate(RigSequence& s, int64_t length) {
  Cut(s, length);
  const Status status = s.history->Truncate(length);
  return status.code() == StatusCode::kDataLoss ? Recover(s) : status;
}

Status RigEngine::CutAtLoss(RigSequence& s, bool all) {
  Status status;
  do {
    const int64_t lost = all ? 0 : s.history->lost_chunk();
    const int64_t keep = lost < 0 ? s.length() : std::min(lost * kChunk, s.length());
    Cut(s, keep);
    status = s.history->Truncate(keep);
  } while (status.code() == StatusCode::kDataLoss);
  return status;
}

Status RigEngine::Replay(RigSequence& s, std::span<const int32_t> tokens) {
  replaying_ = true;
  Status status;
  while (status.ok() && s.tokens.size() < tokens.size()) {
    const size_t at = s.tokens.size();
    const size_t room = static_cast<size_t>(config_.span) - at % kChunk;
    const Item item{&s, tokens.subspan(at, std::min(room, tokens.size() - at))};
    RigSequence* failed = nullptr;
    status = RunOnce({&item, 1}, &failed);
    if (status.ok()) report_->recomputed += static_cast<int64_t>(item.tokens.size());
  }
  replaying_ = false;
  return status;
}

Status RigEngine::Recover(RigSequence& s) {
  const std::vector<int32_t> tokens = s.tokens;
  Status status;
  for (int attempt = 0; attempt < kMostRecoveries; ++attempt) {
    HGA_RETURN_IF_ERROR(CutAtLoss(s, attempt >= kFromStart));
    status = Replay(s, tokens);
    if (status.code() != StatusCode::kDataLoss) break;
  }
  return status;
}

// In place of building summaries everything is read and compared.
Status RigEngine::Resume(RigSequence& s, std::span<const int32_t> tokens) {
  s.tokens.assign(tokens.begin(), tokens.end());
  Status status;
  for (int attempt = 0; attempt < kMostRecoveries; ++attempt) {
    HGA_RETURN_IF_ERROR(CutAtLoss(s, attempt >= kFromStart));
    status = VerifyOnce(s);
    if (status.ok()) status = Replay(s, tokens);
    if (status.code() != StatusCode::kDataLoss) break;
  }
  return status;
}

Status RigEngine::Checkpoint(RigSequence& s) {
  const Status status = TakeCheckpoint(s);
  if (status.code() != StatusCode::kDataLoss) return status;
  HGA_RETURN_IF_ERROR(Recover(s));
  return TakeCheckpoint(s);
}

Status RigEngine::TakeCheckpoint(RigSequence& s) {
  space_->Drain();
  s.begun.push_back(s.tokens);
  if (on_checkpoint) on_checkpoint(s, false);
  HGA_RETURN_IF_ERROR(s.durable->Checkpoint(s.tokens, {}, s.history.get()));
  s.acknowledged = s.tokens;
  s.begun.clear();
  if (on_checkpoint) on_checkpoint(s, true);
  return OkStatus();
}

Status RigEngine::Verify(RigSequence& s) {
  for (int attempt = 0;; ++attempt) {
    const Status status = VerifyOnce(s);
    if (status.code() != StatusCode::kDataLoss || attempt == kMostRecoveries) return status;
    HGA_RETURN_IF_ERROR(Recover(s));
  }
}

Status RigEngine::VerifyOnce(RigSequence& s) {
  for (int layer = 0; layer < kRigShape.layers; ++layer) {
    const Status status = VerifyLayer(s, layer);
    for (CellFetch& fetch : s.fetches) fetch.Release();
    HGA_RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

Status RigEngine::VerifyLayer(RigSequence& s, int layer) {
  const int64_t chunks = spec::CeilDiv(s.length(), kChunk);
  const int64_t at_once =
      std::clamp<int64_t>(s.history->fetch_room() / CellsPerRecord(kRigShape), 1, kVerifyChunks);
  for (int64_t first = 0; first < chunks; first += at_once) {
    Cells cells;
    for (int64_t cell = first * kCellsPerChunk;
         cell < std::min(first + at_once, chunks) * kCellsPerChunk; ++cell) {
      for (int head = 0; head < kRigShape.kv_heads; ++head) cells.emplace_back(head, cell);
    }
    if (!s.history->resident(layer)) {
      CellFetch& fetch = s.fetches[3];
      fetch.Begin(s.history.get(), layer);
      for (const auto& [head, cell] : cells) fetch.Add(head, cell);
      if (fetch.size() > s.history->fetch_room()) s.history->Settle();
      HGA_RETURN_IF_ERROR(s.history->Start(&fetch));
      HGA_RETURN_IF_ERROR(s.history->Finish(&fetch));
    }
    CompareAll({&s, {}}, layer, cells);
  }
  return OkStatus();
}

}  // namespace hga::rigs
