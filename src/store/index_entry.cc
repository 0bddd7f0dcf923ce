// SPDX-License-Identifier: Apache-2.0
// Index entries to bytes and back.
#include "store/index_entry.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "spec/layout.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hga {
namespace {

constexpr std::array<char, 4> kMagic = {'H', 'G', 'A', 'I'};
constexpr int64_t kPitchUnit = 64;

// The start of an entry; checksums of cells follow, zeros, and the entry's own checksum at its end.
struct EntryHeader {
  std::array<char, 4> magic = kMagic;
  uint32_t format = kStoreFormat;
  StoreId store_id = {};
  Digest model = {};
  uint32_t layer = 0;
  uint32_t chunk_tokens = spec::kChunk;
  uint64_t chunk = 0;
  uint64_t generation = 0;
  std::array<char, 8> dtype = {};
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  uint64_t record_bytes = 0;
};
static_assert(sizeof(EntryHeader) == 104 && std::has_unique_object_representations_v<EntryHeader>,
              "written as it lies in memory");

size_t SumsBytes(const HistoryShape& shape) {
  return static_cast<size_t>(CellsPerRecord(shape)) * sizeof(uint64_t);
}

EntryHeader MakeHeader(const IndexIdentity& identity, int64_t chunk, int layer,
                       uint64_t generation) {
  EntryHeader header;
  header.store_id = identity.store_id;
  header.model = identity.model;
  header.layer = static_cast<uint32_t>(layer);
  header.chunk = static_cast<uint64_t>(chunk);
  header.generation = generation;
  std::ranges::copy(kStoredDtype, header.dtype.begin());
  header.kv_heads = static_cast<uint32_t>(identity.shape.kv_heads);
  header.head_dim = static_cast<uint32_t>(identity.shape.head_dim);
  header.record_bytes = static_cast<uint64_t>(RecordBytes(identity.shape));
  return header;
}

uint64_t OwnSum(std::span<const std::byte> entry) {
  return XXH3_64bits(entry.data(), entry.size() - sizeof(uint64_t));
}

bool IsZero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// Whether `entry` is sound; its generation (0: no record) and sums into the table.
bool DecodeEntry(const IndexIdentity& identity, int64_t chunk, int layer, uint64_t newest,
                 std::span<const std::byte> entry, int64_t row, RecordTable* table) {
  if (IsZero(entry)) {
    table->generation(row, layer) = 0;
    return true;
  }
  uint64_t own = 0;
  std::memcpy(&own, entry.last(sizeof(own)).data(), sizeof(own));
  if (own != OwnSum(entry)) return false;
  uint64_t generation = 0;
  std::memcpy(&generation, entry.data() + offsetof(EntryHeader, generation), sizeof(generation));
  if (generation == 0 || generation > newest) return false;
  const EntryHeader expected = MakeHeader(identity, chunk, layer, generation);
  if (std::memcmp(entry.data(), &expected, sizeof(expected)) != 0) return false;
  const size_t used = sizeof(expected) + SumsBytes(identity.shape);
  if (!IsZero(entry.subspan(used, entry.size() - sizeof(own) - used))) return false;
  table->generation(row, layer) = generation;
  std::memcpy(table->sums(row, layer).data(), entry.data() + sizeof(expected),
              SumsBytes(identity.shape));
  return true;
}

}  // namespace

int64_t IndexEntryBytes(const HistoryShape& shape) {
  const int64_t bytes =
      static_cast<int64_t>(sizeof(EntryHeader) + SumsBytes(shape) + sizeof(uint64_t));
  return spec::CeilDiv(bytes, kPitchUnit) * kPitchUnit;
}

int64_t IndexChunkBytes(const HistoryShape& shape) { return shape.layers * IndexEntryBytes(shape); }

void EncodeIndexChunk(const IndexIdentity& identity, const RecordTable& table, int64_t chunk,
                      std::span<std::byte> out) {
  const size_t pitch = static_cast<size_t>(IndexEntryBytes(identity.shape));
  std::ranges::fill(out, std::byte{0});
  for (int layer = 0; layer < identity.shape.layers; ++layer) {
    if (table.generation(chunk, layer) == 0) continue;
    const std::span<std::byte> entry = out.subspan(static_cast<size_t>(layer) * pitch, pitch);
    const EntryHeader header = MakeHeader(identity, chunk, layer, table.generation(chunk, layer));
    std::memcpy(entry.data(), &header, sizeof(header));
    std::memcpy(entry.data() + sizeof(header), table.sums(chunk, layer).data(),
                SumsBytes(identity.shape));
    const uint64_t own = OwnSum(entry);
    std::memcpy(entry.last(sizeof(own)).data(), &own, sizeof(own));
  }
}

uint64_t ChunkSum(std::span<const std::byte> entries) {
  return XXH3_64bits(entries.data(), entries.size());
}

ChunkEntries DecodeIndexChunk(const IndexIdentity& identity, int64_t chunk, uint64_t newest,
                              uint64_t sum, std::span<const std::byte> entries, int64_t row,
                              RecordTable* table) {
  const size_t pitch = static_cast<size_t>(IndexEntryBytes(identity.shape));
  ChunkEntries found;
  for (int layer = 0; layer < identity.shape.layers; ++layer) {
    const auto entry = entries.subspan(static_cast<size_t>(layer) * pitch, pitch);
    if (!DecodeEntry(identity, chunk, layer, newest, entry, row, table)) ++found.damaged;
  }
  found.stale = found.damaged == 0 && ChunkSum(entries) != sum;
  if (!found.usable()) {
    for (int layer = 0; layer < identity.shape.layers; ++layer) table->generation(row, layer) = 0;
  }
  return found;
}

}  // namespace hga
