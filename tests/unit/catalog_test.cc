// SPDX-License-Identifier: Apache-2.0
// Catalogs on every kind of disk: what is listed, verified, removed and found.
#include "store/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/session_fixture.h"

namespace hga {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CatalogTest : public SessionPlaceTest {
 protected:
  Catalog catalog() { return Catalog(io(), root()); }
  void Make(const std::string& name, uint64_t seed, const std::vector<int64_t>& lengths) {
    MakeSession(io(), root(), name, seed, lengths);
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const Result<std::vector<SessionEntry>> entries = catalog().List();
    EXPECT_TRUE(entries.ok()) << entries.status().message();
    for (const SessionEntry& entry : *entries) names.push_back(entry.name);
    std::ranges::sort(names);
    return names;
  }
  SessionEntry Entry(const std::string& name) {
    const Result<std::vector<SessionEntry>> entries = catalog().List();
    for (const SessionEntry& entry : *entries) {
      if (entry.directory == SessionDirectoryName(name)) return entry;
    }
    ADD_FAILURE() << name << " is not listed";
    return {};
  }
  int64_t Bytes(const std::string& name) {
    int64_t bytes = 0;
    for (const char* file : {"records", "index", "manifest.0", "manifest.1"}) {
      bytes += SizeOf(io(), FileOf(root(), name, file));
    }
    return bytes;
  }
};
INSTANTIATE_TEST_SUITE_P(Disks, CatalogTest, testing::ValuesIn(kPlaces),
                         testing::PrintToStringParamName());

TEST_P(CatalogTest, NoRootIsAnEmptyCatalog) {
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(*catalog().Usage(), 0);
  EXPECT_EQ(catalog().Delete("a").code(), StatusCode::kNotFound);
  EXPECT_EQ(catalog().Verify("a", {}).status().code(), StatusCode::kNotFound);
  EXPECT_THAT(catalog().Prune(0)->removed, IsEmpty());
  EXPECT_EQ(catalog().FindLongestPrefix(MakeIdentity(), MakeState(100, 1).tokens)->name, "");
}

TEST_P(CatalogTest, ListsWhatIsThere) {
  Make("a", 1, {100});
  Make("b", 2, {200, 300});
  EXPECT_THAT(Names(), ElementsAre("a", "b"));
  const SessionEntry b = Entry("b");
  EXPECT_EQ(b.tokens, 300);
  EXPECT_EQ(b.saved_at, MakeState(300, 2).saved_at);
  EXPECT_EQ(b.bytes, Bytes("b"));
  EXPECT_EQ(b.model, Hex(IdentityDigest(MakeIdentity())).substr(0, 12));
  EXPECT_EQ(b.status, SessionStatus::kGood);
  EXPECT_EQ(*catalog().Usage(), Bytes("a") + Bytes("b"));
}

TEST_P(CatalogTest, FindsOneByItsName) {
  EXPECT_EQ(catalog().Find("b").status().code(), StatusCode::kNotFound);
  Make("a", 1, {100});
  Make("b", 2, {300});
  const Result<SessionEntry> found = catalog().Find("b");
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->name, "b");
  EXPECT_EQ(found->tokens, 300);
  EXPECT_EQ(found->bytes, Bytes("b"));
  EXPECT_EQ(catalog().Find("c").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(catalog().Find("").status().code(), StatusCode::kInvalidArgument);
}

TEST_P(CatalogTest, SessionsInUseAreListedAndLeftAlone) {
  Make("a", 1, {100});
  const Result<OpenedSession> opened = Open("a");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(Entry("a").status, SessionStatus::kLocked);
  EXPECT_EQ(Entry("a").tokens, 100);
  EXPECT_EQ(catalog().Delete("a").code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(catalog().Verify("a", {}).status().code(), StatusCode::kResourceExhausted);
  const Result<PruneReport> pruned = catalog().Prune(0);
  ASSERT_TRUE(pruned.ok()) << pruned.status().message();
  EXPECT_EQ(pruned->locked, 1);
  EXPECT_THAT(pruned->removed, IsEmpty());
  EXPECT_EQ(pruned->bytes_left, Bytes("a"));
}

TEST_P(CatalogTest, VerifyCountsGoodDamagedAndMissing) {
  Make("a", 1, {1000});
  Result<VerifyReport> report = catalog().Verify("a", {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_TRUE(report->ok());
  EXPECT_EQ(report->good, 15 * kShape.layers);

  const std::string records = FileOf(root(), "a", "records");
  const int64_t bytes = RecordBytes(kShape);
  FlipBit(io(), records, RecordOffset(kShape, 3, 1), 0);
  FlipBit(io(), records, RecordOffset(kShape, 14, 2) + bytes - 1, 7);
  FlipBit(io(), FileOf(root(), "a", "index"), 7 * kShape.layers * kEntry, 0);
  report = catalog().Verify("a", {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_FALSE(report->ok());
  EXPECT_EQ(report->records, 15 * kShape.layers);
  EXPECT_EQ(report->damaged, 2);
  EXPECT_EQ(report->missing, kShape.layers);
  EXPECT_EQ(report->good, 14 * kShape.layers - 2);
  EXPECT_FALSE(report->tail_damaged);

  FlipBit(io(), FileOf(root(), "a", "manifest.1"),
          SizeOf(io(), FileOf(root(), "a", "manifest.1")) - 1, 0);
  EXPECT_TRUE(catalog().Verify("a", {})->tail_damaged);
}

TEST_P(CatalogTest, VerifyFindsABitInEverySector) {
  Make("a", 1, {70});
  const std::string records = FileOf(root(), "a", "records");
  const int64_t bytes = kShape.layers * RecordBytes(kShape);
  for (int64_t at = 0; at < bytes; at += 512) {
    FlipBit(io(), records, at + at / 512 % 512, static_cast<int>(at / 512 % 8));
    EXPECT_EQ(catalog().Verify("a", {})->damaged, 1) << at;
    FlipBit(io(), records, at + at / 512 % 512, static_cast<int>(at / 512 % 8));
  }
  EXPECT_TRUE(catalog().Verify("a", {})->ok());
}

TEST_P(CatalogTest, VerifyFindsSwappedRecords) {
  Make("a", 1, {1000});
  const std::string records = FileOf(root(), "a", "records");
  const int64_t bytes = RecordBytes(kShape);
  const auto first = Peek(io(), records, RecordOffset(kShape, 3, 1), bytes);
  const auto second = Peek(io(), records, RecordOffset(kShape, 9, 1), bytes);
  Poke(io(), records, RecordOffset(kShape, 3, 1), second);
  Poke(io(), records, RecordOffset(kShape, 9, 1), first);
  EXPECT_EQ(catalog().Verify("a", {})->damaged, 2);
}

TEST_P(CatalogTest, VerifyTellsItsProgressAndStops) {
  Make("a", 1, {1000});
  std::vector<int64_t> done;
  const auto stop_at_3 = [&](int64_t bytes, int64_t all) {
    EXPECT_EQ(all, RecordOffset(kShape, 15, 0));
    done.push_back(bytes);
    return done.size() < 3;
  };
  EXPECT_EQ(catalog().Verify("a", stop_at_3).status().code(), StatusCode::kCancelled);
  EXPECT_THAT(done, ElementsAre(RecordOffset(kShape, 1, 0), RecordOffset(kShape, 2, 0),
                                RecordOffset(kShape, 3, 0)));
}

TEST_P(CatalogTest, DeleteLeavesNothing) {
  Make("a", 1, {100});
  Make("b", 2, {100});
  ASSERT_TRUE(catalog().Delete("a").ok());
  EXPECT_THAT(Names(), ElementsAre("b"));
  EXPECT_EQ(io()->List(root())->size(), 2u);
  EXPECT_EQ(catalog().Delete("a").code(), StatusCode::kNotFound);
  EXPECT_EQ(Open("a").status().code(), StatusCode::kNotFound);
  Make("a", 3, {200});
  EXPECT_EQ(Open("a")->state, MakeState(200, 3));
}

TEST_P(CatalogTest, PruneRemovesTheOldestUntilTheQuotaHolds) {
  Make("old", 1, {100});  // the more tokens, the later it was saved
  Make("older", 1, {90});
  Make("new", 1, {300});
  const int64_t quota = Bytes("new") + Bytes("old");
  Result<PruneReport> report = catalog().Prune(quota);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(report->removed.size(), 1u);
  EXPECT_EQ(report->removed[0].name, "older");
  EXPECT_EQ(report->bytes_left, quota);
  EXPECT_THAT(Names(), ElementsAre("new", "old"));
  report = catalog().Prune(quota - 1);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_THAT(Names(), ElementsAre("new"));
  EXPECT_EQ(*catalog().Usage(), report->bytes_left);
}

TEST_P(CatalogTest, DamagedSessionsAreListedAndPrunedWhateverTheQuota) {
  ASSERT_TRUE(StartSession(io(), root(), "leftover", 1).ok());
  Make("broken", 1, {100});
  FlipBit(io(), FileOf(root(), "broken", "manifest.1"), 100, 0);
  Make("headless", 1, {100});
  ASSERT_TRUE(io()->RemoveFile(FileOf(root(), "headless", "records")).ok());
  ASSERT_TRUE(io()->MakeDirectory(Joined(root(), SessionDirectoryName("bare"))).ok());
  Make("moved", 1, {100});
  ASSERT_TRUE(io()->MakeDirectory(Joined(root(), SessionDirectoryName("here"))).ok());
  for (const char* file : {"records", "index", "manifest.0", "manifest.1"}) {
    ASSERT_TRUE(io()->Rename(FileOf(root(), "moved", file), FileOf(root(), "here", file)).ok());
  }
  Make("good", 1, {100});
  const struct {
    const char* name;
    const char* why;
  } kCases[] = {{"leftover", "never written"},
                {"broken", "checksum is wrong"},
                {"headless", "records\": the file is missing"},
                {"bare", "manifest.0\": the file is missing"},
                {"moved", "manifest.0\": the file is missing"},
                {"here", "belongs to session \"moved\""}};
  for (const auto& [name, why] : kCases) {
    const SessionEntry entry = Entry(name);
    EXPECT_EQ(entry.status, SessionStatus::kDamaged) << name;
    EXPECT_THAT(entry.why, HasSubstr(why));
  }
  const Result<PruneReport> report = catalog().Prune(int64_t{1} << 40);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->removed.size(), std::size(kCases));
  EXPECT_THAT(Names(), ElementsAre("good"));
  EXPECT_EQ(io()->List(root())->size(), 2u);
}

// Sound, and none of this program's business.
TEST_P(CatalogTest, PruneLeavesOtherFormatsAlone) {
  Make("newer", 1, {100});
  SessionState state = MakeState(100, 1);
  ManifestHead head;
  head.generation = 2;
  head.store_id = kStoreId;
  head.name = "newer";
  head.identity = MakeIdentity();
  head.identity.format = 2;
  head.chunks.resize(1);
  Poke(io(), FileOf(root(), "newer", "manifest.0"), 0, EncodeManifest(head, state));
  const SessionEntry entry = Entry("newer");
  EXPECT_EQ(entry.status, SessionStatus::kUnreadable);
  EXPECT_THAT(entry.why, HasSubstr("format version"));
  const Result<PruneReport> report = catalog().Prune(0);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_THAT(report->removed, IsEmpty());
  EXPECT_EQ(report->locked, 1);
  EXPECT_TRUE(catalog().Delete("newer").ok());
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_P(CatalogTest, FindsTheLongestPrefixOfTheSameIdentity) {
  Make("short", 1, {100});
  Make("long", 1, {500});
  Make("else", 2, {900});
  const std::vector<int32_t> tokens = MakeState(300, 1).tokens;
  const auto find = [&](const SessionIdentity& identity, std::span<const int32_t> wanted) {
    const Result<PrefixMatch> match = catalog().FindLongestPrefix(identity, wanted);
    EXPECT_TRUE(match.ok()) << match.status().message();
    return *match;
  };
  EXPECT_EQ(find(MakeIdentity(), tokens).name, "long");
  EXPECT_EQ(find(MakeIdentity(), tokens).tokens, 300);
  EXPECT_EQ(find(MakeIdentity(), std::span(tokens).first(64)).tokens, 64);
  EXPECT_EQ(find(MakeIdentity(), std::span(tokens).first(63)).name, "");
  std::vector<int32_t> other = tokens;
  other[150] ^= 1;
  EXPECT_EQ(find(MakeIdentity(), other).name, "long");
  EXPECT_EQ(find(MakeIdentity(), other).tokens, 150);
  other[40] ^= 1;
  EXPECT_EQ(find(MakeIdentity(), other).name, "");
  SessionIdentity identity = MakeIdentity();
  identity.weights[5] ^= 1;
  EXPECT_EQ(find(identity, tokens).name, "");
}

}  // namespace
}  // namespace hga
