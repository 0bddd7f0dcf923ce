// SPDX-License-Identifier: Apache-2.0
// The K/V history of one sequence, all layers: the cells attention reads, in memory for good or
// brought in from records on disk. Knows records and cells, and nothing of queries.
#ifndef HGA_STORE_HISTORY_H_
#define HGA_STORE_HISTORY_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/device.h"
#include "base/dtype.h"
#include "base/memory.h"
#include "hga/status.h"
#include "store/record.h"
#include "store/tiers.h"

namespace hga {

// Which cells of a layer stay in memory.
struct LayerPolicy {
  bool resident = true;  // all of them; the rest of the fields then says nothing
  int sink_chunks = 0;   // else these windows,
  int local_chunks = 0;
  int sample_cells = 0;  // and a sample of the candidate range of at most so many cells (0: none)
};

// What of a sequence goes to disk.
enum class Durability {
  kNone,  // records of layers that are not resident, into a file without a name
  kAll,   // records of every layer, into the file of a session
};

class KvHistory;

// Cells that one piece of attention needs, pinned from Start until Release. Its vectors are kept
// between uses. Move-only by being neither copied nor moved: a member of whoever fetches.
class CellFetch {
 public:
  CellFetch() = default;
  ~CellFetch() { Release(); }
  CellFetch(const CellFetch&) = delete;
  CellFetch& operator=(const CellFetch&) = delete;

  // Room for `most` cells; allocates.
  void Prepare(int64_t most) { wanted_.reserve(static_cast<size_t>(most)); }
  // Begins a list of cells of `layer`.
  void Begin(KvHistory* history, int layer);
  // Cells that stay in memory anyhow and cells added before are left out.
  void Add(int kv_head, int64_t cell);
  int64_t size() const { return static_cast<int64_t>(wanted_.size()); }
  // Takes the newest cells back until `size` are left; only before Start.
  void Trim(int64_t size);
  // Gives all pins back.
  void Release();

 private:
  friend class KvHistory;
  struct Wanted {
    int64_t cell = 0;
    int32_t kv_head = 0;
    SlotId slot = kNoSlot;
    uint32_t generation = 0;
  };
  KvHistory* history_ = nullptr;
  int layer_ = 0;
  uint32_t epoch_ = 0;  // of history's marks
  bool started_ = false;
  std::vector<Wanted> wanted_;
};

// A token's bits never change after its chunk closed. Not thread-safe.
class KvHistory final : private TransferOwner {
 public:
  // Everything in memory. Room for `capacity` tokens is reserved as address space; a record takes
  // memory when its first token is written.
  static Result<std::unique_ptr<KvHistory>> Make(const HistoryShape& shape, int64_t capacity);
  // The same in the memory of a GPU, which outlives this; all of it is taken at once. Pointers are
  // then the device's, and so is the table that cells() returns.
  static Result<std::unique_ptr<KvHistory>> MakeOnDevice(const HistoryShape& shape,
                                                         int64_t capacity, Device& device);
  // With records on disk. `policies` [layers]; a layer that is not resident needs tiers with slots.
  // `file` is the data file of a session, which keeps it open longer than this lives; -1 makes a
  // temporary one. Windows and samples, for spans of `span` tokens, get slots on top of the
  // tiers'.
  static Result<std::unique_ptr<KvHistory>> MakeStored(const HistoryShape& shape, int64_t capacity,
                                                       std::span<const LayerPolicy> policies,
                                                       KvTiers* tiers, Durability durability,
                                                       int file, int span);
  ~KvHistory() override;
  KvHistory(const KvHistory&) = delete;
  KvHistory& operator=(const KvHistory&) = delete;

  const HistoryShape& shape() const { return shape_; }
  int64_t capacity() const { return capacity_; }
  int64_t length() const { return length_; }  // tokens whose K/V is whole
  KvTiers* tiers() const { return tiers_; }   // null: all in memory
  bool resident(int layer) const { return layers_[static_cast<size_t>(layer)].policy.resident; }
  const LayerPolicy& policy(int layer) const { return layers_[static_cast<size_t>(layer)].policy; }

  // --- writing -------------------------------------------------------------------------------
  // Makes room for tokens [length, new_length). kResourceExhausted when every slot is taken and
  // nothing can be written out, with the reason.
  Status Reserve(int64_t new_length);
  // Where the key and the value of one reserved token go: [head_dim] each.
  Bf16* Key(int layer, int kv_head, int64_t position);
  Bf16* Value(int layer, int kv_head, int64_t position);
  // The K/V of `chunk` is whole in `layer`: checksums are taken and the record is on its way out.
  void Close(int layer, int64_t chunk);
  // The tokens up to `new_length` are whole in every layer; windows move on.
  void Advance(int64_t new_length);
  // Forgets the tokens from `length` on. kDataLoss when a chunk before is lost, or the one that
  // becomes the newest can't be brought back: the history then ends before that one.
  Status Truncate(int64_t length);

  // --- reading -------------------------------------------------------------------------------
  // Cells of a layer by KV head: [kv_heads][cell_stride()]; null where a cell is not in memory.
  const Bf16* const* cells(int layer) const;
  int64_t cell_stride() const { return cells_; }
  // Most cells that a fetch may add now.
  int64_t fetch_room() const { return tiers_ == nullptr ? 0 : tiers_->pool().available(); }
  // Pins the cells of `fetch` and sets out to read those that are missing.
  Status Start(CellFetch* fetch);
  // Waits until they are all there. kDataLoss when a record could not be read or did not match
  // its checksums: it counts as never written, and lost_chunk() names it.
  Status Finish(CellFetch* fetch);
  // Reads cells ahead as far as buffers and slots allow; a wish, nothing is pinned.
  void Prefetch(CellFetch* fetch);
  // Waits until nothing is under way, of any sequence: cells that could not be evicted meanwhile
  // can be then.
  void Settle() { tiers_->Drain(); }
  // The first chunk that lacks a record, or -1. Truncate below it and compute it again.
  int64_t lost_chunk() const { return lost_chunk_; }

  // --- sessions ------------------------------------------------------------------------------
  // Waits until every closed chunk is in its file; the first error otherwise. kDataLoss: one is
  // lost.
  Status Save();
  const RecordTable& records() const { return records_; }
  // Generation of the records that are closed from now on.
  void SetGeneration(uint64_t generation) { generation_ = generation; }
  // K/V of the newest, unfinished chunk, into zeros [layers][RecordBytes]; nothing when there is
  // none.
  void CopyOpenChunk(std::span<std::byte> out) const;
  // Takes up the records of a session: `length` tokens, of which those of the unfinished chunk are
  // in `open_chunk`. Resident layers are read and compared at once. The history must be empty.
  Status Restore(RecordTable records, int64_t length, std::span<const std::byte> open_chunk);

  // Why there are closed chunks without a record; ok when each has one, or may get it.
  const Status& write_error() const { return write_error_; }
  static int64_t BytesPerToken(const HistoryShape& shape);
  // Cells of one KV head that stay in memory at `length` tokens while a span of `span` more is
  // computed.
  static int64_t StandingCells(const LayerPolicy& policy, int64_t length, int span);

 private:
  friend class CellFetch;
  struct Layer {
    LayerPolicy policy;
    Array<Bf16> records;                    // [chunks][RecordElements]; only of resident layers
    DeviceArray<Bf16> device_records;       // the same on a GPU
    DeviceArray<const Bf16*> device_table;  // as table
    Array<const Bf16*> table;               // [kv_heads][cells_]
    std::vector<SlotId> slots;              // [kv_heads][cells_]; of other layers
    std::vector<uint8_t> standing;          // [kv_heads][cells_] pinned for good
    int64_t moved_to = 0;                   // cells from the sink window to here no longer stand
  };
  struct Missing {
    int64_t chunk;
    int position;  // in the record
    SlotId slot;
    uint32_t generation;
  };

  KvHistory(const HistoryShape& shape, int64_t capacity);
  Status MakeLayer(const LayerPolicy& policy);
  void PointAt(Bf16* records, Layer* layer);
  Layer& at(int layer) { return layers_[static_cast<size_t>(layer)]; }
  const Layer& at(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  size_t Index(int kv_head, int64_t cell) const {
    return static_cast<size_t>(kv_head * cells_ + cell);
  }
  bool Stands(const Layer& layer, int64_t cell) const;
  bool Writes(const Layer& layer) const {
    return tiers_ != nullptr && (!layer.policy.resident || durability_ == Durability::kAll);
  }

  // history_records.cc
  Status TakeSlot(Layer* layer, int kv_head, int64_t cell);
  Status OpenChunk(Layer* layer, int64_t chunk);
  void FreeChunks(int64_t first, int64_t end);
  void WriteRecord(int layer, int64_t chunk);
  Status MakeRoomOnDisk(int64_t bytes);
  Status GrowTo(int64_t bytes);
  int64_t KnownChunks() const;
  void WriteUnsaved() override;
  void DrainWrites();
  void Ended(const Transfer& transfer, int error) override;
  void ReadEnded(const Transfer& transfer, int error);
  void ResidentReadEnded(const Transfer& transfer, int error);
  void WriteFailed(Status status);
  void WriteEnded(const Transfer& transfer, int error);
  void Lose(int layer, int64_t chunk);
  Status RestoreResident();
  Status ReopenChunk(int64_t chunk);
  void CutTo(int64_t length);

  // history_fetch.cc
  Status Miss(CellFetch* fetch, CellFetch::Wanted* wanted);
  Status StartReads(int layer, bool wait);
  void StartRun(int layer, size_t first, size_t last, Transfer* transfer);
  Status LostStatus() const;

  HistoryShape shape_;
  int64_t capacity_ = 0;
  int64_t cells_ = 0;  // per KV head
  int64_t length_ = 0;
  int64_t reserved_ = 0;  // tokens that have room
  std::vector<Layer> layers_;

  KvTiers* tiers_ = nullptr;
  Durability durability_ = Durability::kNone;
  int file_ = -1;
  bool own_file_ = false;
  int64_t allocated_ = 0;  // bytes of the file
  int64_t own_slots_ = 0;  // added to the pool
  RecordTable records_;
  uint64_t generation_ = 1;
  uint64_t truncations_ = 0;
  int64_t lost_chunk_ = -1;
  Status write_error_;
  int reads_ = 0, writes_ = 0;  // transfers under way
  uint32_t epoch_ = 0;
  std::vector<uint32_t> marks_;   // [kv_heads][cells_] epoch of the fetch that added the cell
  std::vector<Missing> missing_;  // of the fetch being started
};

}  // namespace hga

#endif  // HGA_STORE_HISTORY_H_
