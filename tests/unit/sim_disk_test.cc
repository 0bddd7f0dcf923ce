// SPDX-License-Identifier: Apache-2.0
// The simulated disk must itself be right: what a power cut keeps, what a seed repeats, and that
// its faults happen.
#include "store/rigs/sim_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "tests/unit/io_fixture.h"

namespace hga::rigs {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kUnit = kIoAlignment;
constexpr int64_t kSectors = kUnit / kSectorBytes;

class SimDiskTest : public testing::Test {
 protected:
  SimDiskTest() { Restart({}); }
  void Restart(const SimOptions& options) { disk_ = std::make_unique<SimDisk>(options); }
  int Make(const std::string& path, int64_t units) {
    const Result<int> file = disk_->OpenFile(path, OpenMode::kCreate);
    EXPECT_TRUE(file.ok()) << file.status().message();
    EXPECT_TRUE(disk_->Allocate(*file, units * kUnit).ok());
    return *file;
  }
  // A durable file of zeros.
  int MakeSynced(const std::string& path, int64_t units) {
    const int file = Make(path, units);
    EXPECT_TRUE(disk_->Sync(file).ok());
    EXPECT_TRUE(disk_->SyncDirectory("").ok());
    return file;
  }
  int64_t Run(IoOp op, int file, int64_t unit, std::span<std::byte> data) {
    const IoRequest request{op, file, unit * kUnit, data.data(), static_cast<int64_t>(data.size()),
                            1};
    EXPECT_EQ(disk_->Submit({&request, 1}), 1);
    IoCompletion completion;
    EXPECT_EQ(disk_->Reap({&completion, 1}, 1), 1);
    return completion.result;
  }
  int64_t Write(int file, int64_t unit, int64_t units, uint64_t seed) {
    FillPattern(memory_.part(0, units * kUnit), unit * kUnit, seed);
    return Run(IoOp::kWrite, file, unit, memory_.part(0, units * kUnit));
  }
  static bool Has(const std::vector<std::byte>& bytes, int64_t unit, uint64_t seed) {
    const auto part = std::span(bytes).subspan(static_cast<size_t>(unit * kUnit), kUnit);
    if (seed == 0) return std::ranges::all_of(part, [](std::byte b) { return b == std::byte{0}; });
    return HasPattern(part, unit * kUnit, seed);
  }
  std::unique_ptr<SimDisk> Crash(const CrashChoice& choice) {
    return disk_->CrashImage(disk_->events(), choice);
  }

  IoMemory memory_{64 * kUnit};
  std::unique_ptr<SimDisk> disk_;
};

TEST_F(SimDiskTest, APowerCutKeepsWhatWasSyncedAndDropsTheRest) {
  const int file = MakeSynced("a", 4);
  ASSERT_EQ(Write(file, 0, 2, 1), 2 * kUnit);
  ASSERT_TRUE(disk_->Sync(file).ok());
  ASSERT_EQ(Write(file, 1, 2, 2), 2 * kUnit);
  EXPECT_EQ(disk_->Pending(disk_->events()), 1);
  const auto none = Crash({.keep = CrashKeep::kNone})->Content("a");
  EXPECT_TRUE(Has(none, 0, 1) && Has(none, 1, 1) && Has(none, 2, 0));
  const auto all = Crash({.keep = CrashKeep::kAll})->Content("a");
  EXPECT_TRUE(Has(all, 0, 1) && Has(all, 1, 2) && Has(all, 2, 2) && Has(all, 3, 0));
  EXPECT_EQ(all, disk_->Content("a"));
  ASSERT_TRUE(disk_->Sync(file).ok());
  EXPECT_EQ(disk_->Pending(disk_->events()), 0);
  EXPECT_EQ(Crash({.keep = CrashKeep::kNone})->Content("a"), disk_->Content("a"));
}

TEST_F(SimDiskTest, ASyncCoversOnlyWritesThatHadEnded) {
  Restart({.most_delay = 0});
  const int file = MakeSynced("a", 2);
  FillPattern(memory_.part(0, kUnit), 0, 3);
  const IoRequest request{IoOp::kWrite, file, 0, memory_.data(), kUnit, 1};
  ASSERT_EQ(disk_->Submit({&request, 1}), 1);
  ASSERT_TRUE(disk_->Sync(file).ok());
  // In flight at the cut: it may be there or not, and so after it ended.
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(disk_->Pending(disk_->events()), 1);
    EXPECT_TRUE(Has(Crash({.keep = CrashKeep::kNone})->Content("a"), 0, 0));
    EXPECT_TRUE(Has(Crash({.keep = CrashKeep::kAll})->Content("a"), 0, 3));
    IoCompletion completion;
    disk_->Reap({&completion, 1}, 1);
  }
}

TEST_F(SimDiskTest, EverySubsetOfUnsyncedWritesCanSurvive) {
  const int file = MakeSynced("a", 3);
  for (int64_t unit = 0; unit < 3; ++unit) Write(file, unit, 1, 7);
  ASSERT_EQ(disk_->Pending(disk_->events()), 3);
  const auto survivors = [&](const CrashChoice& choice) {
    const auto bytes = Crash(choice)->Content("a");
    int set = 0;
    for (int unit = 0; unit < 3; ++unit) {
      EXPECT_TRUE(Has(bytes, unit, 7) || Has(bytes, unit, 0));
      set |= Has(bytes, unit, 7) ? 1 << unit : 0;
    }
    return set;
  };
  for (int which = 0; which < 3; ++which) {
    EXPECT_EQ(survivors({.keep = CrashKeep::kOne, .which = which}), 1 << which);
    EXPECT_EQ(survivors({.keep = CrashKeep::kAllBut, .which = which}), 7 & ~(1 << which));
  }
  std::set<int> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const CrashChoice choice{.keep = CrashKeep::kRandom, .seed = seed};
    seen.insert(survivors(choice));
    EXPECT_EQ(survivors(choice), survivors(choice));
  }
  EXPECT_EQ(seen.size(), 8u);
}

TEST_F(SimDiskTest, TheLastKeptWriteIsTornAtTheGranularityAskedFor) {
  const int file = MakeSynced("a", 16);
  Write(file, 0, 8, 1);
  Write(file, 8, 8, 2);
  for (const int64_t tear : {kSectorBytes, kUnit}) {
    std::set<int> counts;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const auto bytes = Crash({.keep = CrashKeep::kAll, .seed = seed, .tear = tear})->Content("a");
      for (int unit = 0; unit < 8; ++unit) EXPECT_TRUE(Has(bytes, unit, 1));
      int arrived = 0;
      for (int64_t at = 8 * kUnit; at < 16 * kUnit; at += tear) {
        const auto piece =
            std::span(bytes).subspan(static_cast<size_t>(at), static_cast<size_t>(tear));
        const bool zero = std::ranges::all_of(piece, [](std::byte b) { return b == std::byte{0}; });
        EXPECT_TRUE(zero || HasPattern(piece, at, 2)) << "at " << at;
        arrived += zero ? 0 : 1;
      }
      EXPECT_LT(arrived, 8 * kUnit / tear);
      counts.insert(arrived);
    }
    EXPECT_GT(counts.size(), 3u) << "tear " << tear;
  }
}

TEST_F(SimDiskTest, NamesAreDurableWithTheirDirectory) {
  ASSERT_TRUE(disk_->MakeDirectory("d").ok());
  disk_->CloseFile(Make("d/a", 1));
  const auto files_after = [&](CrashKeep keep) { return Crash({.keep = keep})->Files(); };
  EXPECT_THAT(files_after(CrashKeep::kNone), IsEmpty());
  EXPECT_THAT(files_after(CrashKeep::kAll), ElementsAre("d/a"));
  ASSERT_TRUE(disk_->SyncDirectory("d").ok());  // but "d" itself is not
  EXPECT_THAT(files_after(CrashKeep::kNone), IsEmpty());
  ASSERT_TRUE(disk_->SyncDirectory("").ok());
  EXPECT_THAT(files_after(CrashKeep::kNone), ElementsAre("d/a"));
  EXPECT_TRUE(Crash({.keep = CrashKeep::kNone})->Content("d/a").empty());  // its size is not

  ASSERT_TRUE(disk_->Rename("d/a", "d/b").ok());
  EXPECT_THAT(files_after(CrashKeep::kNone), ElementsAre("d/a"));
  EXPECT_THAT(files_after(CrashKeep::kAll), ElementsAre("d/b"));
  ASSERT_TRUE(disk_->SyncDirectory("d").ok());
  EXPECT_THAT(files_after(CrashKeep::kNone), ElementsAre("d/b"));
  ASSERT_TRUE(disk_->RemoveFile("d/b").ok());
  EXPECT_THAT(files_after(CrashKeep::kNone), ElementsAre("d/b"));
  EXPECT_THAT(files_after(CrashKeep::kAll), IsEmpty());
}

TEST_F(SimDiskTest, ARenameOverAFileGivesOneOrTheOtherNeverNothing) {
  const int old_file = MakeSynced("manifest", 1);
  Write(old_file, 0, 1, 1);
  ASSERT_TRUE(disk_->Sync(old_file).ok());
  const int new_file = MakeSynced("manifest.new", 1);
  Write(new_file, 0, 1, 2);
  ASSERT_TRUE(disk_->Sync(new_file).ok());
  ASSERT_TRUE(disk_->Rename("manifest.new", "manifest").ok());
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto bytes = Crash({.keep = CrashKeep::kRandom, .seed = seed})->Content("manifest");
    ASSERT_TRUE(Has(bytes, 0, 1) || Has(bytes, 0, 2));
    seen.insert(Has(bytes, 0, 1) ? 1 : 2);
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST_F(SimDiskTest, ImagesOfEarlierMomentsKnowNothingOfLaterOnes) {
  const int file = MakeSynced("a", 1);
  std::vector<size_t> moments;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Write(file, 0, 1, seed);
    ASSERT_TRUE(disk_->Sync(file).ok());
    moments.push_back(disk_->events());
  }
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const CrashKeep keep : {CrashKeep::kNone, CrashKeep::kAll}) {
      const auto image = disk_->CrashImage(moments[seed - 1], {.keep = keep});
      EXPECT_TRUE(Has(image->Content("a"), 0, seed));
    }
  }
  // An image is a disk: it can be written, synced and cut off again.
  const auto image = disk_->CrashImage(moments[1], {});
  disk_ = disk_->CrashImage(moments[1], {});
  const int again = *disk_->OpenFile("a", OpenMode::kReadWrite);
  Write(again, 0, 1, 9);
  EXPECT_TRUE(Has(Crash({.keep = CrashKeep::kNone})->Content("a"), 0, 2));
  ASSERT_TRUE(disk_->Sync(again).ok());
  EXPECT_TRUE(Has(Crash({.keep = CrashKeep::kNone})->Content("a"), 0, 9));
}

TEST_F(SimDiskTest, AfterAFailedSyncTheWritesAreNeverSurelyThere) {
  const int file = MakeSynced("a", 2);
  Write(file, 0, 1, 1);
  disk_->FailSyncs(1);
  EXPECT_EQ(disk_->Sync(file).code(), StatusCode::kIoError);
  Write(file, 1, 1, 2);
  EXPECT_TRUE(disk_->Sync(file).ok());
  EXPECT_TRUE(Has(disk_->Content("a"), 0, 1));
  const auto bytes = Crash({.keep = CrashKeep::kNone})->Content("a");
  EXPECT_TRUE(Has(bytes, 0, 0) && Has(bytes, 1, 2));
}

// Completions of a fixed set of transfers, as text.
std::string OrderOf(uint64_t seed) {
  SimDisk disk({.seed = seed, .depth = 16, .most_delay = 5});
  const int file = *disk.OpenFile("a", OpenMode::kCreate);
  EXPECT_TRUE(disk.Allocate(file, 16 * kUnit).ok());
  IoMemory memory(16 * kUnit);
  std::string order;
  for (uint64_t i = 0; i < 16; ++i) {
    const auto at = static_cast<int64_t>(i) * kUnit;
    const IoRequest request{IoOp::kRead, file, at, memory.data() + at, kUnit, i};
    disk.Submit({&request, 1});
  }
  IoCompletion out[4];
  while (disk.in_flight() > 0) {
    const int count = disk.Reap(out, 1);
    for (int i = 0; i < count; ++i) order += static_cast<char>('a' + out[i].tag);
    order += ' ';
  }
  return order;
}

TEST_F(SimDiskTest, ASeedRepeatsAndAnotherOneDiffers) {
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string order = OrderOf(seed);
    EXPECT_EQ(order, OrderOf(seed));
    EXPECT_EQ(std::ranges::count_if(order, [](char c) { return c != ' '; }), 16);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 20u);
  EXPECT_FALSE(orders.contains("abcd efgh ijkl mnop "));
}

TEST_F(SimDiskTest, ItGetsFullAndHasRoomAgain) {
  Restart({.capacity = 10 * kUnit});
  const int file = Make("a", 8);
  EXPECT_EQ(disk_->Allocate(file, 11 * kUnit).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(*disk_->FileSize(file), 8 * kUnit);
  EXPECT_EQ(Write(file, 8, 4, 1), 2 * kUnit);  // what fits
  EXPECT_EQ(Write(file, 10, 1, 1), -ENOSPC);
  EXPECT_EQ(Write(file, 0, 8, 1), 8 * kUnit);
  disk_->set_capacity(11 * kUnit);
  EXPECT_EQ(Write(file, 10, 1, 1), kUnit);
  disk_->CloseFile(file);
  ASSERT_TRUE(disk_->RemoveFile("a").ok());
  EXPECT_EQ(disk_->used_bytes(), 0);
}

TEST_F(SimDiskTest, ABufferUsedTooEarlyShows) {
  Restart({.most_delay = 3});
  const int file = MakeSynced("a", 1);
  FillPattern(memory_.part(0, kUnit), 0, 1);
  const IoRequest write{IoOp::kWrite, file, 0, memory_.data(), kUnit, 1};
  disk_->Submit({&write, 1});
  FillPattern(memory_.part(0, kUnit), 0, 2);
  IoCompletion completion;
  disk_->Reap({&completion, 1}, 1);
  EXPECT_TRUE(Has(disk_->Content("a"), 0, 2));
  const IoRequest read{IoOp::kRead, file, 0, memory_.data(), kUnit, 1};
  disk_->Submit({&read, 1});
  EXPECT_THAT(memory_.part(0, kUnit), Each(std::byte{0xA5}));
  disk_->Reap({&completion, 1}, 1);
  EXPECT_TRUE(HasPattern(memory_.part(0, kUnit), 0, 2));
}

// Of 1,000 writes and reads with one kind of fault at 10 %: transfers that returned other than all
// bytes, and units that are not what was written.
struct Damage {
  int failed = 0, wrong_reads = 0, wrong_at_rest = 0;
  int64_t made = 0;
};
Damage DamageOf(const SimFaults& faults) {
  SimDisk disk({.seed = 5, .log = false, .faults = faults});
  const int file = *disk.OpenFile("a", OpenMode::kCreate);
  EXPECT_TRUE(disk.Allocate(file, 1000 * kUnit).ok());
  IoMemory memory(kUnit);
  Damage damage;
  for (const IoOp op : {IoOp::kWrite, IoOp::kRead}) {
    for (int64_t unit = 0; unit < 1000; ++unit) {
      if (op == IoOp::kWrite) FillPattern(memory.all(), unit * kUnit, 1);
      const IoRequest request{op, file, unit * kUnit, memory.data(), kUnit, 1};
      EXPECT_EQ(disk.Submit({&request, 1}), 1);
      IoCompletion completion;
      EXPECT_EQ(disk.Reap({&completion, 1}, 1), 1);
      damage.failed += completion.result == kUnit ? 0 : 1;
      if (op == IoOp::kRead) {
        damage.wrong_reads += HasPattern(memory.all(), unit * kUnit, 1) ? 0 : 1;
      }
    }
  }
  const auto bytes = disk.Content("a");
  for (int64_t unit = 0; unit < 1000; ++unit) {
    const auto part = std::span(bytes).subspan(static_cast<size_t>(unit * kUnit), kUnit);
    damage.wrong_at_rest += HasPattern(part, unit * kUnit, 1) ? 0 : 1;
  }
  damage.made = disk.faults_made();
  return damage;
}

TEST_F(SimDiskTest, EachSortOfFaultDoesItsDamageAndOnlyThat) {
  const Damage none = DamageOf({});
  EXPECT_EQ(none.made + none.failed + none.wrong_reads + none.wrong_at_rest, 0);
  // 100 of 1,000 are expected, with a deviation of 9.5: bounds of more than five of these.
  const auto about_100 = testing::AllOf(testing::Gt(50), testing::Lt(150));
  for (const SimFaults& faults : {SimFaults{.lost_write = 0.1}, SimFaults{.flipped_write = 0.1}}) {
    const Damage damage = DamageOf(faults);
    EXPECT_THAT(damage.made, about_100);
    EXPECT_EQ(damage.wrong_at_rest, damage.made);
    EXPECT_EQ(damage.wrong_reads, damage.made);
    EXPECT_EQ(damage.failed, 0);
  }
  for (const SimFaults& faults :
       {SimFaults{.misdirected_read = 0.1}, SimFaults{.flipped_read = 0.1}}) {
    const Damage damage = DamageOf(faults);
    EXPECT_THAT(damage.made, about_100);
    EXPECT_EQ(damage.wrong_at_rest, 0);
    EXPECT_EQ(damage.wrong_reads, damage.made);
    EXPECT_EQ(damage.failed, 0);
  }
  // The place left out stays wrong; the one hit may be mended by a later write.
  const Damage misdirected = DamageOf({.misdirected_write = 0.1});
  EXPECT_THAT(misdirected.made, about_100);
  EXPECT_GE(misdirected.wrong_at_rest, misdirected.made);
  EXPECT_LE(misdirected.wrong_at_rest, 2 * misdirected.made);
  EXPECT_EQ(misdirected.failed, 0);
  const Damage failed_reads = DamageOf({.failed_read = 0.1});
  EXPECT_THAT(failed_reads.failed, about_100);
  EXPECT_EQ(failed_reads.failed, failed_reads.made);
  EXPECT_EQ(failed_reads.wrong_at_rest, 0);
  const Damage failed_writes = DamageOf({.failed_write = 0.1});
  EXPECT_THAT(failed_writes.failed, about_100);
  EXPECT_EQ(failed_writes.failed, failed_writes.made);
  EXPECT_EQ(failed_writes.wrong_at_rest, failed_writes.made);
}

TEST_F(SimDiskTest, BytesCanBeChangedFromOutside) {
  const int file = MakeSynced("a", 4);
  Write(file, 0, 4, 1);
  ASSERT_TRUE(disk_->Sync(file).ok());
  const auto older = disk_->Content("a");
  disk_->FlipBit("a", kUnit + 17, 3);
  auto bytes = disk_->Content("a");
  EXPECT_EQ(bytes[kUnit + 17] ^ older[kUnit + 17], std::byte{8});
  bytes[kUnit + 17] = older[kUnit + 17];
  EXPECT_EQ(bytes, older);
  disk_->SetContent("a", older);
  disk_->SwapRanges("a", 0, 2 * kUnit, kUnit);
  bytes = disk_->Content("a");
  EXPECT_TRUE(HasPattern(std::span(bytes).subspan(2 * kUnit, kUnit), 0, 1));
  EXPECT_TRUE(HasPattern(std::span(bytes).first(kUnit), 2 * kUnit, 1));
  disk_->Truncate("a", kUnit + 100);
  EXPECT_EQ(disk_->Content("a").size(), static_cast<size_t>(kUnit + 100));
  EXPECT_EQ(Crash({.keep = CrashKeep::kNone})->Content("a"), disk_->Content("a"));
  EXPECT_EQ(Run(IoOp::kRead, file, 1, memory_.part(0, kUnit)), 100);
}

}  // namespace
}  // namespace hga::rigs
