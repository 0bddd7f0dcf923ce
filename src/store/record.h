// SPDX-License-Identifier: Apache-2.0
// The unit of storage: the K/V of one closed chunk of one layer, where its bytes lie in a file, and
// the checksums that are kept apart from them. Byte tables: docs/format/store.md.
#ifndef HGA_STORE_RECORD_H_
#define HGA_STORE_RECORD_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "spec/layout.h"

namespace hga {

struct HistoryShape {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  friend bool operator==(const HistoryShape&, const HistoryShape&) = default;
};

// Bytes of a cell of one KV head: K [8][head_dim], V [8][head_dim] in bf16; 4 KiB for 128.
inline int64_t CellBytes(const HistoryShape& s) {
  return spec::CellElements(s.head_dim) * static_cast<int64_t>(sizeof(Bf16));
}
// Bytes of a record, [kv_heads][8 cells]; a multiple of 4 KiB for head_dim 32 and more.
inline int64_t RecordBytes(const HistoryShape& s) {
  return spec::RecordElements(s.kv_heads, s.head_dim) * static_cast<int64_t>(sizeof(Bf16));
}
inline int CellsPerRecord(const HistoryShape& s) { return s.kv_heads * spec::kCellsPerChunk; }
// A data file holds records [chunk][layer], so that a sequence grows at the end of its file.
inline int64_t RecordOffset(const HistoryShape& s, int64_t chunk, int layer) {
  return (chunk * s.layers + layer) * RecordBytes(s);
}

// XXH3-64 of a cell's bytes, taken where they are first final.
uint64_t CellSum(std::span<const std::byte> cell);

// Generations and checksums of a sequence's records, in memory. A record that was never written,
// or was dropped, has generation 0. Grows by whole chunks.
class RecordTable {
 public:
  explicit RecordTable(const HistoryShape& shape) : shape_(shape) {}

  const HistoryShape& shape() const { return shape_; }
  int64_t chunks() const { return chunks_; }
  // New records have generation 0; records beyond are forgotten.
  void Resize(int64_t chunks);

  uint64_t& generation(int64_t chunk, int layer) { return generations_[At(chunk, layer)]; }
  uint64_t generation(int64_t chunk, int layer) const { return generations_[At(chunk, layer)]; }
  // [CellsPerRecord]: of cell c of KV head h at h * 8 + c.
  std::span<uint64_t> sums(int64_t chunk, int layer) {
    return std::span(sums_).subspan(At(chunk, layer) * cells(), cells());
  }
  std::span<const uint64_t> sums(int64_t chunk, int layer) const {
    return std::span(sums_).subspan(At(chunk, layer) * cells(), cells());
  }
  // Whether every layer of `chunk` has a record.
  bool Complete(int64_t chunk) const;

 private:
  size_t cells() const { return static_cast<size_t>(CellsPerRecord(shape_)); }
  size_t At(int64_t chunk, int layer) const {
    return static_cast<size_t>(chunk * shape_.layers + layer);
  }

  HistoryShape shape_;
  int64_t chunks_ = 0;
  std::vector<uint64_t> generations_;  // [chunks][layers]
  std::vector<uint64_t> sums_;         // [chunks][layers][CellsPerRecord]
};

}  // namespace hga

#endif  // HGA_STORE_RECORD_H_
