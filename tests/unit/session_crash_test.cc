// SPDX-License-Identifier: Apache-2.0
// Power cuts, failing calls and wrong disks: an acknowledged checkpoint is found again with all of
// its records, and no wrong byte is ever believed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/catalog.h"
#include "store/rigs/fault_io.h"
#include "store/session.h"
#include "tests/unit/session_fixture.h"

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr char kRoot[] = "/store";
constexpr int64_t kCut = 130;  // tokens that stay of the first conversation
constexpr int64_t kKept = kCut / spec::kChunk;

// A conversation that is saved while it grows, is cut, goes on differently, and is closed and
// opened in between. Step i makes generation i + 1.
struct Step {
  int64_t length;
  bool cut = false;
  bool reopen = false;  // before
};
constexpr Step kSteps[] = {{100}, {300}, {301}, {700}, {kCut, true}, {420, false, true},
                           {460}, {900}};
constexpr size_t kFirstOther = 5;  // from this step on the tokens behind the cut are others

// Whose pattern a record of a generation has.
uint64_t SeedOf(size_t step, int64_t chunk) {
  return step >= kFirstOther && chunk >= kKept ? 2 : 1;
}

SessionState StateOf(size_t step) {
  const int64_t length = kSteps[step].length;
  if (step < kFirstOther) return MakeState(length, 1);
  SessionState state = MakeState(length, 2);
  std::ranges::copy(MakeState(kKept * spec::kChunk, 1).tokens, state.tokens.begin());
  return state;
}

Status WriteStep(IoBackend* io, size_t step, SessionFiles* files, RecordTable* table) {
  const int64_t closed = kSteps[step].length / spec::kChunk;
  int64_t from = files->acknowledged_length() / spec::kChunk;
  if (kSteps[step].cut) {
    from = closed;
  } else {
    table->Resize(from);
    HGA_RETURN_IF_ERROR(WriteRecords(io, files->data_file(), SeedOf(step, from),
                                     files->next_generation(), from, closed, table));
  }
  return files->Checkpoint(StateOf(step), *table, from, closed);
}

// How far a run of all steps came: moments on a simulated disk.
struct Moments {
  std::vector<size_t> begun;  // of each step
  std::vector<size_t> acknowledged;
};

// Runs steps from the first that is not acknowledged on; stops at the first error.
Status RunSteps(IoBackend* io, const std::function<size_t()>& now, Moments* moments) {
  HGA_ASSIGN_OR_RETURN(SessionFiles files,
                       SessionFiles::Create(io, kRoot, "s", MakeIdentity(), kStoreId));
  RecordTable table(kShape);
  for (size_t step = 0; step < std::size(kSteps); ++step) {
    if (kSteps[step].reopen) {
      // Closing comes first: one cannot have it open twice.
      { const SessionFiles closed = std::move(files); }
      HGA_ASSIGN_OR_RETURN(OpenedSession opened,
                           SessionFiles::Open(io, kRoot, "s", MakeIdentity()));
      files = std::move(opened.files);
      table = std::move(opened.table);
    }
    moments->begun.push_back(now());
    HGA_RETURN_IF_ERROR(WriteStep(io, step, &files, &table));
    moments->acknowledged.push_back(now());
  }
  return OkStatus();
}

// Records of the table whose bytes are not those of the conversation; -1: believed all the same.
int64_t WrongRecords(IoBackend* io, const OpenedSession& session, size_t step) {
  int64_t wrong = 0;
  const size_t bytes = static_cast<size_t>(RecordBytes(kShape));
  const size_t cell = static_cast<size_t>(CellBytes(kShape));
  for (int64_t chunk = 0; chunk < session.table.chunks(); ++chunk) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      if (session.table.generation(chunk, layer) == 0) {
        ++wrong;
        continue;
      }
      const int64_t offset = RecordOffset(kShape, chunk, layer);
      const auto data = Peek(io, FileOf(kRoot, "s", "records"), offset, RecordBytes(kShape));
      bool matches = true;
      const auto sums = session.table.sums(chunk, layer);
      for (size_t i = 0; i < sums.size() && matches; ++i) {
        matches = CellSum(std::span(data).subspan(i * cell, cell)) == sums[i];
      }
      const bool right = HasPattern(std::span(data).first(bytes), offset, SeedOf(step, chunk));
      if (matches && !right) return -1;
      wrong += matches ? 0 : 1;
    }
  }
  return wrong;
}

// What a program does that finds no session after a power cut: it starts anew.
void ExpectFreshStart(IoBackend* io, const Status& why) {
  EXPECT_TRUE(why.code() == StatusCode::kNotFound || why.code() == StatusCode::kDataLoss)
      << why.message();
  Result<SessionFiles> files = SessionFiles::Create(io, kRoot, "s", MakeIdentity(), kStoreId);
  if (!files.ok()) {
    const Result<PruneReport> pruned = Catalog(io, kRoot).Prune(int64_t{1} << 40);
    ASSERT_TRUE(pruned.ok()) << pruned.status().message();
    files = SessionFiles::Create(io, kRoot, "s", MakeIdentity(), kStoreId);
  }
  ASSERT_TRUE(files.ok()) << files.status().message();
  RecordTable table(kShape);
  const Status status = WriteStep(io, 0, &*files, &table);
  EXPECT_TRUE(status.ok()) << status.message();
}

// `least` steps were acknowledged, `most` begun.
void ExpectState(IoBackend* io, size_t least, size_t most) {
  const Result<OpenedSession> opened = SessionFiles::Open(io, kRoot, "s", MakeIdentity());
  if (!opened.ok()) {
    ASSERT_EQ(least, 0u) << opened.status().message();
    return ExpectFreshStart(io, opened.status());
  }
  const uint64_t generation = opened->files.generation();
  ASSERT_GE(generation, std::max(least, size_t{1}));
  ASSERT_LE(generation, most);
  SessionState expected = StateOf(generation - 1);
  // Whoever crashed before the acknowledgement may have to compute the last tokens again.
  if (opened->report.tail_damaged && generation > least) expected.tail.clear();
  EXPECT_EQ(opened->state, expected);
  EXPECT_EQ(opened->report.damaged_entries, 0);
  EXPECT_EQ(opened->report.stale_chunks, 0);
  EXPECT_EQ(WrongRecords(io, *opened, generation - 1), 0);
}

class PowerCutTest : public testing::Test {
 protected:
  // Steps of `moments` that are over, or begun, after the first `event` events.
  static size_t Count(const std::vector<size_t>& moments, size_t event, bool strictly) {
    return static_cast<size_t>(std::ranges::count_if(
        moments, [&](size_t moment) { return strictly ? moment < event : moment <= event; }));
  }
  void ExpectAfter(const rigs::SimDisk& disk, const Moments& moments, size_t event,
                   const rigs::CrashChoice& choice) {
    const std::unique_ptr<rigs::SimDisk> image = disk.CrashImage(event, choice);
    ExpectState(image.get(), Count(moments.acknowledged, event, false),
                Count(moments.begun, event, true));
    ++images_;
  }
  void ExpectAfterAnyChoice(const rigs::SimDisk& disk, const Moments& moments, size_t event) {
    using rigs::CrashKeep;
    const int pending = disk.Pending(event);
    for (const int64_t tear : {0, 512, 4096}) {
      ExpectAfter(disk, moments, event, {CrashKeep::kAll, 0, event, tear});
      if (tear == 0) ExpectAfter(disk, moments, event, {CrashKeep::kNone, 0, event, tear});
      for (int which = 0; which < pending; ++which) {
        ExpectAfter(disk, moments, event, {CrashKeep::kOne, which, event, tear});
        ExpectAfter(disk, moments, event, {CrashKeep::kAllBut, which, event, tear});
      }
      for (uint64_t seed = 0; seed < 4 && pending > 1; ++seed) {
        ExpectAfter(disk, moments, event, {CrashKeep::kRandom, 0, event * 100 + seed, tear});
      }
    }
  }
  int64_t images_ = 0;
};

TEST_F(PowerCutTest, NoAcknowledgedCheckpointIsLostAtAnyMoment) {
  rigs::SimDisk disk(rigs::SimOptions{.seed = 11});
  Moments moments;
  const Status status = RunSteps(
      &disk, [&] { return disk.events(); }, &moments);
  ASSERT_TRUE(status.ok()) << status.message();
  for (size_t event = 0; event <= disk.events() && !HasFailure(); ++event) {
    ExpectAfterAnyChoice(disk, moments, event);
    if (HasFailure()) ADD_FAILURE() << "at event " << event;
  }
  EXPECT_GT(images_, 5000);
  RecordProperty("images", static_cast<int>(images_));
}

}  // namespace
}  // namespace hga
