// SPDX-License-Identifier: Apache-2.0
// Bringing cells into memory: what is missing, runs of neighbours, waiting.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "store/history.h"

namespace hga {
namespace {

// Missing cells of a record so far apart are read together: a longer transfer costs less than
// another one.
constexpr int kGapCells = 2;

}  // namespace

void CellFetch::Begin(KvHistory* history, int layer) {
  Release();
  history_ = history;
  layer_ = layer;
  epoch_ = ++history->epoch_;
  if (epoch_ == 0) {  // wrapped around: old marks could look new
    std::fill(history->marks_.begin(), history->marks_.end(), 0);
    epoch_ = history->epoch_ = 1;
  }
}

void CellFetch::Add(int kv_head, int64_t cell) {
  const size_t i = history_->Index(kv_head, cell);
  if (history_->at(layer_).standing[i] || history_->marks_[i] == epoch_) return;
  history_->marks_[i] = epoch_;
  wanted_.push_back({cell, kv_head, kNoSlot, 0});
}

void CellFetch::Trim(int64_t size) {
  HGA_CHECK(!started_);
  for (int64_t i = size; i < this->size(); ++i) {
    const Wanted& w = wanted_[static_cast<size_t>(i)];
    history_->marks_[history_->Index(w.kv_head, w.cell)] = 0;
  }
  wanted_.resize(static_cast<size_t>(size));
}

void CellFetch::Release() {
  if (history_ != nullptr && started_) {
    CellPool& pool = history_->tiers_->pool();
    for (const Wanted& w : wanted_) {
      // A slot whose bytes proved bad is gone, and the pin with it.
      if (w.slot != kNoSlot && pool.generation(w.slot) == w.generation) pool.Unpin(w.slot);
    }
  }
  wanted_.clear();
  started_ = false;
}

Status KvHistory::LostStatus() const {
  return DataLoss(
      fmt::format("{}: the record of chunk {} is lost", tiers_->options().directory, lost_chunk_));
}

Status KvHistory::Miss(CellFetch* fetch, CellFetch::Wanted* wanted) {
  Layer& layer = at(fetch->layer_);
  const int64_t chunk = wanted->cell / spec::kCellsPerChunk;
  if (records_.generation(chunk, fetch->layer_) == 0) {
    Lose(fetch->layer_, chunk);
    return LostStatus();
  }
  HGA_RETURN_IF_ERROR(TakeSlot(&layer, wanted->kv_head, wanted->cell));
  wanted->slot = layer.slots[Index(wanted->kv_head, wanted->cell)];
  wanted->generation = tiers_->pool().generation(wanted->slot);
  const int position = static_cast<int>(wanted->kv_head * spec::kCellsPerChunk +
                                        wanted->cell % spec::kCellsPerChunk);
  missing_.push_back({chunk, position, wanted->slot, wanted->generation});
  return OkStatus();
}

Status KvHistory::Start(CellFetch* fetch) {
  Layer& layer = at(fetch->layer_);
  CellPool& pool = tiers_->pool();
  TierStats& stats = tiers_->stats();
  fetch->started_ = true;
  stats.wanted += fetch->size();
  missing_.clear();
  // What is here is pinned first, so that making room for the rest can't push it out.
  for (CellFetch::Wanted& w : fetch->wanted_) {
    w.slot = layer.slots[Index(w.kv_head, w.cell)];
    if (w.slot == kNoSlot) continue;
    w.generation = pool.generation(w.slot);
    pool.Pin(w.slot);
    ++(pool.valid(w.slot) ? stats.hits : stats.prefetched);
  }
  Status status;
  for (CellFetch::Wanted& w : fetch->wanted_) {
    if (w.slot == kNoSlot) status = Miss(fetch, &w);
    if (!status.ok()) break;
  }
  const Status reads = StartReads(fetch->layer_, true);
  return status.ok() ? reads : status;
}

void KvHistory::Prefetch(CellFetch* fetch) {
  Layer& layer = at(fetch->layer_);
  missing_.clear();
  for (CellFetch::Wanted& w : fetch->wanted_) {
    const bool here = layer.slots[Index(w.kv_head, w.cell)] != kNoSlot;
    const int64_t chunk = w.cell / spec::kCellsPerChunk;
    // A guess may be older than a cut.
    if (here || chunk >= records_.chunks()) continue;
    if (records_.generation(chunk, fetch->layer_) == 0) continue;
    if (tiers_->pool().available() == 0 || !Miss(fetch, &w).ok()) break;
  }
  // Whoever fetches them later pins them.
  const size_t taken = missing_.size();
  static_cast<void>(StartReads(fetch->layer_, false));
  for (size_t i = 0; i < taken; ++i) {
    const Missing& m = missing_[i];
    if (tiers_->pool().generation(m.slot) == m.generation) tiers_->pool().Unpin(m.slot);
  }
  fetch->wanted_.clear();
}

Status KvHistory::StartReads(int layer, bool wait) {
  std::sort(missing_.begin(), missing_.end(), [](const Missing& a, const Missing& b) {
    return a.chunk != b.chunk ? a.chunk < b.chunk : a.position < b.position;
  });
  Transfers& transfers = tiers_->transfers();
  const int sector = Transfers::CellsPerSector(shape_);
  for (size_t first = 0; first < missing_.size();) {
    size_t last = first;
    while (last + 1 < missing_.size() && missing_[last + 1].chunk == missing_[first].chunk &&
           missing_[last + 1].position - missing_[last].position <= kGapCells + 1) {
      ++last;
    }
    const int begin = missing_[first].position / sector * sector;
    const int end = static_cast<int>(spec::CeilDiv(missing_[last].position + 1, sector) * sector);
    Transfer* transfer =
        wait ? transfers.AcquireWaiting(end - begin) : transfers.Acquire(end - begin);
    if (transfer == nullptr) {
      for (size_t i = first; i < missing_.size(); ++i) tiers_->pool().Free(missing_[i].slot);
      return ResourceExhausted("no buffer is free");
    }
    transfer->layer = layer;
    transfer->first = begin;
    StartRun(layer, first, last, transfer);
    first = last + 1;
  }
  return OkStatus();
}

void KvHistory::StartRun(int layer, size_t first, size_t last, Transfer* transfer) {
  const int64_t chunk = missing_[first].chunk;
  const std::span<const uint64_t> sums = records_.sums(chunk, layer);
  transfer->owner = this;
  transfer->op = IoOp::kRead;
  transfer->chunk = chunk;
  transfer->epoch = truncations_;
  for (size_t i = first; i <= last; ++i) {
    const Missing& m = missing_[i];
    transfer->targets[static_cast<size_t>(m.position - transfer->first)] = {
        m.slot, m.generation, sums[static_cast<size_t>(m.position)]};
  }
  ++reads_;
  tiers_->transfers().Start(
      transfer, file_, RecordOffset(shape_, chunk, layer) + transfer->first * CellBytes(shape_),
      last + 1 == missing_.size());
}

Status KvHistory::Finish(CellFetch* fetch) {
  const auto start = std::chrono::steady_clock::now();
  CellPool& pool = tiers_->pool();
  Layer& layer = at(fetch->layer_);
  bool waited = false, lost = false;
  for (const CellFetch::Wanted& w : fetch->wanted_) {
    const auto on_its_way = [&] {
      return w.slot != kNoSlot && pool.generation(w.slot) == w.generation && !pool.valid(w.slot);
    };
    while (on_its_way()) {
      waited = true;
      HGA_CHECK(tiers_->transfers().Reap(1) > 0);
    }
    const size_t i = Index(w.kv_head, w.cell);
    if (w.slot == kNoSlot || pool.generation(w.slot) != w.generation) {
      lost = true;
    } else if (Stands(layer, w.cell) && !layer.standing[i]) {
      pool.Pin(w.slot);
      layer.standing[i] = 1;
    }
  }
  if (waited) {
    tiers_->stats().stall_seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return lost ? LostStatus() : OkStatus();
}

}  // namespace hga
