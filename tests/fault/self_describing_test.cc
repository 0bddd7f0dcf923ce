// SPDX-License-Identifier: Apache-2.0
// Sequences that share a few slots and buffers are fed, cut, saved, closed and resumed in random
// order; every cell that is read is compared with what the test knows.
// HGA_RIG_SEED=S runs one seed, HGA_RIG_RUNS=N so many of them on each disk.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "spec/layout.h"
#include "store/catalog.h"
#include "tests/fault/rig_engine.h"

namespace hga::rigs {
namespace {

constexpr int kSequences = 4;  // the first two are sessions
constexpr int64_t kMostTokens = 1400;
constexpr const char* kSessions[] = {"first", "second"};

class RandomRun {
 public:
  RandomRun(RigDisk* disk, uint64_t seed, bool faulty)
      : disk_(disk), random_(seed), faulty_(faulty) {
    config_.slots = 32 + static_cast<int64_t>(Below(200));
    config_.single_buffers = 1 + static_cast<int>(Below(8));
    config_.whole_buffers = 1 + static_cast<int>(Below(3));
    config_.span = 64 + static_cast<int>(Below(4)) * 64;
  }

  void Play(int operations) {
    if (!Expect(Restart(), "opening")) return;
    for (int i = 0; i < operations && !testing::Test::HasFailure(); ++i) {
      operation_ = i;
      Step();
    }
    if (!testing::Test::HasFailure()) End();
  }
  const RigReport& report() const { return report_; }
  int64_t given_up() const { return given_up_; }

 private:
  uint64_t Below(uint64_t end) { return random_() % end; }

  // Faults of the disk may end an operation; a disk that works must not.
  bool Expect(const Status& status, const char* doing) {
    EXPECT_EQ(report_.wrong, 0) << report_.first << "; operation " << operation_ << ", " << doing;
    if (status.ok()) return true;
    EXPECT_TRUE(faulty_) << "operation " << operation_ << ", " << doing << ": " << status.message();
    ++given_up_;
    return false;
  }
  static bool IsSession(size_t i) { return i < std::size(kSessions); }

  std::vector<int32_t> Fresh(int64_t n) {
    return std::vector<int32_t>(static_cast<size_t>(n), next_age_++);
  }

  Status Restart() {
    for (auto& sequence : sequences_) sequence.reset();
    engine_.reset();
    HGA_ASSIGN_OR_RETURN(engine_, RigEngine::Open(disk_, config_, random_(), &report_));
    return OkStatus();
  }

  // The sequence, open; nothing if the disk refuses that.
  RigSequence* Get(size_t i) {
    if (sequences_[i] != nullptr) return sequences_[i].get();
    const int number = static_cast<int>(i) + 1;
    auto opened =
        IsSession(i) ? engine_->OpenSession(number, kSessions[i]) : engine_->NewSequence(number);
    if (!opened.ok()) {
      // A manifest that a wrong disk swallowed: whoever uses it starts anew.
      if (IsSession(i) && faulty_) static_cast<void>(Delete(i));
      Expect(opened.status(), "opening a sequence");
      return nullptr;
    }
    sequences_[i] = std::move(*opened);
    if (IsSession(i)) CheckResumed(i);
    return sequences_[i].get();
  }

  // Exactly what was acknowledged comes back, or what was about to be.
  void CheckResumed(size_t i) {
    RigSequence& s = *sequences_[i];
    std::vector<std::vector<int32_t>>& known = known_[i];
    EXPECT_TRUE(s.tokens.empty() || std::ranges::find(known, s.tokens) != known.end())
        << "operation " << operation_ << ": " << s.tokens.size() << " tokens came back";
    if (faulty_) return;
    EXPECT_EQ(s.tokens, known.empty() ? std::vector<int32_t>() : known.back())
        << "operation " << operation_;
  }

  void Close(size_t i) { sequences_[i].reset(); }

  Status Delete(size_t i) {
    Close(i);
    engine_->space().Drain();
    known_[i].clear();
    return Catalog(&engine_->tiers().io(), disk_->root()).Delete(kSessions[i]);
  }

  // Whoever failed is closed; what it had is gone or comes back from its session.
  void Do(size_t i, const Status& status, const char* what) {
    if (!Expect(status, what)) Close(i);
  }

  void Feed(size_t i) {
    RigSequence* s = Get(i);
    if (s == nullptr) return;
    const int64_t n = 1 + static_cast<int64_t>(Below(Below(2) == 0 ? 3 : 300));
    if (s->length() + n > kMostTokens) {
      return Do(i, engine_->Truncate(*s, static_cast<int64_t>(Below(300))), "making room");
    }
    Do(i, engine_->Feed(*s, Fresh(n)), "feeding");
  }

  void FeedBoth(size_t i, size_t j) {
    if (i == j || Get(i) == nullptr || Get(j) == nullptr) return;
    const auto a = Fresh(1 + static_cast<int64_t>(Below(40)));
    const auto b = Fresh(1 + static_cast<int64_t>(Below(20)));
    const RigEngine::Item items[] = {{sequences_[i].get(), a}, {sequences_[j].get(), b}};
    const Status status = engine_->Run(items);
    Do(i, status, "feeding two");
    if (!status.ok()) Close(j);
  }

  void Truncate(size_t i, bool same_again) {
    RigSequence* s = Get(i);
    if (s == nullptr || s->length() == 0) return;
    const std::vector<int32_t> before = s->tokens;
    const auto length = static_cast<int64_t>(Below(before.size() + 1));
    const Status status = engine_->Truncate(*s, length);
    Do(i, status, "truncating");
    if (!status.ok() || !same_again) return;
    const auto behind = std::span(before).subspan(static_cast<size_t>(length));
    Do(i, engine_->Feed(*s, behind.first(Below(behind.size() + 1))), "feeding the same again");
  }

  void Checkpoint(size_t i) {
    RigSequence* s = Get(i);
    if (s != nullptr) Do(i, engine_->Checkpoint(*s), "a checkpoint");
  }

  void Verify(size_t i) {
    RigSequence* s = Get(i);
    if (s != nullptr) Do(i, engine_->Verify(*s), "verifying");
  }

  void Step() {
    const size_t i = Below(kSequences), session = Below(std::size(kSessions));
    const uint64_t choice = Below(100);
    engine_->on_checkpoint = [this](const RigSequence& s, bool) {
      known_[static_cast<size_t>(s.number - 1)].push_back(s.tokens);
    };
    if (choice < 42) return Feed(i);
    if (choice < 58) return FeedBoth(i, Below(kSequences));
    if (choice < 66) return Truncate(i, false);
    if (choice < 71) return Truncate(i, true);
    if (choice < 85) return Checkpoint(session);
    if (choice < 89) return Verify(i);
    if (choice < 95) return Close(i);
    if (choice < 98) return static_cast<void>(Expect(Restart(), "starting anew"));
    Get(session);
    Expect(Delete(session), "deleting");
  }

  // Everything that was taken comes back.
  void End() {
    for (size_t i = 0; i < kSequences; ++i) Verify(i);
    for (size_t i = 0; i < kSequences; ++i) Close(i);
    CellPool& pool = engine_->tiers().pool();
    EXPECT_EQ(pool.slots(), config_.slots);
    EXPECT_EQ(pool.available(), config_.slots);
    EXPECT_EQ(pool.touched(), 0);
    for (size_t i = 0; i < std::size(kSessions); ++i) {
      if (const Status status = Delete(i); status.code() != StatusCode::kNotFound) {
        Expect(status, "deleting at the end");
      }
    }
    engine_.reset();
    if (faulty_) return;
    EXPECT_EQ(disk_->UsedBytes(), 0);
    EXPECT_TRUE(disk_->Leftovers().empty());
  }

  RigDisk* disk_;
  std::mt19937_64 random_;
  bool faulty_;
  RigConfig config_;
  RigReport report_;
  std::unique_ptr<RigEngine> engine_;
  std::array<std::unique_ptr<RigSequence>, kSequences> sequences_;
  std::map<size_t, std::vector<std::vector<int32_t>>> known_;  // tokens of checkpoints
  int32_t next_age_ = 1;
  int operation_ = -1;
  int64_t given_up_ = 0;
};

struct Totals {
  int64_t runs = 0, words = 0, recomputed = 0, given_up = 0;
};

void RunSeeds(DiskKind kind, int64_t runs, int operations, const SimFaults& faults, bool faulty) {
  const int64_t one = FromEnvironment("HGA_RIG_SEED", -1);
  runs = one >= 0 ? 1 : FromEnvironment("HGA_RIG_RUNS", runs);
  Totals totals;
  for (int64_t run = 0; run < runs && !testing::Test::HasFailure(); ++run) {
    const auto seed = static_cast<uint64_t>(one >= 0 ? one : run + 1);
    SimOptions options;
    options.seed = seed;
    options.log = false;
    options.faults = faults;
    auto disk = RigDisk::Open(kind, options);
    if (!disk.ok() && disk.status().code() == StatusCode::kUnsupported) {
      GTEST_SKIP() << "skipped: " << disk.status().message();
    }
    ASSERT_TRUE(disk.ok()) << disk.status().message();
    RandomRun play(disk->get(), seed, faulty);
    play.Play(operations);
    EXPECT_TRUE(faulty || play.report().recomputed == 0) << "records were lost on a good disk";
    EXPECT_FALSE(testing::Test::HasFailure()) << "HGA_RIG_SEED=" << seed << " on " << NameOf(kind);
    ++totals.runs;
    totals.words += play.report().words;
    totals.recomputed += play.report().recomputed;
    totals.given_up += play.given_up();
  }
  std::printf(
      "%s: %lld runs of %d operations, %lld words compared, %lld tokens recomputed, %lld "
      "operations given up\n",
      NameOf(kind), static_cast<long long>(totals.runs), operations,
      static_cast<long long>(totals.words), static_cast<long long>(totals.recomputed),
      static_cast<long long>(totals.given_up));
}

TEST(SelfDescribingKv, IsRightOnASimulatedDisk) {
  RunSeeds(DiskKind::kSimulated, 60, 150, {}, false);
}
TEST(SelfDescribingKv, IsRightWithThreads) { RunSeeds(DiskKind::kThreads, 6, 100, {}, false); }
TEST(SelfDescribingKv, IsRightWithIoUring) { RunSeeds(DiskKind::kUring, 6, 100, {}, false); }

TEST(SelfDescribingKv, IsNeverWrongOnAWrongDisk) {
  const SimFaults faults = {.lost_write = 0.002,
                            .misdirected_write = 0.002,
                            .misdirected_read = 0.002,
                            .flipped_write = 0.002,
                            .flipped_read = 0.005,
                            .failed_read = 0.005,
                            .failed_write = 0.005};
  RunSeeds(DiskKind::kSimulated, 60, 150, faults, true);
}

}  // namespace
}  // namespace hga::rigs
