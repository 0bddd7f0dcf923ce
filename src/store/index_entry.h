// SPDX-License-Identifier: Apache-2.0
// Index entries as bytes: what a record must be to be believed. Pure, so that it can be fuzzed.
// Byte table: docs/format/store.md.
#ifndef HGA_STORE_INDEX_ENTRY_H_
#define HGA_STORE_INDEX_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "store/digest.h"
#include "store/identity.h"
#include "store/record.h"

namespace hga {

// What all entries of a session have in common.
struct IndexIdentity {
  StoreId store_id = {};
  Digest model = {};  // IdentityDigest
  HistoryShape shape;
};

// Bytes from one entry to the next. Entries lie [chunk][layer], like records.
int64_t IndexEntryBytes(const HistoryShape& shape);
// Of the entries of one chunk, [layers].
int64_t IndexChunkBytes(const HistoryShape& shape);

// The entries of one chunk into `out` [IndexChunkBytes]; zeros for a record of generation 0.
void EncodeIndexChunk(const IndexIdentity& identity, const RecordTable& table, int64_t chunk,
                      std::span<std::byte> out);
// What a manifest says about the entries of a chunk: XXH3-64 of `entries` [IndexChunkBytes].
uint64_t ChunkSum(std::span<const std::byte> entries);

struct ChunkEntries {
  int64_t damaged = 0;  // entries: wrong checksum, another session's or place's, or too new
  bool stale = false;   // none is damaged, and together they are not what the manifest speaks of
  bool usable() const { return damaged == 0 && !stale; }
};

// Entries of `chunk` into row `row` of `table`; all layers get generation 0 unless everything is as
// acknowledged: `sum`, and no generation beyond `newest`.
ChunkEntries DecodeIndexChunk(const IndexIdentity& identity, int64_t chunk, uint64_t newest,
                              uint64_t sum, std::span<const std::byte> entries, int64_t row,
                              RecordTable* table);

}  // namespace hga

#endif  // HGA_STORE_INDEX_ENTRY_H_
