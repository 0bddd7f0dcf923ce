// SPDX-License-Identifier: Apache-2.0
// Records on their way to and from the disk, and what is done about those that do not arrive.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/kill_point.h"
#include "store/history.h"

namespace hga {
namespace {

// A file grows by at least this, so that it lies in few pieces.
constexpr int64_t kGrowth = int64_t{16} << 20;

}  // namespace

Status KvHistory::TakeSlot(Layer* layer, int kv_head, int64_t cell) {
  const size_t i = Index(kv_head, cell);
  HGA_CHECK(layer->slots[i] == kNoSlot);
  const SlotHolder holder{&layer->table[i], &layer->slots[i]};
  CellPool& pool = tiers_->pool();
  bool written = false;
  while (!pool.Take(holder)) {
    // Whatever is under way, of any sequence, ends in a slot that can be evicted or is free.
    if (tiers_->transfers().under_way() > 0) {
      tiers_->transfers().Reap(1);
    } else if (written || !tiers_->WriteUnsaved()) {
      return ResourceExhausted(fmt::format(
          "no room for K/V: all {} slots of {} bytes are in use{}{}", pool.slots(),
          pool.cell_bytes(),
          write_error_.ok() ? "" : " and records cannot be written: ", write_error_.message()));
    } else {
      written = true;
    }
  }
  return OkStatus();
}

// Slots for a chunk that is about to be filled; they stand until the windows have moved past it.
Status KvHistory::OpenChunk(Layer* layer, int64_t chunk) {
  for (int head = 0; head < shape_.kv_heads; ++head) {
    for (int64_t cell = chunk * spec::kCellsPerChunk; cell < (chunk + 1) * spec::kCellsPerChunk;
         ++cell) {
      const size_t i = Index(head, cell);
      if (layer->standing[i]) continue;
      HGA_RETURN_IF_ERROR(TakeSlot(layer, head, cell));
      tiers_->pool().SetValid(layer->slots[i]);
      tiers_->pool().SetUnsaved(layer->slots[i], true);
      layer->standing[i] = 1;
    }
  }
  return OkStatus();
}

void KvHistory::FreeChunks(int64_t first, int64_t end) {
  for (Layer& layer : layers_) {
    for (int head = 0; head < shape_.kv_heads && !layer.policy.resident; ++head) {
      for (int64_t cell = first * spec::kCellsPerChunk; cell < end * spec::kCellsPerChunk; ++cell) {
        const size_t i = Index(head, cell);
        if (layer.slots[i] != kNoSlot) tiers_->pool().Free(layer.slots[i]);
        layer.standing[i] = 0;
      }
    }
  }
}

Status KvHistory::ReopenChunk(int64_t chunk) {
  for (int layer = 0; layer < shape_.layers; ++layer) {
    if (!at(layer).policy.resident) {
      CellFetch fetch;
      fetch.Begin(this, layer);
      for (int head = 0; head < shape_.kv_heads; ++head) {
        for (int c = 0; c < spec::kCellsPerChunk; ++c) {
          fetch.Add(head, chunk * spec::kCellsPerChunk + c);
        }
      }
      HGA_RETURN_IF_ERROR(Start(&fetch));
      // The chunk is the query's own now, so that Finish lets its cells stand.
      HGA_RETURN_IF_ERROR(Finish(&fetch));
    }
    records_.generation(chunk, layer) = 0;
  }
  return OkStatus();
}

void KvHistory::Close(int layer, int64_t chunk) {
  if (!Writes(at(layer))) return;
  const Bf16* const* table = cells(layer);
  const std::span<uint64_t> sums = records_.sums(chunk, layer);
  for (int i = 0; i < CellsPerRecord(shape_); ++i) {
    const int head = i / spec::kCellsPerChunk;
    const int64_t cell = chunk * spec::kCellsPerChunk + i % spec::kCellsPerChunk;
    sums[static_cast<size_t>(i)] = CellSum(std::as_bytes(std::span(
        table[Index(head, cell)], static_cast<size_t>(spec::CellElements(shape_.head_dim)))));
  }
  records_.generation(chunk, layer) = 0;
  WriteRecord(layer, chunk);
}

Status KvHistory::MakeRoomOnDisk(int64_t bytes) {
  if (bytes <= allocated_) return OkStatus();
  const int64_t whole =
      spec::CeilDiv(capacity_, int64_t{spec::kChunk}) * shape_.layers * RecordBytes(shape_);
  const int64_t next = std::max(bytes, std::min(whole, allocated_ + kGrowth));
  const Status status = GrowTo(next);
  // Near the end of the disk or of the quota only what is needed is asked for.
  return status.ok() || next == bytes ? status : GrowTo(bytes);
}

Status KvHistory::GrowTo(int64_t bytes) {
  HGA_RETURN_IF_ERROR(tiers_->TakeDisk(bytes - allocated_, !own_file_));
  if (Status status = tiers_->io().Allocate(file_, bytes); !status.ok()) {
    tiers_->GiveDisk(bytes - allocated_, !own_file_);
    return status;
  }
  allocated_ = bytes;
  return OkStatus();
}

void KvHistory::WriteRecord(int layer, int64_t chunk) {
  Layer& l = at(layer);
  const int cells = CellsPerRecord(shape_);
  const int64_t offset = RecordOffset(shape_, chunk, layer);
  const auto slot_of = [&](int i) {
    return l.slots[Index(i / spec::kCellsPerChunk,
                         chunk * spec::kCellsPerChunk + i % spec::kCellsPerChunk)];
  };
  for (int i = 0; !l.policy.resident && i < cells; ++i) {
    tiers_->pool().SetUnsaved(slot_of(i), true);
  }
  if (Status status = MakeRoomOnDisk(offset + RecordBytes(shape_)); !status.ok()) {
    return WriteFailed(status);
  }
  Transfer* transfer = tiers_->transfers().AcquireWaiting(cells);
  transfer->owner = this;
  transfer->op = IoOp::kWrite;
  transfer->layer = layer;
  transfer->chunk = chunk;
  transfer->generation = generation_;
  transfer->first = 0;
  const auto bytes = static_cast<size_t>(CellBytes(shape_));
  for (int i = 0; i < cells; ++i) {
    const int64_t cell = chunk * spec::kCellsPerChunk + i % spec::kCellsPerChunk;
    std::memcpy(transfer->data.data() + static_cast<size_t>(i) * bytes,
                l.table[Index(i / spec::kCellsPerChunk, cell)], bytes);
  }
  ++writes_;
  tiers_->transfers().Start(transfer, file_, offset);
  KillPoint("record.write_started");
}

// Closed chunks before the first that is lost: the bytes of those without a record are in memory.
int64_t KvHistory::KnownChunks() const {
  const int64_t closed = length_ / spec::kChunk;
  return lost_chunk_ < 0 ? closed : std::min(closed, lost_chunk_);
}

void KvHistory::WriteUnsaved() {
  // What still fails will say so.
  if (!write_error_.ok()) tiers_->stats().write_error.clear();
  write_error_ = OkStatus();
  for (int64_t chunk = 0; chunk < KnownChunks(); ++chunk) {
    for (int layer = 0; layer < shape_.layers; ++layer) {
      if (Writes(at(layer)) && records_.generation(chunk, layer) == 0) WriteRecord(layer, chunk);
    }
  }
}

void KvHistory::DrainWrites() {
  while (writes_ > 0) tiers_->transfers().Reap(1);
}

Status KvHistory::Save() {
  DrainWrites();
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (KnownChunks() < length_ / spec::kChunk) return LostStatus();
    bool whole = true;
    for (int64_t chunk = 0; chunk < KnownChunks(); ++chunk) {
      for (int layer = 0; layer < shape_.layers; ++layer) {
        whole = whole && (!Writes(at(layer)) || records_.generation(chunk, layer) != 0);
      }
    }
    if (whole) return OkStatus();
    if (attempt == 0) {
      static_cast<void>(tiers_->Measure());  // there may be room again
      WriteUnsaved();
    }
    DrainWrites();
  }
  return write_error_.ok() ? Internal("a record was not written") : write_error_;
}

void KvHistory::Ended(const Transfer& transfer, int error) {
  if (transfer.op == IoOp::kWrite) {
    --writes_;
    return WriteEnded(transfer, error);
  }
  --reads_;
  if (at(transfer.layer).policy.resident) return ResidentReadEnded(transfer, error);
  ReadEnded(transfer, error);
}

void KvHistory::WriteFailed(Status status) {
  write_error_ = std::move(status);
  tiers_->stats().write_error = write_error_.message();
}

void KvHistory::WriteEnded(const Transfer& transfer, int error) {
  if (error != 0) {
    ++tiers_->stats().failed_writes;
    return WriteFailed(Status(
        error == ENOSPC || error == EDQUOT ? StatusCode::kResourceExhausted : StatusCode::kIoError,
        fmt::format("{}: writing the record of chunk {}, layer {}: {}", tiers_->options().directory,
                    transfer.chunk, transfer.layer, std::strerror(error))));
    return;
  }
  KillPoint("record.write_ended");
  records_.generation(transfer.chunk, transfer.layer) = transfer.generation;
  Layer& layer = at(transfer.layer);
  if (layer.policy.resident) return;
  for (int i = 0; i < CellsPerRecord(shape_); ++i) {
    const int64_t cell = transfer.chunk * spec::kCellsPerChunk + i % spec::kCellsPerChunk;
    tiers_->pool().SetUnsaved(layer.slots[Index(i / spec::kCellsPerChunk, cell)], false);
  }
}

void KvHistory::ReadEnded(const Transfer& transfer, int error) {
  KillPoint("record.read_ended");
  CellPool& pool = tiers_->pool();
  TierStats& stats = tiers_->stats();
  const auto bytes = static_cast<size_t>(CellBytes(shape_));
  bool lost = error != 0;
  if (error != 0) ++stats.failed_reads;
  for (int i = 0; i < transfer.cells; ++i) {
    const Transfer::Target& target = transfer.targets[static_cast<size_t>(i)];
    if (target.slot == kNoSlot) continue;
    if (pool.generation(target.slot) != target.slot_generation) {
      ++stats.stale;
      continue;
    }
    const std::span<const std::byte> cell =
        transfer.data.subspan(static_cast<size_t>(i) * bytes, bytes);
    if (error == 0 && CellSum(cell) == target.sum) {
      std::memcpy(pool.data(target.slot), cell.data(), bytes);
      pool.SetValid(target.slot);
      ++stats.read;
      continue;
    }
    if (error == 0) ++stats.damaged;
    lost = true;
    pool.Free(target.slot);
  }
  // After a truncation the chunk's record is another one than was read.
  if (lost && transfer.epoch == truncations_) Lose(transfer.layer, transfer.chunk);
}

void KvHistory::Lose(int layer, int64_t chunk) {
  records_.generation(chunk, layer) = 0;
  if (lost_chunk_ < 0 || chunk < lost_chunk_) lost_chunk_ = chunk;
}

void KvHistory::CopyOpenChunk(std::span<std::byte> out) const {
  const int64_t tokens = length_ % spec::kChunk;
  if (tokens == 0) return;
  const auto bytes = static_cast<size_t>(CellBytes(shape_));
  HGA_CHECK(out.size() ==
            static_cast<size_t>(shape_.layers) * static_cast<size_t>(RecordBytes(shape_)));
  std::byte* to = out.data();
  const int64_t first = length_ / spec::kChunk * spec::kCellsPerChunk;
  for (const Layer& layer : layers_) {
    for (int head = 0; head < shape_.kv_heads; ++head) {
      for (int c = 0; c < spec::kCellsPerChunk; ++c, to += bytes) {
        // A slot still has bytes of its last holder, maybe another session, behind the newest row.
        const int64_t rows = std::clamp<int64_t>(tokens - c * spec::kCell, 0, spec::kCell);
        const auto used = bytes / 2 / spec::kCell * static_cast<size_t>(rows);
        const auto* from = reinterpret_cast<const std::byte*>(layer.table[Index(head, first + c)]);
        std::memcpy(to, from, used);
        std::memcpy(to + bytes / 2, from + bytes / 2, used);
      }
    }
  }
}

Status KvHistory::Restore(RecordTable records, int64_t length,
                          std::span<const std::byte> open_chunk) {
  HGA_CHECK(length_ == 0 && reserved_ == 0 && tiers_ != nullptr);
  const int64_t closed = length / spec::kChunk;
  records_ = std::move(records);
  records_.Resize(closed);
  reserved_ = length_ = closed * spec::kChunk;
  for (int64_t chunk = 0; chunk < closed; ++chunk) {
    if (!records_.Complete(chunk)) {
      lost_chunk_ = chunk;
      break;
    }
  }
  HGA_RETURN_IF_ERROR(RestoreResident());
  KillPoint("resume.resident_read");
  if (length == length_) return OkStatus();
  HGA_RETURN_IF_ERROR(Reserve(length));
  const auto bytes = static_cast<size_t>(CellBytes(shape_));
  if (open_chunk.size() !=
      static_cast<size_t>(shape_.layers) * static_cast<size_t>(RecordBytes(shape_))) {
    return DataLoss(fmt::format("the unfinished chunk has {} bytes instead of {}",
                                open_chunk.size(), shape_.layers * RecordBytes(shape_)));
  }
  const std::byte* from = open_chunk.data();
  for (int layer = 0; layer < shape_.layers; ++layer) {
    for (int head = 0; head < shape_.kv_heads; ++head) {
      for (int c = 0; c < spec::kCellsPerChunk; ++c, from += bytes) {
        std::memcpy(Key(layer, head, length_ + c * spec::kCell), from, bytes);
      }
    }
  }
  length_ = length;
  return OkStatus();
}

// Reads the records of resident layers in the order in which they lie.
Status KvHistory::RestoreResident() {
  const int cells = CellsPerRecord(shape_);
  for (int64_t chunk = 0; chunk < length_ / spec::kChunk; ++chunk) {
    for (int layer = 0; layer < shape_.layers; ++layer) {
      if (!at(layer).policy.resident || records_.generation(chunk, layer) == 0) continue;
      Transfer* transfer = tiers_->transfers().AcquireWaiting(cells);
      transfer->owner = this;
      transfer->op = IoOp::kRead;
      transfer->layer = layer;
      transfer->chunk = chunk;
      transfer->epoch = truncations_;
      transfer->first = 0;
      ++reads_;
      tiers_->transfers().Start(transfer, file_, RecordOffset(shape_, chunk, layer));
    }
  }
  while (reads_ > 0) tiers_->transfers().Reap(1);
  return OkStatus();
}

void KvHistory::ResidentReadEnded(const Transfer& transfer, int error) {
  const auto bytes = static_cast<size_t>(CellBytes(shape_));
  const std::span<const uint64_t> sums = records_.sums(transfer.chunk, transfer.layer);
  bool lost = error != 0;
  if (error != 0) ++tiers_->stats().failed_reads;
  for (int i = 0; i < transfer.cells && error == 0; ++i) {
    const auto cell = transfer.data.subspan(static_cast<size_t>(i) * bytes, bytes);
    if (CellSum(cell) != sums[static_cast<size_t>(i)]) {
      ++tiers_->stats().damaged;
      lost = true;
    }
  }
  if (lost) return Lose(transfer.layer, transfer.chunk);
  std::memcpy(at(transfer.layer).records.data() +
                  transfer.chunk * spec::RecordElements(shape_.kv_heads, shape_.head_dim),
              transfer.data.data(), transfer.data.size());
  tiers_->stats().read += transfer.cells;
}

}  // namespace hga
