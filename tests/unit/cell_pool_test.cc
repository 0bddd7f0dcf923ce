// SPDX-License-Identifier: Apache-2.0
// Slots of cells: what may be evicted, in which order, and what never is.
#include "store/cell_pool.h"

#include <gtest/gtest.h>

#include <array>

namespace hga {
namespace {

constexpr int64_t kBytes = 4096;

// Holders of cells, as a history is one.
struct Holders {
  std::array<const Bf16*, 8> cells = {};
  std::array<SlotId, 8> slots;
  Holders() { slots.fill(kNoSlot); }
  SlotHolder of(size_t i) { return {&cells[i], &slots[i]}; }
  bool has(size_t i) const { return slots[i] != kNoSlot; }
};

// Takes a slot, fills it and lets it go.
void Fill(CellPool* pool, Holders* holders, size_t i) {
  ASSERT_TRUE(pool->Take(holders->of(i)).has_value());
  pool->SetValid(holders->slots[i]);
  pool->Unpin(holders->slots[i]);
}

TEST(CellPool, TheLeastRecentlyUsedGoesFirst) {
  CellPool pool(kBytes);
  Holders holders;
  ASSERT_TRUE(pool.AddSlots(2).ok());
  Fill(&pool, &holders, 0);
  Fill(&pool, &holders, 1);
  pool.Pin(holders.slots[0]);
  pool.Unpin(holders.slots[0]);
  Fill(&pool, &holders, 2);
  EXPECT_TRUE(holders.has(0));
  EXPECT_FALSE(holders.has(1));
  EXPECT_EQ(holders.cells[1], nullptr);
  EXPECT_EQ(pool.evictions(), 1);
}

TEST(CellPool, EvictAllLeavesWhatIsPinnedFillingOrUnsaved) {
  CellPool pool(kBytes);
  Holders holders;
  ASSERT_TRUE(pool.AddSlots(5).ok());
  for (size_t i = 0; i < 4; ++i) Fill(&pool, &holders, i);
  ASSERT_TRUE(pool.Take(holders.of(4)).has_value());
  pool.Unpin(holders.slots[4]);  // still filling
  pool.Pin(holders.slots[0]);
  pool.SetUnsaved(holders.slots[1], true);
  const uint32_t generation = pool.generation(holders.slots[2]);
  const SlotId gone = holders.slots[2];
  pool.EvictAll();
  EXPECT_TRUE(holders.has(0));
  EXPECT_TRUE(holders.has(1));
  EXPECT_FALSE(holders.has(2));
  EXPECT_FALSE(holders.has(3));
  EXPECT_TRUE(holders.has(4));
  EXPECT_NE(pool.generation(gone), generation);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(pool.evictions(), 2);
  pool.Unpin(holders.slots[0]);
  pool.SetUnsaved(holders.slots[1], false);
  pool.EvictAll();
  EXPECT_FALSE(holders.has(0));
  EXPECT_FALSE(holders.has(1));
  EXPECT_EQ(pool.available(), 4);
}

TEST(CellPool, NothingIsTakenWhenNothingMayGo) {
  CellPool pool(kBytes);
  Holders holders;
  ASSERT_TRUE(pool.AddSlots(1).ok());
  ASSERT_TRUE(pool.Take(holders.of(0)).has_value());
  EXPECT_FALSE(pool.Take(holders.of(1)).has_value());
  pool.Free(holders.slots[0]);
  EXPECT_FALSE(holders.has(0));
  EXPECT_TRUE(pool.Take(holders.of(1)).has_value());
}

}  // namespace
}  // namespace hga
