// SPDX-License-Identifier: Apache-2.0
// Chunk records in reserved memory.
#include "store/history.h"

#include "base/check.h"
#include "spec/layout.h"

namespace hga {

Result<KvHistory> KvHistory::Make(const HistoryShape& shape, int64_t capacity) {
  KvHistory h;
  h.shape_ = shape;
  const int64_t chunks = spec::CeilDiv(capacity, spec::kChunk);
  h.capacity_ = capacity;
  h.cells_ = chunks * spec::kCellsPerChunk;
  const int64_t record = spec::RecordElements(shape.kv_heads, shape.head_dim);
  for (int layer = 0; layer < shape.layers; ++layer) {
    HGA_ASSIGN_OR_RETURN(Array<Bf16> records,
                         Array<Bf16>::Make(static_cast<size_t>(chunks * record)));
    HGA_ASSIGN_OR_RETURN(Array<const Bf16*> table,
                         Array<const Bf16*>::Make(static_cast<size_t>(h.cells_ * shape.kv_heads)));
    for (int head = 0; head < shape.kv_heads; ++head) {
      for (int64_t cell = 0; cell < h.cells_; ++cell) {
        table[static_cast<size_t>(head * h.cells_ + cell)] =
            records.data() + cell / spec::kCellsPerChunk * record +
            spec::CellOffset(head, static_cast<int>(cell % spec::kCellsPerChunk), shape.head_dim);
      }
    }
    h.records_.push_back(std::move(records));
    h.table_.push_back(std::move(table));
  }
  return h;
}

Bf16* KvHistory::Key(int layer, int kv_head, int64_t position) {
  HGA_DCHECK(position >= 0 && position < capacity_);
  const int64_t cell = kv_head * cells_ + position / spec::kCell;
  // The table is const for readers; the owner of the records may write.
  Bf16* base = const_cast<Bf16*>(table_[static_cast<size_t>(layer)][static_cast<size_t>(cell)]);
  return base + spec::KeyRow(static_cast<int>(position % spec::kCell), shape_.head_dim);
}

Bf16* KvHistory::Value(int layer, int kv_head, int64_t position) {
  return Key(layer, kv_head, position) + int64_t{spec::kCell} * shape_.head_dim;
}

const Bf16* const* KvHistory::cells(int layer) const {
  return table_[static_cast<size_t>(layer)].data();
}

void KvHistory::Truncate(int64_t length) {
  const int64_t first =
      spec::CeilDiv(length, spec::kChunk) * spec::RecordElements(shape_.kv_heads, shape_.head_dim);
  for (Array<Bf16>& records : records_) records.Release(static_cast<size_t>(first));
}

int64_t KvHistory::BytesPerToken(const HistoryShape& shape) {
  return int64_t{shape.layers} * spec::RecordElements(shape.kv_heads, shape.head_dim) *
         static_cast<int64_t>(sizeof(Bf16)) / spec::kChunk;
}

}  // namespace hga
