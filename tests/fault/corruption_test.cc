// SPDX-License-Identifier: Apache-2.0
// A session's files are damaged behind the store's back: each damage is found, and what is read in
// the end is right all the same. HGA_CORRUPTIONS=N: random bits, and as many
// swaps of records (500).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "spec/layout.h"
#include "store/index_entry.h"
#include "store/session_dir.h"
#include "tests/fault/rig_engine.h"

namespace hga::rigs {
namespace {

constexpr int64_t kSector = 512;
constexpr int64_t kTokens = 9 * spec::kChunk + 21;
constexpr int64_t kOlderTokens = 5 * spec::kChunk;  // of them the two conversations share 2 chunks
constexpr int64_t kShared = 2 * spec::kChunk;

using Files = std::map<std::string, std::vector<std::byte>>;

class CorruptionTest : public testing::Test {
 protected:
  void SetUp() override {
    SimOptions options;
    options.log = false;
    disk_ = std::make_unique<RigDisk>(std::make_unique<SimDisk>(options));
    // Another conversation, an older state of this one, and the newest.
    Save("other", 2, std::vector<int32_t>(kTokens, 7));
    std::vector<int32_t> older(kOlderTokens, 2);
    std::fill_n(older.begin(), kShared, 1);
    Save("damaged", 1, older);
    older_ = Snapshot("damaged");
    tokens_.assign(kTokens, 3);
    std::fill_n(tokens_.begin(), kShared, 1);
    Save("damaged", 1, tokens_);
    good_ = Snapshot("damaged");
    other_ = Snapshot("other");
  }

  // The session ends with these tokens in its newest checkpoint.
  void Save(const std::string& name, int number, const std::vector<int32_t>& tokens) {
    auto engine = RigEngine::Open(disk_.get(), config_, 1, &report_);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    auto s = (*engine)->OpenSession(number, name);
    ASSERT_TRUE(s.ok()) << s.status().message();
    const auto common = std::ranges::mismatch((*s)->tokens, tokens).in1 - (*s)->tokens.begin();
    Status status = (*engine)->Truncate(**s, common);
    if (status.ok()) {
      status = (*engine)->Feed(**s, std::span(tokens).subspan(static_cast<size_t>(common)));
    }
    if (status.ok()) status = (*engine)->Checkpoint(**s);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  std::string Path(std::string_view file) const {
    return Joined(Joined(disk_->root(), SessionDirectoryName("damaged")), file);
  }
  Files Snapshot(const std::string& session) {
    Files files;
    const std::string directory = Joined(disk_->root(), SessionDirectoryName(session));
    for (const std::string_view file : {kRecordsName, kIndexName, kSlotNames[0], kSlotNames[1]}) {
      files[std::string(file)] = disk_->simulated()->Content(Joined(directory, file));
    }
    return files;
  }
  void PutBack(const Files& files, std::string_view name) {
    disk_->simulated()->SetContent(Path(name), files.at(std::string(name)));
  }

  // Opens the damaged session: it says so, and all of it is right.
  void ExpectFound(const std::string& what) {
    RigReport report;
    {
      auto engine = RigEngine::Open(disk_.get(), config_, 1, &report);
      ASSERT_TRUE(engine.ok()) << what << ": " << engine.status().message();
      auto s = (*engine)->OpenSession(1, "damaged");
      ASSERT_TRUE(s.ok()) << what << ": " << s.status().message();
      EXPECT_EQ((*s)->tokens, tokens_) << what;
      const Status status = (*engine)->Verify(**s);
      EXPECT_TRUE(status.ok()) << what << ": " << status.message();
      const TierStats& stats = (*engine)->tiers().stats();
      EXPECT_GT(report.recomputed, 0) << what << " is not found";
      found_by_sum_ += stats.damaged > 0 ? 1 : 0;
      found_by_error_ += stats.failed_reads > 0 ? 1 : 0;
    }
    EXPECT_EQ(report.wrong, 0) << what << ": " << report.first;
    for (const auto& [name, bytes] : good_) PutBack(good_, name);
    ++damages_;
  }

  void FlipAndExpect(std::string_view file, int64_t offset, int bit) {
    disk_->simulated()->FlipBit(Path(file), offset, bit);
    ExpectFound(fmt::format("bit {} at {} of {}", bit, offset, file));
  }

  void Print(const char* what) const {
    std::printf(
        "%s: %lld damages, all found: %lld by checksums, %lld by failing reads, the rest by "
        "the index\n",
        what, static_cast<long long>(damages_), static_cast<long long>(found_by_sum_),
        static_cast<long long>(found_by_error_));
  }
  int64_t RecordsEnd() const { return RecordOffset(kRigShape, kTokens / spec::kChunk, 0); }
  int64_t IndexEnd() const { return kTokens / spec::kChunk * IndexChunkBytes(kRigShape); }
  uint64_t Below(int64_t end) { return random_() % static_cast<uint64_t>(end); }
  int64_t Wanted() const { return FromEnvironment("HGA_CORRUPTIONS", 500); }

  RigConfig config_ = {.capacity = 1024};
  std::unique_ptr<RigDisk> disk_;
  RigReport report_;
  std::vector<int32_t> tokens_;
  Files older_, good_, other_;
  std::mt19937_64 random_{99};
  int64_t damages_ = 0, found_by_sum_ = 0, found_by_error_ = 0;
};

TEST_F(CorruptionTest, ABitInEverySectorOfTheRecords) {
  for (int64_t at = 0; at < RecordsEnd() && !HasFailure(); at += kSector) {
    FlipAndExpect(kRecordsName, at + static_cast<int64_t>(Below(kSector)),
                  static_cast<int>(Below(8)));
  }
  Print("a bit per sector");
}

TEST_F(CorruptionTest, RandomBitsOfRecordsAndIndex) {
  for (int64_t i = 0; i < Wanted() && !HasFailure(); ++i) {
    const bool index = i % 4 == 3;
    FlipAndExpect(index ? kIndexName : kRecordsName,
                  static_cast<int64_t>(Below(index ? IndexEnd() : RecordsEnd())),
                  static_cast<int>(Below(8)));
  }
  Print("random bits");
}

TEST_F(CorruptionTest, RecordsInEachOthersPlace) {
  const int64_t records = kTokens / spec::kChunk * kRigShape.layers;
  for (int64_t i = 0; i < Wanted() && !HasFailure(); ++i) {
    const auto a = static_cast<int64_t>(Below(records));
    const int64_t b = (a + 1 + static_cast<int64_t>(Below(records - 1))) % records;
    disk_->simulated()->SwapRanges(Path(kRecordsName), a * RecordBytes(kRigShape),
                                   b * RecordBytes(kRigShape), RecordBytes(kRigShape));
    ExpectFound(fmt::format("records {} and {} swapped", a, b));
  }
  Print("swaps");
}

TEST_F(CorruptionTest, FilesCutAtEveryPage) {
  for (int64_t at = 0; at < RecordsEnd() && !HasFailure(); at += kIoAlignment) {
    disk_->simulated()->Truncate(Path(kRecordsName), at);
    ExpectFound(fmt::format("records cut at {}", at));
  }
  for (int64_t at = 0; at < IndexEnd() && !HasFailure(); at += kIoAlignment) {
    disk_->simulated()->Truncate(Path(kIndexName), at);
    ExpectFound(fmt::format("index cut at {}", at));
  }
  Print("cuts");
}

TEST_F(CorruptionTest, AnOlderGenerationOrAnotherSessionPutInPlace) {
  for (const Files* files : {&older_, &other_}) {
    const char* whose = files == &older_ ? "of an older generation" : "of another session";
    for (const std::string_view file : {kRecordsName, kIndexName}) {
      PutBack(*files, file);
      ExpectFound(fmt::format("{} {}", file, whose));
    }
    PutBack(*files, kRecordsName);
    PutBack(*files, kIndexName);
    ExpectFound(fmt::format("records and index {}", whose));
  }
  // One record after the other, as a write that was lost would leave it.
  const auto size = static_cast<size_t>(RecordBytes(kRigShape));
  for (int64_t chunk = kShared / spec::kChunk; chunk < kOlderTokens / spec::kChunk; ++chunk) {
    for (int layer = 0; layer < kRigShape.layers; ++layer) {
      std::vector<std::byte> bytes = good_.at(std::string(kRecordsName));
      const auto at = static_cast<ptrdiff_t>(RecordOffset(kRigShape, chunk, layer));
      std::copy_n(older_.at(std::string(kRecordsName)).begin() + at, size, bytes.begin() + at);
      disk_->simulated()->SetContent(Path(kRecordsName), bytes);
      ExpectFound(fmt::format("the older record of chunk {}, layer {}", chunk, layer));
    }
  }
  Print("older and foreign");
}

// Nothing is left that could be believed: everything is computed from the tokens.
TEST_F(CorruptionTest, AllRecordsAtOnce) {
  std::vector<std::byte> bytes = good_.at(std::string(kRecordsName));
  for (int64_t at = 0; at < RecordsEnd(); at += CellBytes(kRigShape)) {
    bytes[static_cast<size_t>(at)] ^= std::byte{1};
  }
  disk_->simulated()->SetContent(Path(kRecordsName), bytes);
  ExpectFound("a bit in every cell");
}

}  // namespace
}  // namespace hga::rigs
