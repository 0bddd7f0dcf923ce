// SPDX-License-Identifier: Apache-2.0
// Checksums of records.
#include "store/record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hga {

uint64_t CellSum(std::span<const std::byte> cell) { return XXH3_64bits(cell.data(), cell.size()); }

void RecordTable::Resize(int64_t chunks) {
  const size_t records = static_cast<size_t>(chunks * shape_.layers);
  generations_.resize(records);
  sums_.resize(records * cells());
  chunks_ = chunks;
}

bool RecordTable::Complete(int64_t chunk) const {
  for (int layer = 0; layer < shape_.layers; ++layer) {
    if (generation(chunk, layer) == 0) return false;
  }
  return true;
}

}  // namespace hga
