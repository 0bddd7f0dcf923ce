// SPDX-License-Identifier: Apache-2.0
// The manifest of a session as bytes: all that can't be computed again, and the statement of which
// records belong to it. Pure, so that it can be fuzzed. Byte table: docs/format/store.md.
#ifndef HGA_STORE_MANIFEST_H_
#define HGA_STORE_MANIFEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hga/status.h"
#include "store/digest.h"
#include "store/identity.h"

namespace hga {

inline constexpr int64_t kMaxSessionName = 255;        // bytes, at least 1
inline constexpr int64_t kMaxSessionTokens = 1 << 26;  //
inline constexpr int64_t kMaxSpanRuns = kMaxSessionTokens;
inline constexpr int64_t kMaxRuleRuns = 4096;
inline constexpr int64_t kMaxRuleText = 4096;  // bytes of one text
inline constexpr int64_t kMaxSamplerBytes = 1 << 20;
inline constexpr int64_t kMaxExtraBytes = 64 << 20;

// `count` spans of `rows` tokens, one after another; a decode step is a span of one row.
struct SpanRun {
  int64_t rows = 0;
  int64_t count = 0;
  friend bool operator==(const SpanRun&, const SpanRun&) = default;
};

// The next `tokens` tokens were computed under this attention rule.
struct RuleRun {
  int64_t tokens = 0;
  std::string text;
  friend bool operator==(const RuleRun&, const RuleRun&) = default;
};

// What the owner of a session wants kept. Spans and rules each cover all tokens exactly.
struct SessionState {
  std::vector<int32_t> tokens;
  std::vector<SpanRun> spans;
  std::vector<RuleRun> rules;
  std::vector<std::byte> sampler;  // opaque
  std::string extra;               // opaque, of the application: turns of a chat
  int64_t saved_at = 0;            // unix seconds
  // K/V of the unfinished chunk, [layers][RecordBytes]; empty when no chunk is unfinished, and
  // when its K/V is to be computed again.
  std::vector<std::byte> tail;
  friend bool operator==(const SessionState&, const SessionState&) = default;
};

// One closed chunk as the manifest knows it.
struct ChunkKey {
  Digest chain = {};     // over the identity and all tokens up to its end (store/prefix.h)
  uint64_t records = 0;  // ChunkSum over the index entries of all its layers
  friend bool operator==(const ChunkKey&, const ChunkKey&) = default;
};

// What the store itself writes into a manifest.
struct ManifestHead {
  uint64_t generation = 0;  // 1 for the first, one more each time
  StoreId store_id = {};
  std::string name;
  SessionIdentity identity;
  std::vector<ChunkKey> chunks;  // [closed chunks]
  friend bool operator==(const ManifestHead&, const ManifestHead&) = default;
};

struct Manifest {
  ManifestHead head;
  SessionState state;
};

// The first bytes of a slot. Their layout is the same in every format version.
inline constexpr int64_t kManifestHeaderBytes = 80;
struct ManifestHeader {
  uint32_t format = 0;
  uint64_t generation = 0;
  int64_t payload_bytes = 0;                 // follow the header
  int64_t tail_bytes = 0;                    // begin at TailOffset()
  std::array<uint8_t, 16> payload_sum = {};  // XXH3-128
  std::array<uint8_t, 16> tail_sum = {};
  int64_t TailOffset() const;  // the next multiple of kIoAlignment after the payload
  int64_t FileBytes() const;   // whole sectors
};

// kInvalidArgument when tokens, spans, rules or sizes contradict each other or a bound.
Status CheckState(const SessionState& state, const HistoryShape& shape);
// The whole slot, a multiple of kIoAlignment. Both parts must have been checked.
std::vector<std::byte> EncodeManifest(const ManifestHead& head, const SessionState& state);

// kDataLoss: not a header, damaged, or longer than the `file_bytes` there are. kInvalidArgument: a
// sound header of another format version.
Result<ManifestHeader> ParseManifestHeader(std::span<const std::byte> bytes, int64_t file_bytes);
// `payload` [payload_bytes]. The state's tail is left empty. kDataLoss with what is wrong.
Result<Manifest> ParseManifest(const ManifestHeader& header, std::span<const std::byte> payload);
// Whether `tail` [tail_bytes] is what was saved.
bool TailMatches(const ManifestHeader& header, std::span<const std::byte> tail);

}  // namespace hga

#endif  // HGA_STORE_MANIFEST_H_
