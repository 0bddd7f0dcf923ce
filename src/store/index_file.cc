// SPDX-License-Identifier: Apache-2.0
// Pages of the index.
#include "store/index_file.h"

#include <algorithm>

#include "spec/layout.h"

namespace hga {
namespace {

constexpr int64_t kWindow = 4 << 20;  // bytes moved at a time, at least one chunk

int64_t RoundDown(int64_t bytes) { return bytes / kIoAlignment * kIoAlignment; }
int64_t RoundUp(int64_t bytes) { return spec::CeilDiv(bytes, kIoAlignment) * kIoAlignment; }

// One stretch of pages; appends the sums of chunks [first, end).
Status WritePages(const IoFile& file, const IndexIdentity& identity, const RecordTable& table,
                  int64_t first, int64_t end, std::vector<uint64_t>* sums) {
  const int64_t chunk_bytes = IndexChunkBytes(identity.shape);
  const int64_t from = RoundDown(first * chunk_bytes), to = RoundUp(end * chunk_bytes);
  // Whole chunks around the pages; cut to the pages when they are written.
  const int64_t outer_first = from / chunk_bytes;
  const int64_t outer_end = spec::CeilDiv(to, chunk_bytes);
  std::vector<std::byte> bytes(static_cast<size_t>((outer_end - outer_first) * chunk_bytes));
  for (int64_t chunk = outer_first; chunk < std::min(outer_end, table.chunks()); ++chunk) {
    const auto out = std::span(bytes).subspan(
        static_cast<size_t>((chunk - outer_first) * chunk_bytes), static_cast<size_t>(chunk_bytes));
    EncodeIndexChunk(identity, table, chunk, out);
    if (chunk >= first && chunk < end) sums->push_back(ChunkSum(out));
  }
  const int64_t skip = from - outer_first * chunk_bytes;
  return file.Write(
      from, std::span(bytes).subspan(static_cast<size_t>(skip), static_cast<size_t>(to - from)));
}

}  // namespace

Status WriteIndex(const IoFile& file, const IndexIdentity& identity, const RecordTable& table,
                  int64_t first, int64_t end, std::vector<uint64_t>* sums) {
  const int64_t step = std::max(int64_t{1}, kWindow / IndexChunkBytes(identity.shape));
  sums->clear();
  for (int64_t chunk = first; chunk < end; chunk += step) {
    HGA_RETURN_IF_ERROR(
        WritePages(file, identity, table, chunk, std::min(chunk + step, end), sums));
  }
  return OkStatus();
}

Result<IndexReader> IndexReader::Make(const IoFile* file, const HistoryShape& shape,
                                      int64_t chunks) {
  IndexReader reader;
  reader.file_ = file;
  reader.chunk_bytes_ = IndexChunkBytes(shape);
  // A chunk begins anywhere in its first page.
  const int64_t least = reader.chunk_bytes_ + kIoAlignment;
  const int64_t window = std::max(least, std::min(kWindow, chunks * reader.chunk_bytes_));
  HGA_ASSIGN_OR_RETURN(reader.window_, Pages::Reserve(static_cast<size_t>(RoundUp(window))));
  return reader;
}

std::span<const std::byte> IndexReader::Chunk(int64_t chunk) {
  const int64_t from = chunk * chunk_bytes_;
  if (from < begin_ || from + chunk_bytes_ > end_) {
    begin_ = RoundDown(from);
    end_ = begin_ + static_cast<int64_t>(window_.size());
    // All ones: neither an entry nor, like zeros, the absence of one.
    file_->ReadWhatIsThere(begin_, {window_.data(), window_.size()}, std::byte{0xFF});
  }
  return {window_.data() + (from - begin_), static_cast<size_t>(chunk_bytes_)};
}

Result<IndexReport> LoadIndex(const IoFile& file, const IndexIdentity& identity,
                              const ManifestHead& head, RecordTable* table) {
  const int64_t chunks = static_cast<int64_t>(head.chunks.size());
  HGA_ASSIGN_OR_RETURN(IndexReader reader, IndexReader::Make(&file, identity.shape, chunks));
  table->Resize(chunks);
  IndexReport report;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const uint64_t sum = head.chunks[static_cast<size_t>(chunk)].records;
    const ChunkEntries found =
        DecodeIndexChunk(identity, chunk, head.generation, sum, reader.Chunk(chunk), chunk, table);
    report.damaged_entries += found.damaged;
    report.stale_chunks += found.stale ? 1 : 0;
  }
  return report;
}

}  // namespace hga
