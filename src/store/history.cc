// SPDX-License-Identifier: Apache-2.0
// The life of a history: making it, room for tokens, windows that move on, truncation.
#include "store/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/kill_point.h"
#include "spec/layout.h"
#include "spec/visibility.h"

namespace hga {

using spec::kCellsPerChunk;
using spec::kChunk;

KvHistory::KvHistory(const HistoryShape& shape, int64_t capacity)
    : shape_(shape),
      capacity_(capacity),
      cells_(spec::CeilDiv(capacity, kChunk) * kCellsPerChunk),
      records_(shape) {}

Status KvHistory::MakeLayer(const LayerPolicy& policy) {
  const auto entries = static_cast<size_t>(shape_.kv_heads * cells_);
  Layer layer;
  layer.policy = policy;
  HGA_ASSIGN_OR_RETURN(layer.table, Array<const Bf16*>::Make(entries));
  if (!policy.resident) {
    layer.slots.assign(entries, kNoSlot);
    layer.standing.assign(entries, 0);
    layer.moved_to = int64_t{policy.sink_chunks} * kCellsPerChunk;
    layers_.push_back(std::move(layer));
    return OkStatus();
  }
  const int64_t record = spec::RecordElements(shape_.kv_heads, shape_.head_dim);
  HGA_ASSIGN_OR_RETURN(layer.records,
                       Array<Bf16>::Make(static_cast<size_t>(cells_ / kCellsPerChunk * record)));
  PointAt(layer.records.data(), &layer);
  layers_.push_back(std::move(layer));
  return OkStatus();
}

// Fills the table of a layer whose records lie one behind the other.
void KvHistory::PointAt(Bf16* records, Layer* layer) {
  const int64_t record = spec::RecordElements(shape_.kv_heads, shape_.head_dim);
  for (int head = 0; head < shape_.kv_heads; ++head) {
    for (int64_t cell = 0; cell < cells_; ++cell) {
      layer->table[Index(head, cell)] =
          records + cell / kCellsPerChunk * record +
          spec::CellOffset(head, static_cast<int>(cell % kCellsPerChunk), shape_.head_dim);
    }
  }
}

Result<std::unique_ptr<KvHistory>> KvHistory::Make(const HistoryShape& shape, int64_t capacity) {
  std::unique_ptr<KvHistory> h(new KvHistory(shape, capacity));
  for (int layer = 0; layer < shape.layers; ++layer) HGA_RETURN_IF_ERROR(h->MakeLayer({}));
  return h;
}

Result<std::unique_ptr<KvHistory>> KvHistory::MakeOnDevice(const HistoryShape& shape,
                                                           int64_t capacity, Device& device) {
  std::unique_ptr<KvHistory> h(new KvHistory(shape, capacity));
  const int64_t entries = shape.kv_heads * h->cells_;
  const int64_t elements =
      h->cells_ / kCellsPerChunk * spec::RecordElements(shape.kv_heads, shape.head_dim);
  for (int i = 0; i < shape.layers; ++i) {
    Layer layer;
    HGA_ASSIGN_OR_RETURN(layer.table, Array<const Bf16*>::Make(static_cast<size_t>(entries)));
    HGA_ASSIGN_OR_RETURN(layer.device_records, DeviceArray<Bf16>::Make(device, elements));
    HGA_ASSIGN_OR_RETURN(layer.device_table, DeviceArray<const Bf16*>::Make(device, entries));
    h->PointAt(layer.device_records.data(), &layer);
    HGA_RETURN_IF_ERROR(Upload(device, layer.device_table.data(), layer.table.data(),
                               entries * static_cast<int64_t>(sizeof(Bf16*))));
    h->layers_.push_back(std::move(layer));
  }
  return h;
}

Result<std::unique_ptr<KvHistory>> KvHistory::MakeStored(const HistoryShape& shape,
                                                         int64_t capacity,
                                                         std::span<const LayerPolicy> policies,
                                                         KvTiers* tiers, Durability durability,
                                                         int file, int span) {
  HGA_CHECK(static_cast<int>(policies.size()) == shape.layers && tiers != nullptr);
  std::unique_ptr<KvHistory> h(new KvHistory(shape, capacity));
  h->tiers_ = tiers;
  h->durability_ = durability;
  h->file_ = file;
  h->marks_.assign(static_cast<size_t>(shape.kv_heads * h->cells_), 0);
  int64_t standing = 0;
  for (const LayerPolicy& policy : policies) {
    HGA_CHECK(policy.resident || tiers->tiered());
    HGA_RETURN_IF_ERROR(h->MakeLayer(policy));
    standing += shape.kv_heads * StandingCells(policy, capacity, span);
  }
  HGA_RETURN_IF_ERROR(tiers->pool().AddSlots(standing));
  h->own_slots_ = standing;
  const int64_t most_missing = std::min(tiers->pool().slots(), shape.kv_heads * h->cells_);
  h->missing_.reserve(tiers->tiered() ? static_cast<size_t>(most_missing) : 0);
  tiers->Add(h.get());
  if (file < 0) {
    HGA_ASSIGN_OR_RETURN(h->file_,
                         tiers->io().OpenFile(tiers->options().directory, OpenMode::kTemporary));
    h->own_file_ = true;
  } else {
    // Counts as taken since the directory was opened.
    HGA_ASSIGN_OR_RETURN(h->allocated_, tiers->io().FileSize(file));
  }
  return h;
}

KvHistory::~KvHistory() {
  if (tiers_ == nullptr) return;
  while (reads_ + writes_ > 0) tiers_->transfers().Reap(1);
  tiers_->Remove(this);
  for (Layer& layer : layers_) {
    for (SlotId slot : layer.slots) {
      if (slot != kNoSlot) tiers_->pool().Free(slot);
    }
  }
  tiers_->pool().RemoveSlots(own_slots_);
  if (!own_file_ || file_ < 0) return;
  tiers_->GiveDisk(allocated_, false);
  tiers_->io().CloseFile(file_);
}

Status KvHistory::Reserve(int64_t new_length) {
  HGA_CHECK(new_length <= capacity_);
  if (new_length <= reserved_) return OkStatus();
  const int64_t end = spec::CeilDiv(new_length, kChunk);
  if (tiers_ != nullptr) {
    for (int64_t chunk = reserved_ / kChunk; chunk < end; ++chunk) {
      for (Layer& layer : layers_) {
        if (layer.policy.resident) continue;
        if (Status status = OpenChunk(&layer, chunk); !status.ok()) {
          FreeChunks(spec::CeilDiv(reserved_, kChunk), end);
          return status;
        }
      }
    }
    records_.Resize(end);
  }
  reserved_ = new_length;
  return OkStatus();
}

Bf16* KvHistory::Key(int layer, int kv_head, int64_t position) {
  HGA_DCHECK(position >= 0 && position < capacity_);
  // The table is const for readers; the owner of the cells may write.
  Bf16* cell = const_cast<Bf16*>(at(layer).table[Index(kv_head, position / spec::kCell)]);
  return cell + spec::KeyRow(static_cast<int>(position % spec::kCell), shape_.head_dim);
}

Bf16* KvHistory::Value(int layer, int kv_head, int64_t position) {
  return Key(layer, kv_head, position) + int64_t{spec::kCell} * shape_.head_dim;
}

const Bf16* const* KvHistory::cells(int layer) const {
  const Layer& l = at(layer);
  return l.device_table.size() > 0 ? l.device_table.data() : l.table.data();
}

// Whether the next query, at position length_, has the cell in its windows or its sample.
bool KvHistory::Stands(const Layer& layer, int64_t cell) const {
  const LayerPolicy& p = layer.policy;
  const spec::TokenRange range = spec::CandidateRange(length_, p.sink_chunks, p.local_chunks);
  const int64_t first = range.begin / spec::kCell, end = range.end / spec::kCell;
  if (range.empty() || cell < first || cell >= end) return true;
  if (p.sample_cells == 0) return false;
  return (cell - first) % spec::SampleStride(end - first, p.sample_cells) == 0;
}

void KvHistory::Advance(int64_t new_length) {
  const bool same_chunk = spec::ChunkOf(new_length) == spec::ChunkOf(length_);
  length_ = new_length;
  if (tiers_ == nullptr || same_chunk) return;
  for (Layer& layer : layers_) {
    if (layer.policy.resident) continue;
    const spec::TokenRange range =
        spec::CandidateRange(length_, layer.policy.sink_chunks, layer.policy.local_chunks);
    // A sample thins out everywhere; without one only the newest candidates leave the window.
    const int64_t first =
        layer.policy.sample_cells > 0 ? range.begin / spec::kCell : layer.moved_to;
    for (int64_t cell = first; cell < range.end / spec::kCell; ++cell) {
      if (Stands(layer, cell)) continue;
      for (int head = 0; head < shape_.kv_heads; ++head) {
        uint8_t& standing = layer.standing[Index(head, cell)];
        if (standing) tiers_->pool().Unpin(layer.slots[Index(head, cell)]);
        standing = 0;
      }
    }
    layer.moved_to = std::max(layer.moved_to, range.end / spec::kCell);
  }
}

Status KvHistory::Truncate(int64_t length) {
  HGA_CHECK(length <= length_);
  const bool inside = length % kChunk != 0 && length / kChunk < length_ / kChunk;
  if (tiers_ != nullptr) DrainWrites();
  CutTo(length);
  if (tiers_ == nullptr) return OkStatus();
  KillPoint("truncate.cut");
  Status status = lost_chunk_ < 0 ? OkStatus() : LostStatus();
  if (status.ok() && inside) status = ReopenChunk(length / kChunk);
  if (status.ok()) return status;
  // Half of a chunk is of no use.
  if (inside) CutTo(length / kChunk * kChunk);
  return DataLoss(status.message());
}

void KvHistory::CutTo(int64_t length) {
  const int64_t first = spec::CeilDiv(length, kChunk);
  const int64_t old_end = spec::CeilDiv(reserved_, kChunk);
  length_ = reserved_ = length;
  for (Layer& layer : layers_) {
    layer.moved_to = int64_t{layer.policy.sink_chunks} * kCellsPerChunk;
    if (layer.policy.resident && layer.records.size() > 0) {
      layer.records.Release(
          static_cast<size_t>(first * spec::RecordElements(shape_.kv_heads, shape_.head_dim)));
    }
  }
  if (tiers_ == nullptr) return;
  ++truncations_;
  FreeChunks(first, old_end);
  records_.Resize(first);
  if (lost_chunk_ >= first) lost_chunk_ = -1;
}

int64_t KvHistory::BytesPerToken(const HistoryShape& shape) {
  return shape.layers * RecordBytes(shape) / kChunk;
}

int64_t KvHistory::StandingCells(const LayerPolicy& policy, int64_t length, int span) {
  if (policy.resident) return 0;
  const int64_t all = spec::CeilDiv(length, kChunk) * kCellsPerChunk;
  // The own chunk, and the chunks a span may begin and end in.
  const int64_t windows =
      (int64_t{policy.sink_chunks} + policy.local_chunks + 2 + spec::CeilDiv(span, kChunk)) *
      kCellsPerChunk;
  // Just before a sample thins out it has all its cells.
  return std::min(all, windows + policy.sample_cells);
}

}  // namespace hga
