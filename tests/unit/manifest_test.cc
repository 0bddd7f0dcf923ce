// SPDX-License-Identifier: Apache-2.0
// Manifests and index entries as bytes: nothing damaged is believed, nothing large is allocated on
// the word of a file, and the documented example is what the code writes.
#include "store/manifest.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "store/bytes.h"
#include "store/prefix.h"
#include "tests/unit/session_fixture.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kHuge = int64_t{1} << 40;  // bytes of a file that sets no bound

ManifestHead MakeHead(const SessionState& state, uint64_t generation) {
  ManifestHead head;
  head.generation = generation;
  head.store_id = kStoreId;
  head.name = "a name";
  head.identity = MakeIdentity();
  for (const Digest& chain : PrefixChain(IdentityDigest(head.identity), state.tokens)) {
    head.chunks.push_back({chain, 42 + head.chunks.size()});
  }
  return head;
}

Result<Manifest> Parse(std::span<const std::byte> slot) {
  HGA_ASSIGN_OR_RETURN(const ManifestHeader header,
                       ParseManifestHeader(slot, static_cast<int64_t>(slot.size())));
  const auto payload =
      slot.subspan(kManifestHeaderBytes, static_cast<size_t>(header.payload_bytes));
  HGA_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(header, payload));
  const auto tail = slot.subspan(static_cast<size_t>(header.TailOffset()),
                                 static_cast<size_t>(header.tail_bytes));
  if (!TailMatches(header, tail)) return DataLoss("tail");
  manifest.state.tail.assign(tail.begin(), tail.end());
  return manifest;
}

TEST(Manifest, RoundTripsAtEveryKindOfLength) {
  for (const int64_t tokens : {0, 1, 63, 64, 65, 128, 200, 6400}) {
    const SessionState state = MakeState(tokens, 3);
    const ManifestHead head = MakeHead(state, 9);
    const std::vector<std::byte> slot = EncodeManifest(head, state);
    EXPECT_EQ(slot.size() % kIoAlignment, 0u);
    const Result<Manifest> back = Parse(slot);
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(back->head, head) << tokens;
    EXPECT_EQ(back->state, state) << tokens;
  }
}

TEST(Manifest, EveryFlippedBitIsFound) {
  const SessionState state = MakeState(70, 3);
  std::vector<std::byte> slot = EncodeManifest(MakeHead(state, 9), state);
  const ManifestHeader header = *ParseManifestHeader(slot, kHuge);
  int64_t flipped = 0;
  for (size_t at = 0; at < slot.size(); ++at) {
    const int64_t place = static_cast<int64_t>(at);
    const bool padding =
        place >= kManifestHeaderBytes + header.payload_bytes && place < header.TailOffset();
    // The tail is long: one bit of each of its bytes.
    const bool tail = place >= header.TailOffset();
    for (int bit = tail ? place % 8 : 0; bit < 8 && !padding; bit += tail ? 8 : 1) {
      slot[at] ^= static_cast<std::byte>(1 << bit);
      EXPECT_EQ(Parse(slot).status().code(), StatusCode::kDataLoss) << at << "." << bit;
      slot[at] ^= static_cast<std::byte>(1 << bit);
      ++flipped;
    }
  }
  EXPECT_TRUE(Parse(slot).ok());
  EXPECT_GT(flipped, 8 * (kManifestHeaderBytes + header.payload_bytes));
}

TEST(Manifest, EveryCutIsFound) {
  const SessionState state = MakeState(70, 3);
  const std::vector<std::byte> slot = EncodeManifest(MakeHead(state, 9), state);
  for (size_t length = 0; length < kManifestHeaderBytes; ++length) {
    EXPECT_FALSE(ParseManifestHeader(std::span(slot).first(length), kHuge).ok()) << length;
  }
  const auto begin = std::span(slot).first(kIoAlignment);
  for (size_t length = 0; length < slot.size(); length += 512) {
    EXPECT_FALSE(ParseManifestHeader(begin, static_cast<int64_t>(length)).ok()) << length;
  }
}

TEST(Manifest, AnotherFormatIsRefusedByName) {
  const SessionState state = MakeState(70, 3);
  ManifestHead head = MakeHead(state, 9);
  head.identity.format = kStoreFormat + 1;
  const Status status = ParseManifestHeader(EncodeManifest(head, state), kHuge).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("format version: 2 stored, this build reads 1"));
}

// A header that vouches for any payload.
ManifestHeader Vouch(std::span<const std::byte> payload) {
  ManifestHeader header;
  header.format = kStoreFormat;
  header.generation = 1;
  header.payload_bytes = static_cast<int64_t>(payload.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(payload.data(), payload.size()));
  std::memcpy(header.payload_sum.data(), canonical.digest, sizeof(canonical.digest));
  return header;
}

// Payload of a state of no tokens, whose fields have fixed places, with one number replaced.
template <typename T>
Status ParseWith(size_t offset, T value, std::string_view more = "") {
  const SessionState state = MakeState(0, 3);
  const ManifestHead head = MakeHead(state, 1);
  const std::vector<std::byte> slot = EncodeManifest(head, state);
  const ManifestHeader header = *ParseManifestHeader(slot, kHuge);
  std::vector<std::byte> payload(slot.begin() + kManifestHeaderBytes,
                                 slot.begin() + kManifestHeaderBytes + header.payload_bytes);
  std::memcpy(payload.data() + offset, &value, sizeof(value));
  for (const char c : more) payload.push_back(static_cast<std::byte>(c));
  return ParseManifest(Vouch(payload), payload).status();
}

TEST(Manifest, NumbersOutOfBoundsAreNamedBeforeAnythingIsAllocated) {
  // name (4 + 6), store id 16, digests 96, shape 12, dtype 8, time 8, tokens 8, spans 4, rules 4,
  // sampler 4 + 37, extra 8 + 7
  constexpr size_t kShapeAt = 4 + 6 + 16 + 96, kDtypeAt = kShapeAt + 12;
  constexpr size_t kTokensAt = kDtypeAt + 8 + 8, kSpansAt = kTokensAt + 8;
  constexpr size_t kRulesAt = kSpansAt + 4, kSamplerAt = kRulesAt + 4;
  constexpr size_t kExtraAt = kSamplerAt + 4 + 37;
  EXPECT_TRUE(ParseWith(0, uint32_t{6}).ok());
  const struct {
    Status status;
    const char* text;
  } kCases[] = {
      {ParseWith(0, uint32_t{0}), "the name is empty"},
      {ParseWith(0, uint32_t{256}), "256 'name'"},
      {ParseWith(0, ~uint32_t{0}), "'name'"},
      {ParseWith(kShapeAt, uint32_t{0}), "0 layers"},
      {ParseWith(kShapeAt, ~uint32_t{0}), "shape 4294967295"},
      {ParseWith(kShapeAt, uint32_t{kMaxStoredLayers + 1}), "1025 layers"},
      {ParseWith(kShapeAt + 4, uint32_t{1 << 20}), "1048576 KV heads"},
      {ParseWith(kShapeAt + 8, uint32_t{9}), "no multiple of 4096"},
      {ParseWith(kDtypeAt + 7, char{'x'}), "behind the end of 'dtype'"},
      {ParseWith(kTokensAt, ~uint64_t{0}), "18446744073709551615 'tokens'"},
      {ParseWith(kTokensAt, uint64_t{kMaxSessionTokens + 1}), "67108865 'tokens'"},
      {ParseWith(kTokensAt, uint64_t{1} << 62), "'tokens'"},
      {ParseWith(kSpansAt, ~uint32_t{0}), "'spans'"},
      {ParseWith(kRulesAt, uint32_t{kMaxRuleRuns + 1}), "4097 'rules'"},
      {ParseWith(kRulesAt, uint32_t{1}), "rule"},
      {ParseWith(kSamplerAt, uint32_t{kMaxSamplerBytes + 1}), "'sampler state'"},
      {ParseWith(kExtraAt, uint64_t{kMaxExtraBytes + 1}), "'application data'"},
      {ParseWith(kExtraAt, uint64_t{6}), "1 bytes too many"},
      {ParseWith(0, uint32_t{6}, "xyz"), "3 bytes too many"},
  };
  for (const auto& [status, text] : kCases) {
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << text;
    EXPECT_THAT(status.message(), HasSubstr(text));
  }
}

TEST(Manifest, StatesThatContradictThemselvesAreRefused) {
  const auto check = [](const std::function<void(SessionState*)>& spoil) {
    SessionState state = MakeState(100, 1);
    EXPECT_TRUE(CheckState(state, kShape).ok());
    spoil(&state);
    const Status status = CheckState(state, kShape);
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kInvalidArgument);
    return status.message();
  };
  const auto on = [&](auto spoil) { return check([&](SessionState* s) { spoil(*s); }); };
  EXPECT_THAT(on([](SessionState& s) { s.tokens[7] = -1; }), HasSubstr("token 7 is -1"));
  EXPECT_THAT(on([](SessionState& s) { s.tokens.push_back(1); }), HasSubstr("no span covers"));
  EXPECT_THAT(on([](SessionState& s) { s.spans[0].rows = 0; }), HasSubstr("spans of 0 tokens"));
  EXPECT_THAT(on([](SessionState& s) { s.spans[1].count = int64_t{1} << 62; }),
              HasSubstr("67 tokens are left"));
  EXPECT_THAT(on([](SessionState& s) { s.spans.pop_back(); }), HasSubstr("last 67 tokens"));
  EXPECT_THAT(on([](SessionState& s) { s.rules[1].tokens = 68; }), HasSubstr("a rule for 68"));
  EXPECT_THAT(on([](SessionState& s) { s.rules.clear(); }), HasSubstr("no rule covers"));
  EXPECT_THAT(on([](SessionState& s) { s.rules[0].text.assign(5000, 'x'); }),
              HasSubstr("a rule of 5000 bytes"));
  EXPECT_THAT(on([](SessionState& s) { s.sampler.resize(kMaxSamplerBytes + 1); }),
              HasSubstr("sampler state of 1048577"));
  EXPECT_THAT(on([](SessionState& s) { s.tail.pop_back(); }), HasSubstr("bytes of K/V"));
  EXPECT_EQ(on([](SessionState& s) { s.tail.clear(); }), "");
  SessionState whole = MakeState(128, 1);
  whole.tail = MakeState(100, 1).tail;
  EXPECT_THAT(CheckState(whole, kShape).message(), HasSubstr("K/V for the 0 tokens"));
}

class IndexEntryTest : public testing::Test {
 protected:
  IndexEntryTest() {
    table_.Resize(2);
    for (int64_t chunk = 0; chunk < 2; ++chunk) {
      for (int layer = 0; layer < kShape.layers; ++layer) {
        table_.generation(chunk, layer) = 5;
        for (uint64_t& sum : table_.sums(chunk, layer)) sum = ++last_;
      }
    }
    bytes_.resize(static_cast<size_t>(IndexChunkBytes(kShape)));
    EncodeIndexChunk(identity_, table_, 1, bytes_);
    sum_ = ChunkSum(bytes_);
  }
  ChunkEntries Decode(const IndexIdentity& identity, int64_t chunk, uint64_t newest, uint64_t sum) {
    found_.Resize(1);
    return DecodeIndexChunk(identity, chunk, newest, sum, bytes_, 0, &found_);
  }
  ChunkEntries Decode() { return Decode(identity_, 1, 5, sum_); }
  bool Empty() const {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      if (found_.generation(0, layer) != 0) return false;
    }
    return true;
  }

  IndexIdentity identity_{kStoreId, IdentityDigest(MakeIdentity()), kShape};
  RecordTable table_{kShape};
  RecordTable found_{kShape};
  std::vector<std::byte> bytes_;
  uint64_t sum_ = 0, last_ = 0;
};

TEST_F(IndexEntryTest, ComesBack) {
  ASSERT_EQ(IndexEntryBytes(kShape), kEntry);
  EXPECT_TRUE(Decode().usable());
  for (int layer = 0; layer < kShape.layers; ++layer) {
    EXPECT_EQ(found_.generation(0, layer), 5u);
    EXPECT_TRUE(std::ranges::equal(found_.sums(0, layer), table_.sums(1, layer)));
  }
}

TEST_F(IndexEntryTest, EveryFlippedBitIsFound) {
  for (size_t at = 0; at < bytes_.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes_[at] ^= static_cast<std::byte>(1 << bit);
      EXPECT_EQ(Decode().damaged, 1) << at << "." << bit;
      EXPECT_TRUE(Empty());
      bytes_[at] ^= static_cast<std::byte>(1 << bit);
    }
  }
  EXPECT_TRUE(Decode().usable());
}

TEST_F(IndexEntryTest, SoundEntriesOfAnotherPlaceSessionOrTimeAreNotBelieved) {
  EXPECT_EQ(Decode(identity_, 2, 5, sum_).damaged, kShape.layers);
  EXPECT_EQ(Decode(identity_, 1, 4, sum_).damaged, kShape.layers);
  IndexIdentity other = identity_;
  other.store_id[3] ^= 1;
  EXPECT_EQ(Decode(other, 1, 5, sum_).damaged, kShape.layers);
  other = identity_;
  other.model[31] ^= 1;
  EXPECT_EQ(Decode(other, 1, 5, sum_).damaged, kShape.layers);
  EXPECT_TRUE(Empty());
  std::swap_ranges(bytes_.begin(), bytes_.begin() + kEntry, bytes_.begin() + kEntry);
  EXPECT_EQ(Decode().damaged, 2);
}

TEST_F(IndexEntryTest, OlderEntriesOfTheSamePlaceAreStale) {
  for (uint64_t& sum : table_.sums(1, 2)) sum = ++last_;
  table_.generation(1, 2) = 4;
  EncodeIndexChunk(identity_, table_, 1, bytes_);
  const ChunkEntries found = Decode();
  EXPECT_EQ(found.damaged, 0);
  EXPECT_TRUE(found.stale);
  EXPECT_TRUE(Empty());
}

TEST_F(IndexEntryTest, AnAbsentRecordIsNoDamage) {
  table_.generation(1, 0) = 0;
  EncodeIndexChunk(identity_, table_, 1, bytes_);
  EXPECT_TRUE(Decode().stale);
  EXPECT_TRUE(Decode(identity_, 1, 5, ChunkSum(bytes_)).usable());
  EXPECT_EQ(found_.generation(0, 0), 0u);
  EXPECT_EQ(found_.generation(0, 1), 5u);
}

TEST(PrefixChain, DependsOnIdentityAndAllTokensBefore) {
  const std::vector<int32_t> tokens = MakeState(300, 1).tokens;
  const Digest identity = Sha256("identity");
  const std::vector<Digest> chain = PrefixChain(identity, tokens);
  ASSERT_EQ(chain.size(), 4u);
  EXPECT_EQ(PrefixChain(identity, std::span(tokens).first(191)).size(), 2u);
  for (const size_t place : {size_t{0}, size_t{63}, size_t{64}, size_t{200}, size_t{256}}) {
    std::vector<int32_t> other = tokens;
    other[place] ^= 1;
    const std::vector<Digest> changed = PrefixChain(identity, other);
    for (size_t i = 0; i < chain.size(); ++i) {
      EXPECT_EQ(chain[i] == changed[i], i < place / 64) << place;
    }
    EXPECT_EQ(CommonPrefix(tokens, other), static_cast<int64_t>(place));
  }
  EXPECT_NE(PrefixChain(Sha256("another"), tokens)[0], chain[0]);
  EXPECT_EQ(CommonPrefix(tokens, std::span(tokens).first(5)), 5);
  EXPECT_EQ(CommonPrefix(tokens, {}), 0);
  // SHA-256 of 32 + 256 zero bytes, by coreutils: head -c 288 /dev/zero | sha256sum
  const std::vector<int32_t> zeros(64, 0);
  EXPECT_EQ(Hex(PrefixChain(Digest{}, zeros)[0]),
            "2d5565fb483d8ea4525a7a9229677d1038ad34b6e22c8d5152e1d7f7b9817597");
}

// The bytes as docs/format/store.md shows them.
std::string Dump(std::span<const std::byte> bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 16 == 0) text += fmt::format("{:04x} ", i);
    text += fmt::format(" {:02x}", static_cast<unsigned>(bytes[i]));
    if (i % 16 == 15 || i + 1 == bytes.size()) text += '\n';
  }
  return text;
}

TEST(Documentation, ShowsWhatIsWritten) {
  const HistoryShape shape = {.layers = 1, .kv_heads = 1, .head_dim = 16};
  SessionIdentity identity = MakeIdentity();
  identity.shape = shape;
  RecordTable table(shape);
  table.Resize(1);
  table.generation(0, 0) = 1;
  const std::vector<std::byte> cell(static_cast<size_t>(CellBytes(shape)));
  std::ranges::fill(table.sums(0, 0), CellSum(cell));
  std::vector<std::byte> entry(static_cast<size_t>(IndexChunkBytes(shape)));
  EncodeIndexChunk({kStoreId, IdentityDigest(identity), shape}, table, 0, entry);

  SessionState state;
  state.tokens.assign(64, 0);
  state.spans = {{64, 1}};
  state.rules = {{64, "preset=default"}};
  state.saved_at = 1'800'000'000;
  ManifestHead head;
  head.generation = 1;
  head.store_id = kStoreId;
  head.name = "example";
  head.identity = identity;
  head.chunks = {{PrefixChain(IdentityDigest(identity), state.tokens)[0], ChunkSum(entry)}};
  const std::vector<std::byte> slot = EncodeManifest(head, state);

  std::ifstream file(HGA_SOURCE_DIR "/docs/format/store.md");
  ASSERT_TRUE(file.good());
  const std::string text = (std::stringstream() << file.rdbuf()).str();
  EXPECT_THAT(text, HasSubstr(Dump(entry)));
  EXPECT_THAT(text, HasSubstr(Dump(std::span(slot).first(kManifestHeaderBytes))));
  EXPECT_THAT(text, HasSubstr(SessionDirectoryName("example")));
}

}  // namespace
}  // namespace hga
