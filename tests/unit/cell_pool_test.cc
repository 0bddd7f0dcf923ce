// SPDX-License-Identifier: Apache-2.0
// Who gets a slot, who loses one, and what goes back when budgets shrink.
#include "store/cell_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace hga {
namespace {

constexpr int64_t kCellBytes = 4096;

// Holders of slots, as a layer has them.
struct Holders {
  std::array<const Bf16*, 16> cells = {};
  std::array<SlotId, 16> slots = [] {
    std::array<SlotId, 16> none;
    none.fill(kNoSlot);
    return none;
  }();
  SlotHolder of(size_t i) { return {&cells[i], &slots[i]}; }
  bool has(size_t i) const { return slots[i] != kNoSlot; }
};

class CellPoolTest : public testing::Test {
 protected:
  void Add(int64_t slots) { ASSERT_TRUE(pool_.AddSlots(slots).ok()); }
  // Valid, without a pin.
  void Fill(size_t i) {
    const std::optional<SlotId> slot = pool_.Take(holders_.of(i));
    ASSERT_TRUE(slot.has_value());
    pool_.SetValid(*slot);
    pool_.Unpin(*slot);
  }
  CellPool pool_{kCellBytes};
  Holders holders_;
};

TEST_F(CellPoolTest, TheLeastRecentlyUsedGoesFirst) {
  Add(3);
  for (size_t i = 0; i < 3; ++i) Fill(i);
  pool_.Pin(holders_.slots[0]);
  pool_.Unpin(holders_.slots[0]);
  Fill(3);
  EXPECT_TRUE(holders_.has(0));
  EXPECT_FALSE(holders_.has(1));
  EXPECT_EQ(holders_.cells[1], nullptr);
  EXPECT_EQ(pool_.evictions(), 1);
}

TEST_F(CellPoolTest, PinnedFillingAndUnsavedSlotsStay) {
  Add(3);
  Fill(0);
  pool_.Pin(holders_.slots[0]);
  Fill(1);
  pool_.SetUnsaved(holders_.slots[1], true);
  ASSERT_TRUE(pool_.Take(holders_.of(2)).has_value());
  EXPECT_EQ(pool_.available(), 0);
  EXPECT_FALSE(pool_.Take(holders_.of(3)).has_value());
  pool_.SetUnsaved(holders_.slots[1], false);
  EXPECT_TRUE(pool_.Take(holders_.of(3)).has_value());
  EXPECT_FALSE(holders_.has(1));
}

TEST_F(CellPoolTest, EveryTakeHasAnotherGeneration) {
  Add(1);
  Fill(0);
  const uint32_t first = pool_.generation(holders_.slots[0]);
  Fill(1);
  EXPECT_NE(pool_.generation(holders_.slots[1]), first);
  const uint32_t second = pool_.generation(holders_.slots[1]);
  pool_.Free(holders_.slots[1]);
  pool_.RemoveSlots(1);
  Add(1);
  Fill(2);
  EXPECT_NE(pool_.generation(holders_.slots[2]), first);
  EXPECT_NE(pool_.generation(holders_.slots[2]), second);
}

TEST_F(CellPoolTest, WhatIsAboveASmallerBudgetGoesAsItBecomesEvictable) {
  Add(8);
  for (size_t i = 0; i < 8; ++i) Fill(i);
  for (size_t i = 0; i < 6; ++i) pool_.Pin(holders_.slots[i]);
  pool_.RemoveSlots(5);
  EXPECT_EQ(pool_.available(), 0);
  EXPECT_FALSE(holders_.has(6));
  EXPECT_FALSE(holders_.has(7));
  for (size_t i = 0; i < 3; ++i) {
    pool_.Unpin(holders_.slots[i]);
    EXPECT_FALSE(holders_.has(i)) << "six were left of a budget of three";
  }
  for (size_t i = 3; i < 6; ++i) {
    pool_.Unpin(holders_.slots[i]);
    EXPECT_TRUE(holders_.has(i));
  }
  EXPECT_EQ(pool_.available(), 3);
}

TEST_F(CellPoolTest, MemoryGoesBackWithTheLastSlot) {
  Add(16);
  for (size_t i = 0; i < 16; ++i) Fill(i);
  EXPECT_EQ(pool_.touched(), 16);
  pool_.data(holders_.slots[0])[0] = Bf16{7};
  for (size_t i = 0; i < 16; ++i) pool_.Free(holders_.slots[i]);
  pool_.RemoveSlots(8);
  EXPECT_EQ(pool_.touched(), 0);
  Fill(0);
  EXPECT_EQ(pool_.data(holders_.slots[0])[0], Bf16{0}) << "its page is a new one";
  EXPECT_EQ(pool_.touched(), 1);
}

TEST_F(CellPoolTest, ALargeBudgetCostsNothingBeforeItIsUsed) {
  Add(int64_t{1} << 24);  // 64 GiB
  EXPECT_EQ(pool_.available(), int64_t{1} << 24);
  EXPECT_EQ(pool_.touched(), 0);
  EXPECT_EQ(pool_.AddSlots(std::numeric_limits<int64_t>::max()).code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(pool_.AddSlots(-1).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(pool_.slots(), int64_t{1} << 24);
}

}  // namespace
}  // namespace hga
