// SPDX-License-Identifier: Apache-2.0
// Damage to a session's files, end to end on models/hga-mini: the answer is the one of a run that
// was never interrupted, and the counters tell.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>

#include "hga/engine.h"
#include "hga/sampler.h"
#include "spec/layout.h"
#include "store/session_dir.h"
#include "tests/fault/prompt.h"
#include "tests/unit/session_fixture.h"

namespace hga {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPromptTokens = 610, kCapacity = 800;
constexpr int kAnswer = 24, kEarlier = 5;  // tokens; those before the checkpoint
constexpr char kName[] = "story";

class EngineDamageTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory();
    prompt_ = rigs::ProsePrompt(kPromptTokens);
    const auto engine = OpenEngine("", 0);
    auto sequence = engine->NewSequence(rigs::SmallWindows(), kCapacity);
    ASSERT_TRUE(sequence.ok()) << sequence.status().message();
    expected_ = rigs::Answer(*engine, **sequence, prompt_, kAnswer);
    ASSERT_EQ(expected_.size(), prompt_.size() + kAnswer);
    // Two checkpoints, so that there is an older manifest.
    const auto saving = OpenEngine(Good(), kSlots);
    auto saved = saving->OpenSession(kName, rigs::SmallWindows(), kCapacity);
    ASSERT_TRUE(saved.ok()) << saved.status().message();
    rigs::Answer(*saving, **saved, std::span(expected_).first(prompt_.size()), 0);
    ASSERT_TRUE((*saved)->Checkpoint({}).ok());
    rigs::Answer(*saving, **saved, std::span(expected_).first(prompt_.size() + kEarlier), 0);
    ASSERT_TRUE((*saved)->Checkpoint({}).ok());
  }
  static void TearDownTestSuite() { delete scratch_; }

  // `slots` cells in memory beside windows; 0: all.
  static std::unique_ptr<Engine> OpenEngine(const std::string& directory, int64_t slots) {
    EngineOptions options;
    options.threads = 2;
    options.kv.directory = directory;
    options.kv.host_bytes = slots * CellBytes({1, 1, 128});
    options.kv.allow_ram_directory = true;
    auto engine = Engine::Open(std::string(HGA_SOURCE_DIR) + "/models/hga-mini", options);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return std::move(*engine);
  }

  static std::string Good() { return scratch_->path() + "/good"; }
  std::string Damaged() const { return scratch_->path() + "/damaged"; }
  std::string Path(std::string_view file) const { return FileOf(Damaged(), kName, file); }

  // A copy of the session, to be damaged.
  void Copy() {
    fs::remove_all(Damaged());
    fs::copy(Good(), Damaged(), fs::copy_options::recursive);
  }

  KvStats ExpectSameAnswer(int64_t slots) {
    const auto engine = OpenEngine(Damaged(), slots);
    auto resumed = engine->OpenSession(kName, rigs::SmallWindows(), kCapacity);
    EXPECT_TRUE(resumed.ok()) << resumed.status().message();
    if (!resumed.ok()) return {};
    const auto length = (*resumed)->length();
    EXPECT_GE(length, kPromptTokens);
    const auto tokens =
        rigs::Answer(*engine, **resumed, std::span(expected_).first(prompt_.size()), kAnswer);
    EXPECT_EQ(tokens, expected_);
    const Status status = (*resumed)->Checkpoint({});
    EXPECT_TRUE(status.ok()) << status.message();
    return engine->kv_stats();
  }

  static constexpr int64_t kSlots = 200;
  static ScratchDirectory* scratch_;
  static std::vector<int32_t> prompt_, expected_;  // the latter with the answer
  std::unique_ptr<IoBackend> io_ = *OpenIo(IoChoice::kThreads, 16, nullptr);
};
ScratchDirectory* EngineDamageTest::scratch_ = nullptr;
std::vector<int32_t> EngineDamageTest::prompt_, EngineDamageTest::expected_;

TEST_F(EngineDamageTest, WithoutDamageNothingIsComputedAgain) {
  for (const int64_t slots : {int64_t{0}, kSlots, int64_t{64}}) {
    Copy();
    const KvStats stats = ExpectSameAnswer(slots);
    EXPECT_EQ(stats.recomputed_tokens, 0) << slots;
    EXPECT_EQ(stats.damaged, 0) << slots;
  }
}

TEST_F(EngineDamageTest, FlippedBitsOfRecords) {
  const HistoryShape shape = {.layers = 8, .kv_heads = 2, .head_dim = 128};
  int64_t damaged = 0;
  for (const auto& [chunk, layer] : {std::pair{0, 0}, {3, 1}, {5, 7}, {8, 4}}) {
    Copy();
    FlipBit(io_.get(), Path(kRecordsName), RecordOffset(shape, chunk, layer) + 4096 * chunk, layer);
    const KvStats stats = ExpectSameAnswer(kSlots);
    EXPECT_GT(stats.damaged, 0) << chunk << ", " << layer;
    EXPECT_GE(stats.recomputed_tokens, 1) << chunk << ", " << layer;
    damaged += stats.damaged;
  }
  std::printf("%lld damaged cells found\n", static_cast<long long>(damaged));
}

TEST_F(EngineDamageTest, EveryRecordOfASession) {
  Copy();
  const int64_t bytes = SizeOf(io_.get(), Path(kRecordsName));
  for (int64_t at = 0; at < bytes; at += 32 * kIoAlignment) {
    Poke(io_.get(), Path(kRecordsName), at, std::vector<std::byte>(kIoAlignment, std::byte{1}));
  }
  const KvStats stats = ExpectSameAnswer(kSlots);
  EXPECT_GT(stats.damaged, 0);
  EXPECT_GE(stats.recomputed_tokens, kPromptTokens - 1);
}

TEST_F(EngineDamageTest, ACutFileAndAnIndexOfOtherBytes) {
  Copy();
  fs::resize_file(Path(kRecordsName), 96 * kIoAlignment);
  EXPECT_GT(ExpectSameAnswer(kSlots).recomputed_tokens, 0);
  Copy();
  FlipBit(io_.get(), Path(kIndexName), 777, 5);
  EXPECT_GT(ExpectSameAnswer(kSlots).recomputed_tokens, 0);
}

TEST_F(EngineDamageTest, TheNewestManifestAndItsTail) {
  // Generation 2 is in slot 0; its tail begins after the payload.
  Copy();
  FlipBit(io_.get(), Path(kSlotNames[0]), 100, 1);
  ExpectSameAnswer(kSlots);
  Copy();
  FlipBit(io_.get(), Path(kSlotNames[0]), SizeOf(io_.get(), Path(kSlotNames[0])) - 300, 1);
  EXPECT_GT(ExpectSameAnswer(kSlots).recomputed_tokens, 0);
}

// Whoever forges a manifest, checksums and all, gets an error and no access beyond the embedding.
TEST_F(EngineDamageTest, TokensOutsideTheVocabulary) {
  Copy();
  {
    const auto slots = OpenSlots(io_.get(), Joined(Damaged(), SessionDirectoryName(kName)));
    ASSERT_TRUE(slots.ok());
    auto newest = ReadNewest(*slots);
    ASSERT_TRUE(newest.ok()) << newest.status().message();
    newest->manifest.state.tokens.back() = 2'000'000'000;
    newest->manifest.state.tail.clear();
    ++newest->manifest.head.generation;
    const auto bytes = EncodeManifest(newest->manifest.head, newest->manifest.state);
    const size_t slot = SlotOf(newest->manifest.head.generation);
    ASSERT_TRUE((*slots)[slot].Write(0, bytes).ok());
  }
  const auto engine = OpenEngine(Damaged(), kSlots);
  const Status status = engine->OpenSession(kName, rigs::SmallWindows(), kCapacity).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("token id 2000000000"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace hga
