// SPDX-License-Identifier: Apache-2.0
// Slots in one reservation, with intrusive lists of the free and the evictable ones.
#include "store/cell_pool.h"

#include <fmt/format.h>

#include <limits>

#include "base/check.h"
#include "base/kill_point.h"

namespace hga {

Status CellPool::AddSlots(int64_t slots) {
  constexpr int64_t kMost = std::numeric_limits<SlotId>::max();
  if (slots < 0 || slots > kMost - limit_) {
    return ResourceExhausted(
        fmt::format("{} slots and {} more; allowed are {}", limit_, slots, kMost));
  }
  while (static_cast<int64_t>(segments_.size()) * kSegment < limit_ + slots) {
    Segment segment;
    HGA_ASSIGN_OR_RETURN(segment.cells,
                         Array<std::byte>::Make(static_cast<size_t>(kSegment * cell_bytes_)));
    HGA_ASSIGN_OR_RETURN(segment.info, Array<Info>::Make(kSegment));
    segments_.push_back(std::move(segment));
  }
  limit_ += slots;
  return OkStatus();
}

void CellPool::RemoveSlots(int64_t slots) {
  HGA_CHECK(slots <= limit_);
  limit_ -= slots;
  while (taken_ > limit_ && oldest_ != kNoSlot) {
    ++evictions_;
    Free(oldest_);
  }
  if (taken_ == 0) GiveMemoryBack();
}

// Generations stay, so that no slot is taken for what it was before.
void CellPool::GiveMemoryBack() {
  for (Segment& segment : segments_) segment.cells.Release(0);
  first_free_ = kNoSlot;
  fresh_ = 0;
}

void CellPool::EvictAll() {
  while (oldest_ != kNoSlot) {
    ++evictions_;
    Free(oldest_);
  }
}

std::optional<SlotId> CellPool::Take(const SlotHolder& holder) {
  SlotId slot = kNoSlot;
  if (taken_ < limit_ && first_free_ != kNoSlot) {
    slot = first_free_;
    first_free_ = at(slot).after;
    ++taken_;
  } else if (taken_ < limit_) {
    slot = static_cast<SlotId>(fresh_++);
    ++taken_;
  } else if (oldest_ != kNoSlot) {
    slot = oldest_;
    Unlist(slot);
    Empty(slot);
    ++evictions_;
    KillPoint("pool.evicted");
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
  Empty(slot);
  info.state = State::kFree;
  info.pins = 0;
  info.unsaved = false;
  ++info.generation;
  info.after = first_free_;
  first_free_ = slot;
  --taken_;
}

// The holder loses the slot.
void CellPool::Empty(SlotId slot) {
  SlotHolder& holder = at(slot).holder;
  *holder.cell = nullptr;
  *holder.slot = kNoSlot;
  holder = {};
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
  if (!evictable && info.listed) Unlist(slot);
  if (!evictable || info.listed) return;
  if (taken_ <= limit_) return List(slot);
  ++evictions_;  // left over from a larger budget
  Free(slot);
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
