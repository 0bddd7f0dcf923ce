// SPDX-License-Identifier: Apache-2.0
// Fuzzes the reader of index entries: no crash, and whatever it believes is written again as the
// same bytes. Entries are sealed with their own checksum, or none would be believed.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "store/index_entry.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr size_t kPrefix = 2;  // chooses shape and target, and the newest generation
constexpr int64_t kChunkNumber = 3;
constexpr hga::HistoryShape kShapes[] = {{.layers = 1, .kv_heads = 1, .head_dim = 16},
                                         {.layers = 3, .kv_heads = 2, .head_dim = 32},
                                         {.layers = 2, .kv_heads = 4, .head_dim = 128}};

void Require(bool condition) {
  if (!condition) std::abort();
}

hga::IndexIdentity IdentityOf(uint8_t choice) {
  hga::IndexIdentity identity;
  identity.store_id.fill(7);
  identity.model.fill(9);
  identity.shape = kShapes[choice % std::size(kShapes)];
  return identity;
}

void Seal(const hga::HistoryShape& shape, std::span<std::byte> entries) {
  const size_t pitch = static_cast<size_t>(hga::IndexEntryBytes(shape));
  for (int layer = 0; layer < shape.layers; ++layer) {
    const auto entry = entries.subspan(static_cast<size_t>(layer) * pitch, pitch);
    if (std::ranges::all_of(entry, [](std::byte b) { return b == std::byte{0}; })) continue;
    const uint64_t sum = XXH3_64bits(entry.data(), pitch - sizeof(uint64_t));
    std::memcpy(entry.last(sizeof(sum)).data(), &sum, sizeof(sum));
  }
}

std::vector<std::byte> SoundEntries(const hga::IndexIdentity& identity, std::mt19937& random) {
  hga::RecordTable table(identity.shape);
  table.Resize(kChunkNumber + 1);
  for (int layer = 0; layer < identity.shape.layers; ++layer) {
    table.generation(kChunkNumber, layer) = random() % 4;
    std::ranges::generate(table.sums(kChunkNumber, layer), random);
  }
  std::vector<std::byte> bytes(static_cast<size_t>(hga::IndexChunkBytes(identity.shape)));
  hga::EncodeIndexChunk(identity, table, kChunkNumber, bytes);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kPrefix) return 0;
  const hga::IndexIdentity identity = IdentityOf(data[0]);
  std::vector<std::byte> entries(static_cast<size_t>(hga::IndexChunkBytes(identity.shape)));
  std::memcpy(entries.data(), data + kPrefix, std::min(size - kPrefix, entries.size()));
  if (data[0] >= 64) Seal(identity.shape, entries);
  const uint64_t newest = data[1];
  hga::RecordTable table(identity.shape);
  table.Resize(kChunkNumber + 1);
  const hga::ChunkEntries found = hga::DecodeIndexChunk(
      identity, kChunkNumber, newest, hga::ChunkSum(entries), entries, kChunkNumber, &table);
  Require(!found.stale && found.damaged <= identity.shape.layers);
  for (int layer = 0; layer < identity.shape.layers; ++layer) {
    Require(table.generation(kChunkNumber, layer) <= (found.usable() ? newest : 0));
  }
  if (!found.usable()) return 0;
  std::vector<std::byte> again(entries.size());
  hga::EncodeIndexChunk(identity, table, kChunkNumber, again);
  Require(again == entries);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  std::mt19937 random(seed);
  if (size >= kPrefix && random() % 8 != 0) return LLVMFuzzerMutate(data, size, max_size);
  const uint8_t choice = static_cast<uint8_t>(random());
  const std::vector<std::byte> entries = SoundEntries(IdentityOf(choice), random);
  if (kPrefix + entries.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  data[0] = choice;
  data[1] = 3;
  std::memcpy(data + kPrefix, entries.data(), entries.size());
  return kPrefix + entries.size();
}
