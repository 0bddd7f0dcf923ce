// SPDX-License-Identifier: Apache-2.0
// What a history does when the disk or the slots do not give what it asks for. That bytes are right
// in the first place is for the rigs in tests/fault.
#include "store/history.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "spec/layout.h"
#include "tests/fault/kv_words.h"
#include "tests/fault/rig_disk.h"

namespace hga {
namespace {

using rigs::kRigShape;
using spec::kCell;
using spec::kCellsPerChunk;
using spec::kChunk;

constexpr int64_t kCapacity = 4096;
constexpr int kSpan = 64;
constexpr int kRouted = 1;

class HistoryTest : public testing::Test {
 protected:
  void Open(const rigs::SimOptions& options, int64_t slots, int64_t quota = 0) {
    disk_ = std::make_unique<rigs::RigDisk>(std::make_unique<rigs::SimDisk>(options));
    auto io = disk_->Start();
    ASSERT_TRUE(io.ok() && (*io)->MakeDirectory(disk_->root()).ok());
    TierOptions tiers;
    tiers.slots = slots;
    tiers.directory = disk_->root();
    tiers.disk_bytes = quota;
    tiers.single_buffers = 64;
    tiers.whole_buffers = 32;
    auto made = KvTiers::Make(kRigShape, tiers, std::move(*io));
    ASSERT_TRUE(made.ok()) << made.status().message();
    tiers_ = std::move(*made);
  }

  std::unique_ptr<KvHistory> Make() {
    std::vector<LayerPolicy> policies(kRigShape.layers);
    for (size_t layer = 1; layer < policies.size(); ++layer) policies[layer] = {false, 1, 1, 0};
    auto made = KvHistory::MakeStored(kRigShape, kCapacity, policies, tiers_.get(),
                                      Durability::kNone, -1, kSpan);
    EXPECT_TRUE(made.ok()) << made.status().message();
    return made.ok() ? std::move(*made) : nullptr;
  }

  // Tokens up to `length`, all of one age.
  static Status Grow(KvHistory& history, int64_t length, int32_t age = 1) {
    while (history.length() < length) {
      const int64_t first = history.length();
      const int64_t end = std::min((first / kChunk + 1) * kChunk, length);
      HGA_RETURN_IF_ERROR(history.Reserve(end));
      for (int layer = 0; layer < kRigShape.layers; ++layer) {
        for (int64_t at = first; at < end; ++at) WriteToken(history, layer, at, age);
        if (end % kChunk == 0) history.Close(layer, end / kChunk - 1);
      }
      history.Advance(end);
    }
    return OkStatus();
  }

  static void WriteToken(KvHistory& history, int layer, int64_t at, int32_t age) {
    for (int head = 0; head < kRigShape.kv_heads; ++head) {
      rigs::Word word{1, layer, head, at / kCell, 0, age};
      word.index = static_cast<int>(at % kCell) * rigs::kWordsPerRow;
      rigs::WriteRow(word, history.Key(layer, head, at));
      word.index += kCell * rigs::kWordsPerRow;
      rigs::WriteRow(word, history.Value(layer, head, at));
    }
  }

  // All cells of chunks [first, end) of the routed layer.
  static void List(KvHistory& history, int64_t first, int64_t end, CellFetch* fetch) {
    fetch->Begin(&history, kRouted);
    for (int head = 0; head < kRigShape.kv_heads; ++head) {
      for (int64_t c = first * kCellsPerChunk; c < end * kCellsPerChunk; ++c) fetch->Add(head, c);
    }
  }

  rigs::FaultIo& faults() { return disk_->faults(); }

  std::unique_ptr<rigs::RigDisk> disk_;
  std::unique_ptr<KvTiers> tiers_;
};

TEST_F(HistoryTest, ALossThatNobodyMetStopsASave) {
  Open({.seed = 3}, 40);
  const auto history = Make();
  ASSERT_TRUE(Grow(*history, 24 * kChunk).ok());
  ASSERT_TRUE(history->Save().ok());
  faults().Set({rigs::FaultKind::kEio, 0, true, IoOp::kRead});
  CellFetch fetch;
  List(*history, 3, 4, &fetch);
  history->Prefetch(&fetch);
  tiers_->Drain();
  EXPECT_EQ(history->lost_chunk(), 3);
  const Status status = history->Save();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status.message();
  EXPECT_EQ(history->Truncate(7 * kChunk).code(), StatusCode::kDataLoss);
  faults().Set({});
  EXPECT_TRUE(history->Truncate(3 * kChunk).ok());
  EXPECT_EQ(history->lost_chunk(), -1);
  ASSERT_TRUE(Grow(*history, 9 * kChunk, 2).ok());
  EXPECT_TRUE(history->Save().ok());
}

TEST_F(HistoryTest, WithoutItsNewestChunkAHistoryEndsBeforeIt) {
  Open({.seed = 4}, 40);
  const auto history = Make();
  ASSERT_TRUE(Grow(*history, 24 * kChunk).ok());
  ASSERT_TRUE(history->Save().ok());
  faults().Set({rigs::FaultKind::kEio, 0, true, IoOp::kRead});
  EXPECT_EQ(history->Truncate(4 * kChunk + 17).code(), StatusCode::kDataLoss);
  EXPECT_EQ(history->length(), 4 * kChunk);
  faults().Set({});
  EXPECT_TRUE(history->Truncate(history->length()).ok());
  ASSERT_TRUE(Grow(*history, 4 * kChunk + 17, 2).ok());
}

TEST_F(HistoryTest, AFailedReserveTakesNothing) {
  Open({.seed = 5}, 64);
  const auto history = Make(), other = Make();
  ASSERT_TRUE(Grow(*history, 2 * kChunk).ok());
  ASSERT_TRUE(Grow(*other, 40 * kChunk).ok());
  ASSERT_TRUE(history->Save().ok() && other->Save().ok());
  CellFetch fetch;
  List(*other, 2, 2 + tiers_->pool().available() / kCellsPerChunk / kRigShape.kv_heads, &fetch);
  ASSERT_TRUE(other->Start(&fetch).ok());
  ASSERT_TRUE(other->Finish(&fetch).ok());
  const int64_t available = tiers_->pool().available();
  ASSERT_LT(available, kCellsPerChunk * kRigShape.kv_heads);
  EXPECT_EQ(history->Reserve(12 * kChunk).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(tiers_->pool().available(), available);
  fetch.Release();
  EXPECT_TRUE(history->Reserve(6 * kChunk).ok());
}

// A pin that stayed would take its slot away for good, a little with every step.
TEST_F(HistoryTest, WhatWasFetchedCanGoAgain) {
  Open({.seed = 9}, 96);
  const auto history = Make();
  ASSERT_TRUE(Grow(*history, 30 * kChunk).ok());
  ASSERT_TRUE(history->Save().ok());
  tiers_->Drain();
  const int64_t available = tiers_->pool().available();
  CellFetch fetch;
  for (int64_t chunk = 2; chunk < 28; ++chunk) {
    List(*history, chunk, chunk + 1, &fetch);
    ASSERT_TRUE(history->Start(&fetch).ok());
    ASSERT_TRUE(history->Finish(&fetch).ok());
    EXPECT_LT(tiers_->pool().available(), available);
    fetch.Release();
    EXPECT_EQ(tiers_->pool().available(), available) << "after chunk " << chunk;
  }
}

TEST_F(HistoryTest, WhoeverNeedsASlotWaitsForAnotherSequence) {
  Open({.seed = 6, .most_delay = 40}, 64);
  const auto history = Make(), other = Make();
  ASSERT_TRUE(Grow(*other, 30 * kChunk).ok());
  ASSERT_TRUE(other->Save().ok());
  CellFetch fetch;
  List(*other, 2, 28, &fetch);
  other->Prefetch(&fetch);
  ASSERT_GT(tiers_->transfers().under_way(), 0);
  ASSERT_LT(tiers_->pool().available(), 2 * kCellsPerChunk * kRigShape.kv_heads);
  const Status status = Grow(*history, kChunk);
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(HistoryTest, RecordsOfOthersAreWrittenOnceThereIsSpaceAgain) {
  Open({.seed = 7}, 64);
  const auto history = Make(), other = Make();
  disk_->simulated()->set_capacity(0);
  Status status = Grow(*other, 30 * kChunk);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("cannot be written"), std::string::npos) << status.message();
  EXPECT_EQ(Grow(*history, 6 * kChunk).code(), StatusCode::kResourceExhausted);
  disk_->simulated()->set_capacity(int64_t{1} << 30);
  status = Grow(*history, 20 * kChunk);
  EXPECT_TRUE(status.ok()) << status.message();
  status = Grow(*other, 30 * kChunk);
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(HistoryTest, TheLastRecordsOfADiskAndOfAQuotaAreUsed) {
  const int64_t chunk_bytes = RecordOffset(kRigShape, 1, 0);
  constexpr int64_t kChunks = 20;  // less than a file grows by
  for (const bool quota : {false, true}) {
    const int64_t bytes = kChunks * chunk_bytes;
    rigs::SimOptions options;
    options.capacity = quota ? int64_t{1} << 30 : bytes;
    Open(options, 64, quota ? bytes : 0);
    {
      const auto history = Make();
      Status status = Grow(*history, kChunks * kChunk);
      ASSERT_TRUE(status.ok()) << status.message();
      status = history->Save();
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(tiers_->disk_used(), bytes);
      status = Grow(*history, 2 * kChunks * kChunk);
      EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
    }
    EXPECT_EQ(tiers_->disk_used(), 0);
    EXPECT_EQ(disk_->UsedBytes(), 0);
    EXPECT_EQ(tiers_->pool().available(), 64);
    tiers_.reset();
  }
}

TEST_F(HistoryTest, AnUnfinishedChunkIsSavedWithoutOldBytes) {
  Open({.seed = 8}, 64);
  const auto history = Make();
  ASSERT_TRUE(Grow(*history, 2 * kChunk).ok());
  ASSERT_TRUE(history->Truncate(0).ok());
  ASSERT_TRUE(Grow(*history, 19, 2).ok());
  const auto record = static_cast<size_t>(RecordBytes(kRigShape));
  std::vector<std::byte> tail(static_cast<size_t>(kRigShape.layers) * record);
  history->CopyOpenChunk(tail);
  int64_t words = 0;
  for (size_t i = 0; i < tail.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, tail.data() + i, 8);
    if (word == 0) continue;
    ++words;
    EXPECT_EQ(rigs::Decode(word).age, 2);
  }
  EXPECT_EQ(words, int64_t{19} * 2 * rigs::kWordsPerRow * kRigShape.layers * kRigShape.kv_heads);
}

TEST_F(HistoryTest, AnUnfinishedChunkNeedsItsResidentLayersToo) {
  Open({.seed = 9}, 64);
  auto file = tiers_->io().OpenFile(disk_->root() + "/records", OpenMode::kCreate);
  ASSERT_TRUE(file.ok());
  const std::vector<LayerPolicy> policies(kRigShape.layers);
  const auto make = [&] {
    return KvHistory::MakeStored(kRigShape, kCapacity, policies, tiers_.get(), Durability::kAll,
                                 *file, kSpan);
  };
  RecordTable records(kRigShape);
  {
    const auto written = make();
    ASSERT_TRUE(written.ok() && Grow(**written, 5 * kChunk).ok() && (*written)->Save().ok());
    records = (*written)->records();
  }
  disk_->simulated()->FlipBit(disk_->root() + "/records", RecordOffset(kRigShape, 3, 1) + 5, 3);
  {
    const auto restored = make();
    ASSERT_TRUE(restored.ok() && (*restored)->Restore(records, 5 * kChunk, {}).ok());
    EXPECT_EQ((*restored)->lost_chunk(), 3);
    EXPECT_EQ((*restored)->Truncate(3 * kChunk + 9).code(), StatusCode::kDataLoss);
    EXPECT_EQ((*restored)->length(), 3 * kChunk);
    EXPECT_EQ(tiers_->stats().damaged, 1);
  }
  tiers_->io().CloseFile(*file);
}

}  // namespace
}  // namespace hga
