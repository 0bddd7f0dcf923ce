// SPDX-License-Identifier: Apache-2.0
// Sessions on every kind of disk: what was acknowledged comes back, and whatever was changed behind
// the store's back is left out, never believed.
#include "store/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "store/prefix.h"
#include "tests/unit/session_fixture.h"

namespace hga {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SessionTest : public SessionPlaceTest {
 protected:
  std::string Path(std::string_view file) const { return FileOf(root(), "s", file); }
  void Make(const std::vector<int64_t>& lengths) { MakeSession(io(), root(), "s", 1, lengths); }
};
INSTANTIATE_TEST_SUITE_P(Disks, SessionTest, testing::ValuesIn(kPlaces),
                         testing::PrintToStringParamName());

void ExpectSameRecords(const RecordTable& found, const RecordTable& expected) {
  ASSERT_EQ(found.chunks(), expected.chunks());
  for (int64_t chunk = 0; chunk < found.chunks(); ++chunk) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      EXPECT_EQ(found.generation(chunk, layer), expected.generation(chunk, layer));
      EXPECT_TRUE(std::ranges::equal(found.sums(chunk, layer), expected.sums(chunk, layer)));
    }
  }
}

TEST_P(SessionTest, ComesBackAfterEachCheckpoint) {
  RecordTable written(kShape);
  {
    Result<Writer> writer = StartSession(io(), root(), "s", 1);
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    EXPECT_EQ(writer->files.generation(), 0u);
    ASSERT_TRUE(writer->Save(io(), 0).ok());
  }
  uint64_t generation = 1;
  for (const int64_t length : {1, 64, 65, 200, 1000, 1001, 2000}) {
    {
      Result<OpenedSession> opened = Open("s");
      ASSERT_TRUE(opened.ok()) << opened.status().message();
      EXPECT_EQ(opened->files.generation(), generation);
      Writer writer{std::move(opened->files), std::move(opened->table), 1};
      const Status status = writer.Save(io(), length);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(writer.files.generation(), ++generation);
      EXPECT_EQ(writer.files.acknowledged_length(), length);
      written = writer.table;
    }
    const Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(opened->state, MakeState(length, 1));
    ExpectSameRecords(opened->table, written);
    EXPECT_THAT(opened->report.other_slot, IsEmpty());
    EXPECT_EQ(opened->report.damaged_entries, 0);
    EXPECT_EQ(opened->report.stale_chunks, 0);
    EXPECT_FALSE(opened->report.tail_damaged);
  }
}

TEST_P(SessionTest, FilesArePrivate) {
  if (GetParam().simulated) GTEST_SKIP() << "skipped: no modes on a simulated disk";
  Make({100});
  namespace fs = std::filesystem;
  const auto mode = [](const std::string& path) { return fs::status(path).permissions(); };
  EXPECT_EQ(mode(root()), fs::perms::owner_all);
  EXPECT_EQ(mode(Joined(root(), SessionDirectoryName("s"))), fs::perms::owner_all);
  for (const char* file : {"records", "index", "manifest.0", "manifest.1"}) {
    EXPECT_EQ(mode(Path(file)), fs::perms::owner_read | fs::perms::owner_write) << file;
  }
}

TEST_P(SessionTest, ADamagedSlotFallsBackToTheOneBefore) {
  Make({100, 200});
  // Generation 2 lies in slot 0. A bit of each of its header's fields, and some of its payload.
  for (const int64_t at : {0, 8, 12, 16, 24, 32, 40, 56, 72, 80, 300, 700}) {
    FlipBit(io(), Path("manifest.0"), at, static_cast<int>(at / 8 % 8));
    const Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(opened->state, MakeState(100, 1)) << at;
    EXPECT_EQ(opened->files.generation(), 1u);
    EXPECT_TRUE(opened->table.Complete(0));
    EXPECT_THAT(opened->report.other_slot, HasSubstr("manifest.0"));
    FlipBit(io(), Path("manifest.0"), at, static_cast<int>(at / 8 % 8));
  }
  FlipBit(io(), Path("manifest.1"), 90, 0);
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->state, MakeState(200, 1));
  EXPECT_THAT(opened->report.other_slot, HasSubstr("checksum is wrong"));
}

TEST_P(SessionTest, GoesOnAfterFallingBack) {
  Make({100, 200, 300});
  FlipBit(io(), Path("manifest.1"), 20, 3);
  {
    Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    ASSERT_EQ(opened->state, MakeState(200, 1));
    Writer writer{std::move(opened->files), std::move(opened->table), 1};
    const Status status = writer.Save(io(), 400);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->state, MakeState(400, 1));
  EXPECT_THAT(opened->report.other_slot, IsEmpty());
}

TEST_P(SessionTest, TwoDamagedSlotsAreDataLossWithBothReasons) {
  Make({100, 200});
  FlipBit(io(), Path("manifest.0"), 500, 1);
  FlipBit(io(), Path("manifest.1"), 3, 1);
  const Status status = Open("s").status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("its checksum is wrong"));
  EXPECT_THAT(status.message(), HasSubstr("does not begin as a manifest"));
}

TEST_P(SessionTest, ADamagedTailIsLeftOutAndNothingElse) {
  Make({100});
  const int64_t size = SizeOf(io(), Path("manifest.1"));
  FlipBit(io(), Path("manifest.1"), size - 1, 7);
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_TRUE(opened->report.tail_damaged);
  SessionState expected = MakeState(100, 1);
  expected.tail.clear();
  EXPECT_EQ(opened->state, expected);
}

TEST_P(SessionTest, ADamagedIndexEntryCostsItsChunkOnly) {
  Make({1000});
  for (const int64_t chunk : {0, 4, 5, 14}) {
    const int64_t at = chunk * kShape.layers * kEntry + kEntry + chunk * 17;
    FlipBit(io(), Path("index"), at, 2);
    const Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(opened->report.damaged_entries, 1);
    EXPECT_EQ(opened->state, MakeState(1000, 1));
    for (int64_t i = 0; i < 15; ++i) EXPECT_EQ(opened->table.Complete(i), i != chunk) << i;
    for (int layer = 0; layer < kShape.layers; ++layer) {
      EXPECT_EQ(opened->table.generation(chunk, layer), 0u);
    }
    FlipBit(io(), Path("index"), at, 2);
  }
}

TEST_P(SessionTest, EntriesOfAnotherSessionAreNotBelieved) {
  Make({1000});
  MakeSession(io(), root(), "other", 1, {1000}, StoreId{9});
  const int64_t bytes = SizeOf(io(), Path("index"));
  Poke(io(), Path("index"), 0, Peek(io(), FileOf(root(), "other", "index"), 0, bytes));
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->report.damaged_entries, 15 * kShape.layers);
}

// Cuts after some tokens and goes on differently, by the rule.
void CutAndGoOn(IoBackend* io, Writer* writer, int64_t keep, uint64_t seed, int64_t length) {
  const int64_t kept = keep / spec::kChunk;
  Status status =
      writer->files.Checkpoint(MakeState(keep, writer->seed), writer->table, kept, kept);
  ASSERT_TRUE(status.ok()) << status.message();
  writer->table.Resize(kept);
  SessionState state = MakeState(length, seed);
  std::ranges::copy(MakeState(kept * spec::kChunk, writer->seed).tokens, state.tokens.begin());
  status = WriteRecords(io, writer->files.data_file(), seed, writer->files.next_generation(), kept,
                        length / spec::kChunk, &writer->table);
  ASSERT_TRUE(status.ok()) << status.message();
  status = writer->files.Checkpoint(state, writer->table, kept, length / spec::kChunk);
  ASSERT_TRUE(status.ok()) << status.message();
}

TEST_P(SessionTest, OlderIndexPagesPutBackAreStale) {
  Result<Writer> writer = StartSession(io(), root(), "s", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(writer->Save(io(), 640).ok());
  const std::vector<std::byte> old = Peek(io(), Path("index"), 0, 2 * kIoAlignment);
  CutAndGoOn(io(), &*writer, 200, 2, 640);
  writer->files = std::move(StartSession(io(), root(), "x", 1)->files);  // closes it
  {
    const Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    for (int64_t chunk = 0; chunk < 10; ++chunk) EXPECT_TRUE(opened->table.Complete(chunk));
  }
  Poke(io(), Path("index"), 0, old);
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->report.damaged_entries, 0);
  EXPECT_EQ(opened->report.stale_chunks, 7);
  for (int64_t chunk = 0; chunk < 10; ++chunk) {
    EXPECT_EQ(opened->table.Complete(chunk), chunk < 3) << chunk;
  }
}

TEST_P(SessionTest, AnOlderManifestPutBackIsNoticed) {
  Make({100, 200});
  const int64_t size = SizeOf(io(), Path("manifest.0"));
  const std::vector<std::byte> old = Peek(io(), Path("manifest.0"), 0, size);
  {
    Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok());
    Writer writer{std::move(opened->files), std::move(opened->table), 1};
    for (const int64_t length : {300, 400, 500}) ASSERT_TRUE(writer.Save(io(), length).ok());
  }
  Poke(io(), Path("manifest.0"), 0, old);  // generation 2 where 4 was, beside 5
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->state, MakeState(500, 1));
  EXPECT_THAT(opened->report.other_slot, HasSubstr("holds generation 2, expected 4"));
}

TEST_P(SessionTest, AManifestInTheWrongSlotIsNotUsed) {
  Make({100, 200});
  const int64_t size = SizeOf(io(), Path("manifest.0"));
  Poke(io(), Path("manifest.1"), 0, Peek(io(), Path("manifest.0"), 0, size));
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok());
  EXPECT_THAT(opened->report.other_slot, HasSubstr("generation 2 does not belong into it"));
}

TEST_P(SessionTest, CutFilesAreLeftOutFromTheCutOn) {
  if (GetParam().simulated) GTEST_SKIP() << "skipped: the others can be cut";
  Make({1000, 2000});
  const int64_t index = SizeOf(io(), Path("index"));
  for (int64_t bytes = index - kIoAlignment; bytes >= 0; bytes -= kIoAlignment) {
    std::filesystem::resize_file(Path("index"), static_cast<uintmax_t>(bytes));
    const Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(opened->state, MakeState(2000, 1));
    const int64_t whole = bytes / (kShape.layers * kEntry);
    for (int64_t i = 0; i < 31; ++i) EXPECT_EQ(opened->table.Complete(i), i < whole) << i;
  }
  const int64_t slot = SizeOf(io(), Path("manifest.0"));
  for (int64_t bytes = slot - 1; bytes >= 0; bytes -= 1500) {
    std::filesystem::resize_file(Path("manifest.0"), static_cast<uintmax_t>(bytes));
    const Result<OpenedSession> opened = Open("s");
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    EXPECT_EQ(opened->state, MakeState(1000, 1));
    EXPECT_THAT(opened->report.other_slot, Not(IsEmpty()));
  }
  std::filesystem::remove(Path("manifest.0"));
  const Status status = Open("s").status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("manifest.0\": the file is missing"));
}

TEST_P(SessionTest, AnotherIdentityIsRefusedByTheNameOfWhatDiffers) {
  Make({100});
  const struct {
    std::function<void(SessionIdentity*)> change;
    const char* text;
  } kCases[] = {
      {[](auto* i) { i->config[31] ^= 1; }, "model config"},
      {[](auto* i) { i->tokenizer[0] ^= 1; }, "tokenizer: sha256 707070707070 stored, sha256 71"},
      {[](auto* i) { i->weights[0] ^= 1; }, "weights: sha256 eeeeeeeeeeee stored, sha256 ef"},
      {[](auto* i) { i->shape.layers = 4; }, "layers: 3 stored, 4 now"},
      {[](auto* i) { i->shape.kv_heads = 4; }, "KV heads: 2 stored, 4 now"},
      {[](auto* i) { i->shape.head_dim = 64; }, "head dimension: 32 stored, 64 now"},
      {[](auto* i) { i->dtype = "f32"; }, "dtype of K/V: \"bf16\" stored, \"f32\" now"},
      {[](auto* i) { i->format = 2; }, "format version: 1 stored, 2 now"},
  };
  for (size_t i = 0; i < std::size(kCases); ++i) {
    SessionIdentity identity = MakeIdentity();
    kCases[i].change(&identity);
    const Status status = Open("s", identity).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(kCases[i].text));
    for (size_t k = 0; k < std::size(kCases); ++k) {
      if (k == i) continue;
      const std::string_view other = kCases[k].text;
      EXPECT_THAT(status.message(), Not(HasSubstr(other.substr(0, other.find(':')))));
    }
  }
  EXPECT_TRUE(Open("s").ok());
}

TEST_P(SessionTest, AFileOfAnotherFormatIsRefused) {
  Make({100, 200});
  SessionState state = MakeState(100, 1);
  ManifestHead head;
  head.generation = 3;
  head.store_id = kStoreId;
  head.name = "s";
  head.identity = MakeIdentity();
  head.identity.format = 2;
  head.chunks.resize(1);
  Poke(io(), Path("manifest.1"), 0, EncodeManifest(head, state));
  const Status status = Open("s").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("format version: 2 stored, this build reads 1"));
}

TEST_P(SessionTest, ADirectoryOfAnotherNameIsRefused) {
  Make({100});
  ASSERT_TRUE(io()->MakeDirectory(Joined(root(), SessionDirectoryName("t"))).ok());
  for (const char* file : {"records", "index", "manifest.0", "manifest.1"}) {
    ASSERT_TRUE(io()->Rename(Path(file), FileOf(root(), "t", file)).ok());
  }
  const Status status = Open("t").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("belongs to session \"s\""));
}

TEST_P(SessionTest, IsOpenOnce) {
  Result<Writer> writer = StartSession(io(), root(), "s", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  EXPECT_EQ(Open("s").status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(StartSession(io(), root(), "s", 1).status().code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(writer->Save(io(), 100).ok());
  EXPECT_THAT(Open("s").status().message(), HasSubstr("session \"s\": "));
  writer = NotFound("closed");
  const Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(Open("s").status().code(), StatusCode::kResourceExhausted);
}

TEST_P(SessionTest, IsCreatedOnceAndLeftoversAreReplaced) {
  EXPECT_EQ(Open("s").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(StartSession(io(), root(), "s", 1).ok());
  EXPECT_EQ(Open("s").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Open("t").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(io()->RemoveFile(Path("records")).ok());
  Make({100});
  const Status status = StartSession(io(), root(), "s", 1).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("session \"s\" exists"));
  EXPECT_EQ(Open("s")->state, MakeState(100, 1));
}

TEST_P(SessionTest, ATornFirstCheckpointIsReplacedAndADamagedLaterOneIsNot) {
  Make({100});
  Poke(io(), Path("manifest.1"), 0, std::vector<std::byte>(kIoAlignment, std::byte{7}));
  EXPECT_EQ(Open("s").status().code(), StatusCode::kDataLoss);
  Make({100, 200});
  for (const char* manifest : {"manifest.0", "manifest.1"}) {
    Poke(io(), Path(manifest), 0, std::vector<std::byte>(kIoAlignment, std::byte{7}));
  }
  EXPECT_EQ(Open("s").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(StartSession(io(), root(), "s", 1).status().code(), StatusCode::kInvalidArgument);
}

TEST_P(SessionTest, AnInterruptedDeletionIsFinishedByTheNextCreation) {
  Make({100, 200});
  ASSERT_TRUE(io()->RemoveFile(Path("manifest.0")).ok());
  EXPECT_EQ(Open("s").status().code(), StatusCode::kDataLoss);
  Make({300});
  EXPECT_EQ(Open("s")->state, MakeState(300, 1));
}

TEST_P(SessionTest, BadNamesShapesAndIdentitiesAreRefused) {
  const auto create = [&](const std::string& name, const SessionIdentity& identity) {
    return SessionFiles::Create(io(), root(), name, identity, kStoreId).status();
  };
  EXPECT_EQ(create("", MakeIdentity()).code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(create(std::string(256, 'x'), MakeIdentity()).message(), HasSubstr("has 256"));
  SessionIdentity identity = MakeIdentity();
  identity.shape.layers = 0;
  EXPECT_THAT(create("s", identity).message(), HasSubstr("0 layers"));
  identity.shape = {.layers = 1, .kv_heads = 1, .head_dim = 8};
  EXPECT_THAT(create("s", identity).message(), HasSubstr("no multiple of 4096"));
  identity = MakeIdentity();
  identity.dtype = "f16";
  EXPECT_THAT(create("s", identity).message(), HasSubstr("\"f16\""));
  EXPECT_EQ(io()->List(root()).status().code(), StatusCode::kNotFound);
  for (const std::string& name : {std::string("../../etc/passwd"), std::string("a\0b\n\x1b[31m", 9),
                                  std::string(255, '\xFF')}) {
    ASSERT_TRUE(create(name, MakeIdentity()).ok());
    EXPECT_EQ(io()->List(root())->size(), 2u);  // the lock and one directory
    EXPECT_TRUE(IsSessionDirectoryName(io()->List(root())->front()));
    ASSERT_TRUE(RemoveSession(io(), root(), Joined(root(), SessionDirectoryName(name))).ok());
  }
}

TEST_P(SessionTest, TheTruncatingRuleIsHeld) {
  Result<Writer> writer = StartSession(io(), root(), "s", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(writer->Save(io(), 640).ok());
  SessionFiles& files = writer->files;
  const auto refused = [&](const SessionState& state, int64_t first, int64_t end) {
    const Status status = files.Checkpoint(state, writer->table, first, end);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(files.generation(), 1u);
    EXPECT_FALSE(files.failed());
    return status.message();
  };
  SessionState edited = MakeState(640, 1);
  edited.tokens[200] ^= 1;
  EXPECT_THAT(refused(edited, 3, 10), HasSubstr("chunk 3 holds other tokens"));
  EXPECT_THAT(refused(MakeState(500, 1), 2, 7), HasSubstr("cut from 10 closed chunks to 7"));
  writer->table.Resize(12);
  EXPECT_THAT(refused(MakeState(768, 1), 11, 12), HasSubstr("after 10"));
  EXPECT_THAT(refused(MakeState(768, 1), 10, 11), HasSubstr("after 10"));
  EXPECT_THAT(refused(MakeState(768, 1), 10, 13), HasSubstr("after 10"));
  EXPECT_THAT(refused(MakeState(832, 1), 10, 13), HasSubstr("table of 12"));
  writer->table.generation(11, 1) = 3;
  EXPECT_THAT(refused(MakeState(768, 1), 10, 12), HasSubstr("generation 3 before checkpoint 2"));
  writer->table.Resize(10);
  CutAndGoOn(io(), &*writer, 130, 5, 500);
  EXPECT_EQ(files.generation(), 3u);
  EXPECT_EQ(files.acknowledged_length(), 500);
}

TEST_P(SessionTest, MissingRecordsStayMissingAndCanBeWrittenAgain) {
  Result<Writer> writer = StartSession(io(), root(), "s", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(WriteRecords(io(), writer->files.data_file(), 1, 1, 0, 10, &writer->table).ok());
  writer->table.generation(4, 1) = 0;
  ASSERT_TRUE(writer->files.Checkpoint(MakeState(640, 1), writer->table, 0, 10).ok());
  writer = NotFound("closed");
  Result<OpenedSession> opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(opened->report.damaged_entries + opened->report.stale_chunks, 0);
  EXPECT_EQ(opened->table.generation(4, 1), 0u);
  EXPECT_EQ(opened->table.generation(4, 0), 1u);
  const uint64_t next = opened->files.next_generation();
  ASSERT_TRUE(WriteRecords(io(), opened->files.data_file(), 1, next, 4, 5, &opened->table).ok());
  ASSERT_TRUE(opened->files.Checkpoint(opened->state, opened->table, 4, 5).ok());
  opened = NotFound("closed");
  opened = Open("s");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  for (int64_t chunk = 0; chunk < 10; ++chunk) EXPECT_TRUE(opened->table.Complete(chunk));
  EXPECT_EQ(opened->table.generation(4, 1), 2u);
}

}  // namespace
}  // namespace hga
