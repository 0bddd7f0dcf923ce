// SPDX-License-Identifier: Apache-2.0
// The index of a session on the disk: written in whole pages from the table in memory, read back
// chunk by chunk.
#ifndef HGA_STORE_INDEX_FILE_H_
#define HGA_STORE_INDEX_FILE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "hga/status.h"
#include "store/index_entry.h"
#include "store/io_file.h"
#include "store/manifest.h"
#include "store/record.h"

namespace hga {

// Writes the pages that hold the entries of chunks [first, end). What else lies in them is written
// from the table too: the same bytes again, so that a torn page damages none of it. `sums` gets
// one ChunkSum per chunk of the range.
Status WriteIndex(const IoFile& file, const IndexIdentity& identity, const RecordTable& table,
                  int64_t first, int64_t end, std::vector<uint64_t>* sums);

// Entries of one chunk after the other. What can't be read comes as bytes that no entry has.
class IndexReader {
 public:
  // For chunks [0, chunks) of `file`, which must outlive it.
  static Result<IndexReader> Make(const IoFile* file, const HistoryShape& shape, int64_t chunks);
  // [IndexChunkBytes], until the next call. Ascending chunks are read ahead.
  std::span<const std::byte> Chunk(int64_t chunk);

 private:
  const IoFile* file_ = nullptr;
  int64_t chunk_bytes_ = 0;
  int64_t begin_ = 0, end_ = 0;  // bytes of the file in `window_`
  Pages window_;
};

struct IndexReport {
  int64_t damaged_entries = 0;
  int64_t stale_chunks = 0;
};
// All entries that `head` speaks of into `table`, which gets as many chunks.
Result<IndexReport> LoadIndex(const IoFile& file, const IndexIdentity& identity,
                              const ManifestHead& head, RecordTable* table);

}  // namespace hga

#endif  // HGA_STORE_INDEX_FILE_H_
