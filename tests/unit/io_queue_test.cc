// SPDX-License-Identifier: Apache-2.0
// The queue over faulty back ends, real and simulated: whatever a back end answers, a transfer that
// ends without an error has moved all of its bytes, and every transfer ends.
#include "store/io_queue.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <numeric>
#include <optional>
#include <set>

#include "store/rigs/fault_io.h"
#include "store/rigs/sim_disk.h"
#include "tests/unit/io_fixture.h"

// Every allocation of the process, by any thread.
namespace {
std::atomic<int64_t> allocations = 0;
}
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace hga {
namespace {

using rigs::Fault;
using rigs::FaultIo;
using rigs::FaultKind;

constexpr int64_t kUnit = kIoAlignment;
constexpr int kDepth = 8;

struct Row {
  const char* name;
  std::optional<IoChoice> choice;  // none: the simulated disk
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class IoQueueTest : public testing::TestWithParam<Row> {
 protected:
  void SetUp() override {
    if (!GetParam().choice.has_value()) {
      inner_ = std::make_unique<rigs::SimDisk>(rigs::SimOptions{.seed = 3, .depth = kDepth});
    } else {
      Result<std::unique_ptr<IoBackend>> io = OpenIo(*GetParam().choice, kDepth, nullptr);
      if (!io.ok() && io.status().code() == StatusCode::kUnsupported) {
        GTEST_SKIP() << "skipped: " << io.status().message();
      }
      ASSERT_TRUE(io.ok()) << io.status().message();
      inner_ = std::move(*io);
      scratch_ = std::make_unique<ScratchDirectory>();
    }
    faulty_ = std::make_unique<FaultIo>(inner_.get(), Fault{});
    file_ = MakeFile(kFileUnits);
    ASSERT_EQ(faulty_->name(), "faulty " + inner_->name());
  }
  void TearDown() override { inner_.reset(); }

  int MakeFile(int64_t units) {
    const std::string directory = scratch_ ? scratch_->path() : "";
    const Result<int> file = faulty_->OpenFile(directory, OpenMode::kTemporary);
    EXPECT_TRUE(file.ok()) << file.status().message();
    EXPECT_TRUE(faulty_->Allocate(*file, units * kUnit).ok());
    return *file;
  }
  // Makes the faulty layer raise this from now on.
  void Set(FaultKind kind, int64_t at = 0, bool sticky = false) {
    faulty_->Set({.kind = kind, .at = at, .sticky = sticky});
  }
  uint64_t Read(IoQueue* queue, int64_t unit, std::span<std::byte> data) {
    return queue->Add(IoOp::kRead, file_, unit * kUnit, data);
  }
  uint64_t Write(IoQueue* queue, int64_t unit, std::span<std::byte> data, uint64_t seed) {
    FillPattern(data, unit * kUnit, seed);
    return queue->Add(IoOp::kWrite, file_, unit * kUnit, data);
  }
  // Waits for one transfer; its errno.
  static int Ended(IoQueue* queue, uint64_t id) {
    IoDone done;
    EXPECT_EQ(queue->Wait({&done, 1}, 1), 1);
    EXPECT_EQ(done.id, id);
    EXPECT_EQ(queue->pending(), 0);
    return done.error;
  }
  // The file's units hold patterns of this seed, written without faults.
  void Prepare(uint64_t seed) {
    faulty_->Set({});
    IoQueue queue(faulty_.get());
    IoMemory memory(kFileUnits * kUnit);
    ASSERT_EQ(Ended(&queue, Write(&queue, 0, memory.all(), seed)), 0);
  }

  static constexpr int64_t kFileUnits = 256;
  std::unique_ptr<ScratchDirectory> scratch_;
  std::unique_ptr<IoBackend> inner_;
  std::unique_ptr<FaultIo> faulty_;
  int file_ = -1;
};

TEST_P(IoQueueTest, MovesFarMoreThanDepthAtOnce) {
  IoQueue queue(inner_.get());
  IoMemory memory(kFileUnits * kUnit), back(kFileUnits * kUnit);
  std::set<uint64_t> ids;
  for (int64_t unit = 0; unit < kFileUnits; ++unit) {
    ids.insert(Write(&queue, unit, memory.part(unit * kUnit, kUnit), 1));
  }
  EXPECT_EQ(ids.size(), static_cast<size_t>(kFileUnits));
  EXPECT_FALSE(ids.contains(0));
  EXPECT_EQ(queue.pending(), kFileUnits);
  IoDone done[10];
  while (queue.pending() > 0) {
    const int count = queue.Wait(done, 7);
    EXPECT_GE(count, std::min<int>(7, static_cast<int>(ids.size())));
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(done[i].error, 0);
      EXPECT_EQ(ids.erase(done[i].id), 1u);
    }
  }
  EXPECT_TRUE(ids.empty());
  EXPECT_EQ(Ended(&queue, Read(&queue, 0, back.all())), 0);
  EXPECT_TRUE(HasPattern(back.all(), 0, 1));
  const IoQueueStats& stats = queue.stats();
  EXPECT_EQ(stats.writes, kFileUnits);
  EXPECT_EQ(stats.written_bytes, kFileUnits * kUnit);
  EXPECT_EQ(stats.reads, 1);
  EXPECT_EQ(stats.read_bytes, kFileUnits * kUnit);
  EXPECT_EQ(std::accumulate(stats.read_latency.begin(), stats.read_latency.end(), int64_t{0}), 1);
  EXPECT_EQ(stats.dropped + stats.failed + stats.retried, 0);
}

TEST_P(IoQueueTest, WaitKeepsToItsBounds) {
  IoQueue queue(inner_.get());
  IoMemory memory(32 * kUnit);
  IoDone done[32];
  EXPECT_EQ(queue.Wait(done, 5), 0);
  for (int64_t unit = 0; unit < 32; ++unit) Read(&queue, unit, memory.part(unit * kUnit, kUnit));
  EXPECT_EQ(queue.Wait(std::span(done).first(3), 30), 3);
  EXPECT_EQ(queue.Wait({}, 1), 0);
  EXPECT_EQ(queue.pending(), 29);
  EXPECT_EQ(queue.Wait(done, 29), 29);
  EXPECT_EQ(queue.pending(), 0);
}

TEST_P(IoQueueTest, TransfersNotStartedGoWithTheNextCall) {
  IoQueue queue(inner_.get());
  IoMemory memory(4 * kUnit);
  for (int64_t unit = 0; unit < 4; ++unit) {
    queue.Add(IoOp::kRead, file_, unit * kUnit, memory.part(unit * kUnit, kUnit), false);
  }
  EXPECT_EQ(inner_->in_flight(), 0);
  EXPECT_EQ(queue.pending(), 4);
  IoDone done[4];
  EXPECT_EQ(queue.Wait(done, 4), 4);
}

TEST_P(IoQueueTest, BadTransfersFailAndHarmNobody) {
  IoQueue queue(inner_.get());
  IoMemory memory(4 * kUnit);
  EXPECT_EQ(Ended(&queue, queue.Add(IoOp::kRead, 999, 0, memory.all())), EBADF);
  EXPECT_EQ(Ended(&queue, queue.Add(IoOp::kRead, file_, 100, memory.all())), EINVAL);
  EXPECT_EQ(Ended(&queue, queue.Add(IoOp::kRead, file_, 0, {})), EINVAL);
  EXPECT_EQ(queue.stats().failed, 3);
  EXPECT_EQ(Ended(&queue, Read(&queue, 0, memory.all())), 0);
}

TEST_P(IoQueueTest, AFileThatEndsEarlyIsAnError) {
  IoQueue queue(inner_.get());
  IoMemory memory(4 * kUnit);
  EXPECT_EQ(Ended(&queue, Read(&queue, kFileUnits - 2, memory.all())), EIO);
  EXPECT_EQ(queue.stats().continued, 1);
  EXPECT_EQ(Ended(&queue, Read(&queue, kFileUnits, memory.all())), EIO);
}

// R1: a short result was taken for all of the bytes; the tail of the buffer was stale.
TEST_P(IoQueueTest, AShortReadIsContinuedUntilItIsWhole) {
  Prepare(1);
  for (const FaultKind kind : {FaultKind::kShortAligned, FaultKind::kShortUnaligned}) {
    Set(kind);
    IoQueue queue(faulty_.get());
    IoMemory memory(16 * kUnit);
    EXPECT_EQ(Ended(&queue, Read(&queue, 40, memory.all())), 0);
    EXPECT_TRUE(HasPattern(memory.all(), 40 * kUnit, 1)) << NameOf(kind);
    EXPECT_TRUE(faulty_->fired());
    EXPECT_EQ(queue.stats().continued, 1);
    EXPECT_EQ(queue.stats().read_bytes, 16 * kUnit);
  }
}

TEST_P(IoQueueTest, ReadsThatAreAlwaysShortGetWhole) {
  Prepare(2);
  Set(FaultKind::kShortAligned, 0, true);
  IoQueue queue(faulty_.get());
  IoMemory memory(64 * kUnit);
  // 64 units become 32, 16, ... 1 left; that last one is cut short of a unit for ever.
  EXPECT_EQ(Ended(&queue, Read(&queue, 3, memory.all())), EIO);
  EXPECT_EQ(queue.stats().continued, 6);
  EXPECT_EQ(queue.stats().retried, IoQueue::kMostRetries);
}

TEST_P(IoQueueTest, ShortWritesAreContinuedAndLeaveNoHole) {
  for (const FaultKind kind : {FaultKind::kShortAligned, FaultKind::kShortUnaligned}) {
    Prepare(3);
    Set(kind, 1);
    IoQueue queue(faulty_.get());
    IoMemory memory(32 * kUnit);
    EXPECT_EQ(Ended(&queue, Write(&queue, 0, memory.all(), 4)), 0);
    EXPECT_EQ(Ended(&queue, Write(&queue, 32, memory.all(), 4)), 0);
    EXPECT_TRUE(faulty_->fired());
    EXPECT_EQ(queue.stats().continued, 1);
    IoMemory back(128 * kUnit);
    EXPECT_EQ(Ended(&queue, Read(&queue, 0, back.all())), 0);
    EXPECT_TRUE(HasPattern(back.part(0, 64 * kUnit), 0, 4)) << NameOf(kind);
    EXPECT_TRUE(HasPattern(back.part(64 * kUnit, 64 * kUnit), 64 * kUnit, 3)) << NameOf(kind);
  }
}

// R2: the completion of an earlier transfer counted for the one that used its place next. With a
// depth of one every transfer has the same place.
TEST_P(IoQueueTest, ACompletionToldTwiceCountsOnce) {
  Prepare(5);
  Set(FaultKind::kDuplicated, 0, true);
  IoQueue queue(faulty_.get());
  IoMemory memory(kUnit);
  for (int64_t unit = 0; unit < 100; ++unit) {
    std::ranges::fill(memory.all(), std::byte{0});
    ASSERT_EQ(Ended(&queue, Read(&queue, unit, memory.all())), 0);
    ASSERT_TRUE(HasPattern(memory.all(), unit * kUnit, 5)) << unit;
  }
  EXPECT_GT(queue.stats().dropped, 80);
  EXPECT_EQ(queue.stats().reads, 100);
}

// The small files of a session have a queue for each read or write.
TEST_P(IoQueueTest, ACompletionToldTwiceDoesNotCountForTheNextQueue) {
  Prepare(12);
  Set(FaultKind::kDuplicated, 0, true);
  IoMemory memory(kUnit);
  for (int64_t unit = 0; unit < 100; ++unit) {
    std::ranges::fill(memory.all(), std::byte{0});
    IoQueue queue(faulty_.get());
    ASSERT_EQ(Ended(&queue, Read(&queue, unit, memory.all())), 0);
    ASSERT_TRUE(HasPattern(memory.all(), unit * kUnit, 12)) << unit;
  }
}

TEST_P(IoQueueTest, AnEarlierAttemptsCompletionDoesNotEndTheNextOne) {
  Prepare(6);
  // Every attempt is told twice; the second copy of a short one comes while the rest is under way.
  FaultIo doubled(faulty_.get(), {.kind = FaultKind::kDuplicated, .at = 0, .sticky = true});
  IoMemory memory(9 * kUnit);
  for (int64_t at = 0; at < 20; ++at) {
    Set(FaultKind::kShortAligned, at % 2);
    IoQueue queue(&doubled);
    EXPECT_EQ(Ended(&queue, Read(&queue, at, memory.all())), 0);
    EXPECT_TRUE(HasPattern(memory.all(), at * kUnit, 6));
    EXPECT_EQ(queue.stats().continued, at % 2 == 0 ? 1 : 0);
    queue.Wait({}, 0);
    EXPECT_EQ(queue.stats().dropped, at % 2 == 0 ? 2 : 1);
  }
}

TEST_P(IoQueueTest, MoreBytesThanAskedForIsAnError) {
  Prepare(11);
  Set(FaultKind::kTooManyBytes);
  IoQueue queue(faulty_.get());
  IoMemory memory(2 * kUnit);
  EXPECT_EQ(Ended(&queue, Read(&queue, 0, memory.all())), EIO);
  EXPECT_EQ(Ended(&queue, Read(&queue, 0, memory.all())), 0);
}

TEST_P(IoQueueTest, AStaleTagCountsForNobodyAndNobodyWaitsForEver) {
  Prepare(7);
  IoQueue queue(faulty_.get());
  IoMemory memory(kUnit);
  EXPECT_EQ(Ended(&queue, Read(&queue, 0, memory.all())), 0);
  Set(FaultKind::kStaleTag);
  EXPECT_EQ(Ended(&queue, Read(&queue, 1, memory.all())), EIO);
  EXPECT_TRUE(faulty_->fired());
  EXPECT_EQ(queue.stats().dropped, 1);
  EXPECT_EQ(Ended(&queue, Read(&queue, 2, memory.all())), 0);
  EXPECT_TRUE(HasPattern(memory.all(), 2 * kUnit, 7));
}

TEST_P(IoQueueTest, TransientErrorsAreTriedAgainAtMostEightTimes) {
  Prepare(8);
  for (const auto& [kind, error] : {std::pair{FaultKind::kEagain, EAGAIN},
                                    {FaultKind::kEintr, EINTR},
                                    {FaultKind::kEcanceled, ECANCELED}}) {
    IoMemory memory(4 * kUnit);
    for (const bool sticky : {false, true}) {
      Set(kind, 0, sticky);
      IoQueue queue(faulty_.get());
      EXPECT_EQ(Ended(&queue, Read(&queue, 0, memory.all())), sticky ? error : 0);
      EXPECT_EQ(HasPattern(memory.all(), 0, 8), !sticky);
      EXPECT_EQ(queue.stats().retried, sticky ? IoQueue::kMostRetries : 1);
      EXPECT_EQ(faulty_->calls(), sticky ? IoQueue::kMostRetries + 1 : 2);
      EXPECT_EQ(Ended(&queue, Write(&queue, 9, memory.all(), 8)), sticky ? error : 0);
    }
  }
}

// Every second attempt of a full queue fails: nobody is forgotten between the retries.
TEST_P(IoQueueTest, AStormOfEagainEndsWithEveryTransferWhole) {
  Prepare(9);
  std::vector<std::unique_ptr<FaultIo>> layers;
  IoBackend* top = inner_.get();
  for (const int64_t at : {0, 3, 10, 30, 60, 61, 62, 100}) {
    layers.push_back(std::make_unique<FaultIo>(top, Fault{.kind = FaultKind::kEagain, .at = at}));
    top = layers.back().get();
  }
  IoQueue queue(top);
  IoMemory memory(kFileUnits * kUnit);
  for (int64_t unit = 0; unit < kFileUnits; ++unit) {
    Read(&queue, unit, memory.part(unit * kUnit, kUnit));
  }
  std::vector<IoDone> done(kFileUnits);
  EXPECT_EQ(queue.Wait(done, kFileUnits), kFileUnits);
  for (const IoDone& end : done) EXPECT_EQ(end.error, 0);
  EXPECT_TRUE(HasPattern(memory.all(), 0, 9));
  EXPECT_EQ(queue.stats().retried, 8);
}

TEST_P(IoQueueTest, LateAndReorderedCompletionsAllArrive) {
  Prepare(10);
  for (const FaultKind kind : {FaultKind::kLate, FaultKind::kReordered}) {
    for (const bool sticky : {false, true}) {
      Set(kind, 2, sticky);
      IoQueue queue(faulty_.get());
      IoMemory memory(40 * kUnit);
      std::set<uint64_t> ids;
      for (int64_t unit = 0; unit < 40; ++unit) {
        ids.insert(Read(&queue, unit, memory.part(unit * kUnit, kUnit)));
      }
      IoDone done[40];
      ASSERT_EQ(queue.Wait(done, 40), 40);
      for (const IoDone& end : done) EXPECT_TRUE(end.error == 0 && ids.erase(end.id) == 1);
      EXPECT_TRUE(HasPattern(memory.all(), 0, 10));
      EXPECT_TRUE(faulty_->fired());
    }
  }
}

TEST_P(IoQueueTest, OnceWarmItAllocatesNothing) {
  if (!GetParam().choice.has_value()) GTEST_SKIP() << "the simulated disk allocates";
  IoQueue queue(inner_.get());
  IoMemory memory(64 * kUnit);
  IoDone done[64];
  int64_t before = 0;
  for (int round = 0; round < 20; ++round) {
    if (round == 1) before = allocations.load();
    for (int64_t unit = 0; unit < 64; ++unit) {
      Read(&queue, unit, memory.part(unit * kUnit, kUnit));
    }
    ASSERT_EQ(queue.Wait(done, 64), 64);
  }
  EXPECT_EQ(allocations.load(), before);
}

// The fault loop: one script, every sort of fault at every call of it, once and for ever.
struct Outcome {
  int failed = 0;
  int wrong = 0;  // ended well, but bytes differ
};

class FaultLoop : public IoQueueTest {
 protected:
  // Writes 24 stretches in a deep queue, reads them back, and rewrites some of them meanwhile.
  Outcome Script(uint64_t seed) {
    constexpr int64_t kStretch = 3;
    IoQueue queue(faulty_.get());
    IoMemory memory(24 * kStretch * kUnit);
    std::vector<bool> written(24, false);
    Outcome outcome;
    for (const IoOp op : {IoOp::kWrite, IoOp::kRead}) {
      std::vector<uint64_t> ids(24, 0);
      for (int64_t i = 0; i < 24; ++i) {
        const auto data = memory.part(i * kStretch * kUnit, kStretch * kUnit);
        const int64_t offset = i * kStretch * kUnit;
        if (op == IoOp::kWrite) FillPattern(data, offset, seed);
        if (op == IoOp::kRead) std::ranges::fill(data, std::byte{0});
        ids[static_cast<size_t>(i)] = queue.Add(op, file_, offset, data);
      }
      IoDone done[24];
      EXPECT_EQ(queue.Wait(done, 24), 24);
      for (const IoDone& end : done) {
        const auto i = static_cast<size_t>(std::ranges::find(ids, end.id) - ids.begin());
        EXPECT_LT(i, ids.size());
        outcome.failed += end.error != 0 ? 1 : 0;
        if (op == IoOp::kWrite) written[i] = end.error == 0;
        if (op == IoOp::kRead && end.error == 0 && written[i]) {
          const int64_t offset = static_cast<int64_t>(i) * kStretch * kUnit;
          outcome.wrong += HasPattern(memory.part(offset, kStretch * kUnit), offset, seed) ? 0 : 1;
        }
      }
    }
    return outcome;
  }
};

TEST_P(FaultLoop, NoFaultAtAnyCallGivesWrongBytesOrAHang) {
  int points = 0, failed = 0;
  uint64_t seed = 100;
  for (int k = 1; k < static_cast<int>(FaultKind::kSyncEio); ++k) {
    const auto kind = static_cast<FaultKind>(k);
    for (const bool sticky : {false, true}) {
      for (int64_t at = 0;; ++at) {
        Set(kind, at, sticky);
        const Outcome outcome = Script(++seed);
        ASSERT_EQ(outcome.wrong, 0) << NameOf(kind) << " at " << at << (sticky ? ", sticky" : "");
        if (!faulty_->fired()) {
          ASSERT_EQ(outcome.failed, 0);
          break;
        }
        failed += outcome.failed;
        ++points;
      }
    }
  }
  fmt::print("{}: {} fault points, {} transfers failed, 0 wrong\n", inner_->name(), points, failed);
  EXPECT_GT(points, 1000);
  EXPECT_GT(failed, 1000);
}

constexpr Row kRows[] = {
    {"Uring", IoChoice::kUring}, {"Threads", IoChoice::kThreads}, {"Simulated", std::nullopt}};
std::string NameOfRow(const testing::TestParamInfo<Row>& row) { return row.param.name; }
INSTANTIATE_TEST_SUITE_P(All, IoQueueTest, testing::ValuesIn(kRows), NameOfRow);
INSTANTIATE_TEST_SUITE_P(All, FaultLoop, testing::ValuesIn(kRows), NameOfRow);

}  // namespace
}  // namespace hga
