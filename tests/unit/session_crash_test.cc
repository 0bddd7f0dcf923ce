// SPDX-License-Identifier: Apache-2.0
// Power cuts, failing calls and wrong disks: an acknowledged checkpoint is found again with all of
// its records, and no wrong byte is ever believed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <optional>

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

// How far a run came: moments on a simulated disk, by step.
struct Moments {
  std::vector<size_t> begun;
  std::vector<size_t> acknowledged;
};
using Clock = std::function<size_t()>;

// Steps from the one behind the session's state on; stops at the first that fails twice, or once if
// no second try is allowed.
Status RunStepsOn(IoBackend* io, const Clock& now, SessionFiles files, RecordTable table,
                  Moments* moments) {
  for (size_t step = files.generation(); step < std::size(kSteps); ++step) {
    if (kSteps[step].reopen && moments->begun.size() <= step) {
      // Closing comes first: one cannot have it open twice.
      { const SessionFiles closed = std::move(files); }
      Result<OpenedSession> opened = SessionFiles::Open(io, kRoot, "s", MakeIdentity());
      if (!opened.ok()) opened = SessionFiles::Open(io, kRoot, "s", MakeIdentity());
      if (!opened.ok()) return opened.status();
      files = std::move(opened->files);
      table = std::move(opened->table);
    }
    moments->begun.resize(std::max(moments->begun.size(), step), now());
    if (moments->begun.size() == step) moments->begun.push_back(now());
    Status status = WriteStep(io, step, &files, &table);
    if (!status.ok() && !files.failed()) status = WriteStep(io, step, &files, &table);
    if (!status.ok()) return status;
    // An earlier step whose acknowledgement failed, and that was found all the same, counts from
    // now on.
    moments->acknowledged.resize(step + 1, now());
  }
  return OkStatus();
}

Status RunSteps(IoBackend* io, const Clock& now, Moments* moments) {
  HGA_ASSIGN_OR_RETURN(SessionFiles files,
                       SessionFiles::Create(io, kRoot, "s", MakeIdentity(), kStoreId));
  return RunStepsOn(io, now, std::move(files), RecordTable(kShape), moments);
}

Status ResumeSteps(IoBackend* io, const Clock& now, Moments* moments) {
  HGA_ASSIGN_OR_RETURN(OpenedSession opened, SessionFiles::Open(io, kRoot, "s", MakeIdentity()));
  return RunStepsOn(io, now, std::move(opened.files), std::move(opened.table), moments);
}

// Records of the table whose bytes are not those of the conversation; -1: believed all the same.
int64_t WrongRecords(IoBackend* io, const OpenedSession& session, size_t step) {
  int64_t wrong = 0;
  const Result<IoFile> file = IoFile::Open(io, FileOf(kRoot, "s", "records"), OpenMode::kRead);
  if (!file.ok()) return -1;
  const IoMemory memory(RecordBytes(kShape));
  const size_t cell = static_cast<size_t>(CellBytes(kShape));
  for (int64_t chunk = 0; chunk < session.table.chunks(); ++chunk) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      if (session.table.generation(chunk, layer) == 0) {
        ++wrong;
        continue;
      }
      const int64_t offset = RecordOffset(kShape, chunk, layer);
      file->ReadWhatIsThere(offset, memory.all(), std::byte{0});
      const std::span<const std::byte> data = memory.all();
      bool matches = true;
      const auto sums = session.table.sums(chunk, layer);
      for (size_t i = 0; i < sums.size() && matches; ++i) {
        matches = CellSum(data.subspan(i * cell, cell)) == sums[i];
      }
      const bool right = HasPattern(data, offset, SeedOf(step, chunk));
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
    if (HasFailure()) {
      FAIL() << "at event " << event << ", keep " << static_cast<int>(choice.keep) << " "
             << choice.which << ", tear " << choice.tear << ", seed " << choice.seed;
    }
  }
  void ExpectAfterSomeChoices(const rigs::SimDisk& disk, const Moments& moments, size_t event) {
    using rigs::CrashKeep;
    for (const int64_t tear : {0, 512}) {
      for (const CrashKeep keep : {CrashKeep::kAll, CrashKeep::kNone, CrashKeep::kRandom}) {
        ExpectAfter(disk, moments, event, {keep, 0, event, tear});
      }
    }
  }
  void ExpectAfterAnyChoice(const rigs::SimDisk& disk, const Moments& moments, size_t event) {
    using rigs::CrashKeep;
    const int pending = disk.Pending(event);
    ExpectAfterSomeChoices(disk, moments, event);
    for (const int64_t tear : {0, 512, 4096}) {
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

// The manifest whose sync failed is read by the next Open, but no sync will bring it to the disk.
TEST_F(PowerCutTest, AManifestThatOnlyMemoryHoldsIsWrittenAgain) {
  for (size_t failing = 1; failing < std::size(kSteps); ++failing) {
    rigs::SimDisk disk(rigs::SimOptions{.seed = failing});
    const Clock now = [&] { return disk.events(); };
    Moments moments;
    int syncs = 0;
    const Clock fail_last_sync = [&] {
      if (moments.acknowledged.size() == failing && syncs++ == 0) disk.FailSyncs(1);
      return disk.events();
    };
    const Status failed = RunSteps(&disk, fail_last_sync, &moments);
    EXPECT_EQ(failed.code(), StatusCode::kIoError);
    const size_t first = disk.events();
    const Status status = ResumeSteps(&disk, now, &moments);
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t event = first; event <= disk.events() && !HasFailure(); ++event) {
      ExpectAfterSomeChoices(disk, moments, event);
    }
    if (HasFailure()) FAIL() << "after a failed sync in step " << failing;
  }
}

// A session is there with all of its records, or it is no session any more.
TEST_F(PowerCutTest, ADeletedSessionDoesNotComeBackInPieces) {
  rigs::SimDisk disk(rigs::SimOptions{.seed = 5});
  Moments moments;
  ASSERT_TRUE(RunSteps(
                  &disk, [&] { return disk.events(); }, &moments)
                  .ok());
  const size_t first = disk.events();
  const Status status = Catalog(&disk, kRoot).Delete("s");
  ASSERT_TRUE(status.ok()) << status.message();
  for (size_t event = first; event <= disk.events(); ++event) {
    for (int which = -1; which < disk.Pending(event); ++which) {
      const auto keep = which < 0 ? rigs::CrashKeep::kNone : rigs::CrashKeep::kOne;
      const auto image = disk.CrashImage(event, {keep, which, event, 0});
      const Result<OpenedSession> opened =
          SessionFiles::Open(image.get(), kRoot, "s", MakeIdentity());
      if (event == disk.events()) {
        EXPECT_EQ(opened.status().code(), StatusCode::kNotFound) << opened.status().message();
      }
      if (!opened.ok()) continue;
      EXPECT_EQ(WrongRecords(image.get(), *opened, std::size(kSteps) - 1), 0) << event;
    }
  }
}

TEST(FailingSync, TheObjectTakesNoFurtherCheckpoint) {
  rigs::SimDisk disk(rigs::SimOptions{});
  Result<Writer> writer = StartSession(&disk, kRoot, "s", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(writer->Save(&disk, 300).ok());
  disk.FailSyncs(1);
  EXPECT_EQ(writer->Save(&disk, 400).code(), StatusCode::kIoError);
  EXPECT_TRUE(writer->files.failed());
  EXPECT_EQ(writer->files.acknowledged_length(), 300);
  const Status status = writer->Save(&disk, 400);
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_THAT(status.message(), HasSubstr("open the session anew"));
}

TEST(FullDisk, CostsTheCheckpointAndNothingElse) {
  rigs::SimDisk disk(rigs::SimOptions{});
  Result<Writer> writer = StartSession(&disk, kRoot, "s", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(writer->Save(&disk, 300).ok());
  // The records fit, neither the index nor the manifest does.
  ASSERT_TRUE(WriteRecords(&disk, writer->files.data_file(), 1, 2, 4, 20, &writer->table).ok());
  disk.set_capacity(disk.used_bytes());
  const auto save = [&] {
    return writer->files.Checkpoint(MakeState(1280, 1), writer->table, 4, 20);
  };
  EXPECT_EQ(save().code(), StatusCode::kResourceExhausted);
  EXPECT_FALSE(writer->files.failed());
  EXPECT_EQ(writer->files.generation(), 1u);
  disk.set_capacity(int64_t{1} << 30);
  const Status status = save();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(writer->files.acknowledged_length(), 1280);
}

class FaultLoopTest : public testing::TestWithParam<rigs::FaultKind> {
 protected:
  // One run with a fault; whether it fired.
  bool Run(const rigs::Fault& fault) {
    rigs::SimDisk disk(rigs::SimOptions{.seed = static_cast<uint64_t>(fault.at) + 1});
    rigs::FaultIo faulty(&disk, fault);
    Moments moments;
    const Status status = RunSteps(
        &faulty, [&] { return disk.events(); }, &moments);
    ++runs_;
    if (!faulty.fired()) {
      EXPECT_TRUE(status.ok()) << status.message();
      return false;
    }
    const bool all = moments.acknowledged.size() == std::size(kSteps);
    EXPECT_EQ(status.ok(), all);
    if (fault.only == IoOp::kWrite && !fault.sticky) {
      EXPECT_TRUE(all) << status.message();
    }
    for (const auto keep : {rigs::CrashKeep::kNone, rigs::CrashKeep::kRandom}) {
      const auto image =
          disk.CrashImage(disk.events(), {keep, 0, static_cast<uint64_t>(fault.at), kIoAlignment});
      ExpectNothingLost(image.get(), fault, moments);
    }
    ExpectNothingLost(&disk, fault, moments);
    return true;
  }

  void ExpectNothingLost(IoBackend* io, const rigs::Fault& fault, const Moments& moments) {
    const size_t least = moments.acknowledged.size(), most = moments.begun.size();
    if (fault.only != IoOp::kRead) return ExpectState(io, least, most);
    // What could not be read was left out for good; wrong bytes are something else.
    const Result<OpenedSession> opened = SessionFiles::Open(io, kRoot, "s", MakeIdentity());
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    ASSERT_GE(opened->files.generation(), least);
    ASSERT_LE(opened->files.generation(), most);
    EXPECT_EQ(opened->state.tokens, StateOf(opened->files.generation() - 1).tokens);
    EXPECT_GE(WrongRecords(io, *opened, opened->files.generation() - 1), 0);
  }

  void RaiseUntilItNoLongerFires(bool sticky, std::optional<IoOp> only) {
    for (int64_t at = 0; !HasFailure(); ++at) {
      const bool fired = Run({GetParam(), at, sticky, only});
      if (HasFailure()) {
        ADD_FAILURE() << rigs::NameOf(GetParam()) << " at " << at << (sticky ? ", sticky" : "");
      }
      if (!fired) break;
    }
  }
  int64_t runs_ = 0;
};

std::vector<rigs::FaultKind> AllFaults() {
  std::vector<rigs::FaultKind> kinds;
  for (int i = 1; i <= static_cast<int>(rigs::kLastFault); ++i) {
    const auto kind = static_cast<rigs::FaultKind>(i);
    // Sessions allocate nothing ahead; their records' owner does.
    if (kind != rigs::FaultKind::kAllocateEnospc) kinds.push_back(kind);
  }
  return kinds;
}
INSTANTIATE_TEST_SUITE_P(Kinds, FaultLoopTest, testing::ValuesIn(AllFaults()),
                         [](const auto& test) {
                           std::string name = rigs::NameOf(test.param);
                           std::erase_if(name, [](char c) { return std::isalnum(c) == 0; });
                           return name;
                         });

TEST_P(FaultLoopTest, EveryCallFailsOnceAndNothingAcknowledgedIsLost) {
  const bool transfer = GetParam() < rigs::FaultKind::kSyncEio;
  for (const bool sticky : {false, true}) {
    if (!transfer) {
      RaiseUntilItNoLongerFires(sticky, {});
    } else {
      RaiseUntilItNoLongerFires(sticky, IoOp::kWrite);
      RaiseUntilItNoLongerFires(sticky, IoOp::kRead);
    }
  }
  RecordProperty("runs", static_cast<int>(runs_));
}

TEST(WrongDisk, NoWrongByteIsBelieved) {
  int64_t made = 0, opened_well = 0, left_out = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    rigs::SimOptions options{.seed = seed, .log = false};
    options.faults = {.lost_write = 0.01,
                      .misdirected_write = 0.01,
                      .misdirected_read = 0.01,
                      .flipped_write = 0.01,
                      .flipped_read = 0.01,
                      .failed_read = 0.01,
                      .failed_write = 0.01};
    rigs::SimDisk disk(options);
    Moments moments;
    // Whether it gets through depends on the seed.
    const Status status = RunSteps(
        &disk, [] { return size_t{0}; }, &moments);
    made += disk.faults_made();
    disk.set_faults({});
    const Result<OpenedSession> opened = SessionFiles::Open(&disk, kRoot, "s", MakeIdentity());
    if (!opened.ok()) continue;
    ++opened_well;
    const uint64_t generation = opened->files.generation();
    ASSERT_LE(generation, moments.begun.size()) << "seed " << seed;
    SessionState expected = StateOf(generation - 1);
    if (opened->report.tail_damaged) expected.tail.clear();
    EXPECT_EQ(opened->state, expected) << "seed " << seed;
    const int64_t wrong = WrongRecords(&disk, *opened, generation - 1);
    EXPECT_GE(wrong, 0) << "seed " << seed;
    left_out += wrong;
  }
  // The faults were there, and they were met.
  EXPECT_GT(made, 300);
  EXPECT_GT(opened_well, 200);
  EXPECT_GT(left_out, 300);
}

}  // namespace
}  // namespace hga
