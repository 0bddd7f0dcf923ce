// SPDX-License-Identifier: Apache-2.0
// Slots in one reservation, with intrusive lists of the free and the evictable ones.
#include "store/cell_pool.h"

#include <fmt/format.h>

#include <limits>

#include "base/check.h"

namespace hga {

Result<CellPool> CellPool::Make(int64_t cell_bytes, int64_t slots) {
  if (slots < 1 || slots > std::numeric_limits<SlotId>::max()) {
    return InvalidArgument(fmt::format("a pool of {} slots; allowed are 1 to {}", slots,
                                       std::numeric_limits<SlotId>::max()));
  }
  CellPool pool;
  pool.cell_bytes_ = cell_bytes;
  HGA_ASSIGN_OR_RETURN(pool.memory_,
                       Array<std::byte>::Make(static_cast<size_t>(cell_bytes * slots)));
  pool.info_.resize(static_cast<size_t>(slots));
  pool.free_ = slots;
  return pool;
}

std::optional<SlotId> CellPool::Take(const SlotHolder& holder) {
  SlotId slot = kNoSlot;
  if (first_free_ != kNoSlot) {
    slot = first_free_;
    first_free_ = at(slot).after;
    --free_;
  } else if (fresh_ < slots()) {
    slot = static_cast<SlotId>(fresh_++);
    --free_;
  } else if (oldest_ != kNoSlot) {
    slot = oldest_;
    Unlist(slot);
    *at(slot).holder.cell = nullptr;
    *at(slot).holder.slot = kNoSlot;
    ++evictions_;
  } else {
    return std::nullopt;
  }
  Info& info = at(slot);
  info.holder = holder;
  info.state = State::kFilling;
  info.pins = 1;
  info.unsaved = false;
  ++info.generation;
  *holder.slot = slot;
  return slot;
}

void CellPool::SetValid(SlotId slot) {
  Info& info = at(slot);
  HGA_CHECK(info.state == State::kFilling);
  info.state = State::kValid;
  *info.holder.cell = data(slot);
  UpdateList(slot);
}

void CellPool::Free(SlotId slot) {
  Info& info = at(slot);
  HGA_CHECK(info.state != State::kFree);
  if (info.listed) Unlist(slot);
  *info.holder.cell = nullptr;
  *info.holder.slot = kNoSlot;
  info.holder = {};
  info.state = State::kFree;
  info.pins = 0;
  info.unsaved = false;
  ++info.generation;
  info.after = first_free_;
  first_free_ = slot;
  ++free_;
}

void CellPool::Pin(SlotId slot) {
  HGA_DCHECK(at(slot).state != State::kFree);
  ++at(slot).pins;
  UpdateList(slot);
}

void CellPool::Unpin(SlotId slot) {
  HGA_CHECK(at(slot).pins > 0);
  --at(slot).pins;
  UpdateList(slot);
}

void CellPool::SetUnsaved(SlotId slot, bool unsaved) {
  at(slot).unsaved = unsaved;
  UpdateList(slot);
}

void CellPool::UpdateList(SlotId slot) {
  const Info& info = at(slot);
  const bool evictable = info.state == State::kValid && info.pins == 0 && !info.unsaved;
  if (evictable && !info.listed) List(slot);
  if (!evictable && info.listed) Unlist(slot);
}

void CellPool::List(SlotId slot) {
  Info& info = at(slot);
  info.listed = true;
  info.before = newest_;
  info.after = kNoSlot;
  (newest_ == kNoSlot ? oldest_ : at(newest_).after) = slot;
  newest_ = slot;
  ++evictable_;
}

void CellPool::Unlist(SlotId slot) {
  Info& info = at(slot);
  info.listed = false;
  (info.before == kNoSlot ? oldest_ : at(info.before).after) = info.after;
  (info.after == kNoSlot ? newest_ : at(info.after).before) = info.before;
  --evictable_;
}

}  // namespace hga
