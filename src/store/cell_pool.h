// SPDX-License-Identifier: Apache-2.0
// A budget of memory as slots for cells: who holds a slot, what may be evicted, and in which order.
#ifndef HGA_STORE_CELL_POOL_H_
#define HGA_STORE_CELL_POOL_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "base/memory.h"
#include "hga/status.h"

namespace hga {

using SlotId = int32_t;
inline constexpr SlotId kNoSlot = -1;

// Where the holder of a slot keeps its two references; eviction empties both.
struct SlotHolder {
  const Bf16** cell = nullptr;  // what attention reads; null unless the slot is valid
  SlotId* slot = nullptr;       // kNoSlot when the holder has none
};

// A slot is free, filling (taken, bytes on their way), or valid; a valid slot that is neither
// pinned nor unsaved is in the list of evictable slots, least recently used first. Taking a slot
// changes its generation, so that bytes on their way to an earlier holder are told apart.
// The number of slots may change; what is above a smaller one goes as it becomes evictable, and
// memory goes back when nobody holds a slot any more.
// Not thread-safe.
class CellPool {
 public:
  explicit CellPool(int64_t cell_bytes) : cell_bytes_(cell_bytes) {}

  // kResourceExhausted when the address space or the number of slots has no room for them.
  Status AddSlots(int64_t slots);
  void RemoveSlots(int64_t slots);

  int64_t slots() const { return limit_; }
  int64_t cell_bytes() const { return cell_bytes_; }
  // Slots that Take could give now.
  int64_t available() const { return std::max<int64_t>(0, limit_ - taken_) + evictable_; }
  // Most slots that were taken since nobody held any: what the pool's memory comes to.
  int64_t touched() const { return fresh_; }
  int64_t evictions() const { return evictions_; }

  // A free slot, else the least recently used evictable one, which its holder loses. The slot is
  // filling and pinned once. Nothing when every slot is pinned, filling or unsaved.
  std::optional<SlotId> Take(const SlotHolder& holder);
  // The bytes are there: the holder's cell points at them from now on.
  void SetValid(SlotId slot);
  // The holder gives the slot up, whatever its state. Pins and the unsaved mark end.
  void Free(SlotId slot);
  // Empties every evictable slot.
  void EvictAll();

  void Pin(SlotId slot);
  void Unpin(SlotId slot);  // becomes the most recently used when the last pin goes
  // The only copy of its bytes is in the slot: it can't be evicted.
  void SetUnsaved(SlotId slot, bool unsaved);

  Bf16* data(SlotId slot) const {  // [cell_bytes]
    return reinterpret_cast<Bf16*>(segments_[static_cast<size_t>(slot / kSegment)].cells.data() +
                                   slot % kSegment * cell_bytes_);
  }
  bool valid(SlotId slot) const { return at(slot).state == State::kValid; }
  uint32_t generation(SlotId slot) const { return at(slot).generation; }
  int pins(SlotId slot) const { return at(slot).pins; }

 private:
  static constexpr int64_t kSegment = 4096;  // slots
  enum class State : uint8_t { kFree, kFilling, kValid };
  struct Info {
    SlotHolder holder;
    SlotId before = kNoSlot, after = kNoSlot;  // in the list of evictable or free slots
    int32_t pins = 0;
    uint32_t generation = 0;
    State state = State::kFree;
    bool unsaved = false;
    bool listed = false;  // evictable
  };
  // Slots reserved together; memory is taken as they are.
  struct Segment {
    Array<std::byte> cells;  // [kSegment][cell_bytes]
    Array<Info> info;        // [kSegment]; zero bits are a slot that was never taken
  };

  Info& at(SlotId slot) const {
    return segments_[static_cast<size_t>(slot / kSegment)]
        .info[static_cast<size_t>(slot % kSegment)];
  }
  void List(SlotId slot);
  void Unlist(SlotId slot);
  void UpdateList(SlotId slot);
  void Empty(SlotId slot);
  void GiveMemoryBack();

  int64_t cell_bytes_ = 0;
  int64_t limit_ = 0;
  std::vector<Segment> segments_;
  SlotId oldest_ = kNoSlot, newest_ = kNoSlot;  // evictable
  SlotId first_free_ = kNoSlot;                 // freed ones, linked by `after`
  int64_t fresh_ = 0;                           // slots from here on were never taken
  int64_t taken_ = 0;
  int64_t evictable_ = 0;
  int64_t evictions_ = 0;
};

}  // namespace hga

#endif  // HGA_STORE_CELL_POOL_H_
