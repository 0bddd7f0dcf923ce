// SPDX-License-Identifier: Apache-2.0
// A disk or a quota that is used up: a message that says so, right bytes, no memory beyond the
// budget, and everything goes on once there is space again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "store/catalog.h"
#include "store/session_dir.h"
#include "tests/fault/rig_engine.h"

namespace hga::rigs {
namespace {

using ::testing::HasSubstr;

const int64_t kChunkBytes = RecordBytes(kRigShape) * kRigShape.layers;

class DiskFullTest : public testing::Test {
 protected:
  void Open(DiskKind kind) {
    SimOptions options;
    options.log = false;
    auto disk = RigDisk::Open(kind, options);
    if (!disk.ok() && disk.status().code() == StatusCode::kUnsupported) {
      GTEST_SKIP() << "skipped: " << disk.status().message();
    }
    ASSERT_TRUE(disk.ok()) << disk.status().message();
    disk_ = std::move(*disk);
    Start();
  }
  void Start() {
    auto engine = RigEngine::Open(disk_.get(), config_, 1, &report_);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(*engine);
  }
  std::unique_ptr<RigSequence> Session(int number, const std::string& name) {
    auto opened = engine_->OpenSession(number, name);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    return opened.ok() ? std::move(*opened) : nullptr;
  }
  static std::vector<int32_t> Tokens(int64_t n, int32_t age) {
    return std::vector<int32_t>(static_cast<size_t>(n), age);
  }
  // Grows by chunks until there is no room; what was said then.
  Status FeedUntilFull(RigSequence& s) {
    Status status;
    for (int32_t age = 10; status.ok() && age < 100; ++age) {
      status = engine_->Feed(s, Tokens(spec::kChunk, age));
    }
    return status;
  }
  void ExpectRight(RigSequence& s) {
    const Status status = engine_->Verify(s);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(report_.wrong, 0) << report_.first;
  }
  // While all of the memory holds what can't be written, there may be no room to read the rest.
  void ExpectNothingWrong(RigSequence& s) {
    const Status status = engine_->Verify(s);
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kResourceExhausted) << status.message();
    EXPECT_EQ(report_.wrong, 0) << report_.first;
  }
  void ExpectGoesOn(RigSequence& s) {
    Status status = engine_->Feed(s, Tokens(5 * spec::kChunk, 200));
    EXPECT_TRUE(status.ok()) << status.message();
    status = engine_->Checkpoint(s);
    EXPECT_TRUE(status.ok()) << status.message();
    ExpectRight(s);
    EXPECT_EQ(engine_->tiers().stats().write_error, "");
    EXPECT_EQ(report_.recomputed, 0);
  }

  RigConfig config_ = {.capacity = 8192};
  RigReport report_;
  std::unique_ptr<RigDisk> disk_;
  std::unique_ptr<RigEngine> engine_;
};

TEST_F(DiskFullTest, ADiskThatFillsUpAndGetsSpaceAgain) {
  Open(DiskKind::kSimulated);
  disk_->simulated()->set_capacity(20 * kChunkBytes);
  auto s = Session(1, "full");
  ASSERT_TRUE(engine_->Feed(*s, Tokens(300, 1)).ok());
  ASSERT_TRUE(engine_->Checkpoint(*s).ok());
  const auto before = s->tokens;
  Status status = FeedUntilFull(*s);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("No space left on device"));
  EXPECT_GT(s->tokens.size(), before.size() + 12 * spec::kChunk);
  EXPECT_LE(engine_->tiers().pool().touched(), engine_->tiers().pool().slots());
  EXPECT_THAT(engine_->tiers().stats().write_error, HasSubstr("No space left"));
  ExpectNothingWrong(*s);

  status = engine_->Checkpoint(*s);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status.message();
  disk_->simulated()->set_capacity(int64_t{1} << 30);
  ExpectGoesOn(*s);

  // What was acknowledged on the full disk and after it is what comes back.
  const auto tokens = s->tokens;
  s.reset();
  Start();
  s = Session(1, "full");
  EXPECT_EQ(s->tokens, tokens);
  ExpectRight(*s);
}

class QuotaTest : public DiskFullTest, public testing::WithParamInterface<DiskKind> {};

TEST_P(QuotaTest, IsKeptAndEndsWhenASessionGoes) {
  config_.disk_bytes = 40 * kChunkBytes;
  Open(GetParam());
  if (IsSkipped()) return;
  auto first = Session(1, "first");
  ASSERT_TRUE(engine_->Feed(*first, Tokens(20 * spec::kChunk, 1)).ok());
  ASSERT_TRUE(engine_->Checkpoint(*first).ok());
  first.reset();
  auto second = Session(2, "second");
  Status status = FeedUntilFull(*second);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("exceed the quota of"));
  ExpectNothingWrong(*second);
  EXPECT_LE(disk_->UsedBytes(), config_.disk_bytes * 105 / 100);
  EXPECT_GT(disk_->UsedBytes(), config_.disk_bytes * 3 / 4);

  // Somebody else makes room.
  engine_->space().Drain();
  ASSERT_TRUE(Catalog(&engine_->tiers().io(), disk_->root()).Delete("first").ok());
  ExpectGoesOn(*second);
  EXPECT_LE(disk_->UsedBytes(), config_.disk_bytes * 105 / 100);
}

INSTANTIATE_TEST_SUITE_P(Disks, QuotaTest,
                         testing::Values(DiskKind::kSimulated, DiskKind::kThreads,
                                         DiskKind::kUring),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

// The directory goes while a program works with it.
TEST_F(DiskFullTest, ADirectoryThatIsRemoved) {
  Open(DiskKind::kThreads);
  auto s = Session(1, "gone");
  ASSERT_TRUE(engine_->Feed(*s, Tokens(300, 1)).ok());
  ASSERT_TRUE(engine_->Checkpoint(*s).ok());
  std::filesystem::remove_all(disk_->root());
  // Open files stay; what needs names fails and says so.
  const Status fed = engine_->Feed(*s, Tokens(400, 2));
  EXPECT_TRUE(fed.ok()) << fed.message();
  ExpectRight(*s);
  s.reset();
  const Status status = engine_->OpenSession(1, "gone").status();
  EXPECT_TRUE(status.ok() || status.code() == StatusCode::kNotFound ||
              status.code() == StatusCode::kIoError)
      << status.message();
}

}  // namespace
}  // namespace hga::rigs
