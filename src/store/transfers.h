// SPDX-License-Identifier: Apache-2.0
// Reads and writes of records through staging buffers: the disk never touches a slot, and a buffer
// stays with its transfer until that has ended.
#ifndef HGA_STORE_TRANSFERS_H_
#define HGA_STORE_TRANSFERS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/memory.h"
#include "store/cell_pool.h"
#include "store/io_queue.h"
#include "store/record.h"

namespace hga {

struct Transfer;

class TransferOwner {
 public:
  virtual ~TransferOwner() = default;
  // A transfer it started has ended; must not wait for others in there.
  // `error` is 0 or an errno; the bytes of a read are in transfer.data, not yet looked at.
  virtual void Ended(const Transfer& transfer, int error) = 0;
  // Starts again to write what could not be written; nothing of the owner is under way.
  virtual void WriteUnsaved() = 0;
};

// Consecutive cells of one record on their way.
struct Transfer {
  // Where a cell that is read goes; gap cells have no slot.
  struct Target {
    SlotId slot = kNoSlot;
    uint32_t slot_generation = 0;
    uint64_t sum = 0;
  };

  int number = 0;  // of its buffer
  TransferOwner* owner = nullptr;
  IoOp op = IoOp::kRead;
  int layer = 0;
  int64_t chunk = 0;
  uint64_t generation = 0;  // of the record that is written
  uint64_t epoch = 0;       // the owner's, when it started
  int first = 0;            // cell of the record, [kv_heads][8]
  int cells = 0;
  std::span<std::byte> data = {};  // [cells][cell bytes]
  std::vector<Target> targets;     // [cells of a record], first `cells` used by reads into slots
};

class Transfers {
 public:
  // Buffers for `single` cells and for `whole` records. The back end must outlive this.
  static Result<std::unique_ptr<Transfers>> Make(IoBackend* io, const HistoryShape& shape,
                                                 int single, int whole);
  ~Transfers();

  IoQueue& queue() { return *queue_; }
  // Memory of the staging buffers.
  static int64_t StagingBytes(const HistoryShape& shape, int single, int whole);
  // Cells that share a sector: transfers begin and end at multiples of it.
  static int CellsPerSector(const HistoryShape& shape);

  // A transfer of `cells` cells with its buffer in `data`; null when all of that kind are under
  // way. Ends with Start or with GiveBack. A request for few cells may take a whole buffer.
  Transfer* Acquire(int cells);
  // The same, waiting for others to end (their owners are told).
  Transfer* AcquireWaiting(int cells);
  void GiveBack(Transfer* transfer);
  // The transfer's first cell lies at `offset` of `file`. With `now` false it goes out with the
  // next one that starts, or with Reap.
  void Start(Transfer* transfer, int file, int64_t offset, bool now = true);

  // Tells owners of ended transfers; waits until there are `least` or none is under way. Returns
  // how many ended.
  int Reap(int least);
  int under_way() const { return under_way_; }

 private:
  Transfers(IoBackend* io, const HistoryShape& shape)
      : shape_(shape), queue_(std::make_unique<IoQueue>(io)) {}
  // What a transfer owns for good.
  struct Slot {
    Transfer transfer;
    std::span<std::byte> buffer;
    uint64_t id = 0;  // of the queue; 0: not started
    bool whole = false;
  };
  std::vector<Slot*>& FreeList(bool whole) { return whole ? free_whole_ : free_single_; }

  HistoryShape shape_;
  Array<std::byte> memory_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_single_, free_whole_;
  std::vector<IoDone> done_;  // [slots]
  std::unique_ptr<IoQueue> queue_;
  int under_way_ = 0;
};

}  // namespace hga

#endif  // HGA_STORE_TRANSFERS_H_
