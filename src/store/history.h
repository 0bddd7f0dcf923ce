// SPDX-License-Identifier: Apache-2.0
// The K/V history of one sequence, all layers, in memory: chunk records and the cells attention
// reads. Knows records and nothing of queries.
#ifndef HGA_STORE_HISTORY_H_
#define HGA_STORE_HISTORY_H_

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "base/memory.h"
#include "hga/status.h"
#include "store/record.h"

namespace hga {

// Move-only. Room for `capacity` tokens is reserved as address space; a record takes memory when
// its first token is written.
class KvHistory {
 public:
  static Result<KvHistory> Make(const HistoryShape& shape, int64_t capacity);

  const HistoryShape& shape() const { return shape_; }
  int64_t capacity() const { return capacity_; }

  // Where the key and the value of one token go: [head_dim] each.
  Bf16* Key(int layer, int kv_head, int64_t position);
  Bf16* Value(int layer, int kv_head, int64_t position);
  // Cells of a layer by KV head: [kv_heads][cell_stride()].
  const Bf16* const* cells(int layer) const;
  int64_t cell_stride() const { return cells_; }
  // Gives the memory of whole chunks from `length` on back.
  void Truncate(int64_t length);

  static int64_t BytesPerToken(const HistoryShape& shape);

 private:
  HistoryShape shape_;
  int64_t capacity_ = 0;
  int64_t cells_ = 0;                      // per KV head
  std::vector<Array<Bf16>> records_;       // [layers] of [chunks][RecordElements]
  std::vector<Array<const Bf16*>> table_;  // [layers] of [kv_heads][cells_]
};

}  // namespace hga

#endif  // HGA_STORE_HISTORY_H_
