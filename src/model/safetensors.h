// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: a table of tensors and where their bytes lie.
#ifndef HGA_MODEL_SAFETENSORS_H_
#define HGA_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "hga/status.h"

namespace hga {

enum class StoredDtype : uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
  kC64,
  kF8E4m3,
  kF8E5m2,
  kF8E8m0,
  kF8E4m3Fnuz,
  kF8E5m2Fnuz,
  kF6E2m3,
  kF6E3m2,
  kF4,
};
std::string_view DtypeName(StoredDtype dtype);  // as the format spells it, e.g. "F8_E4M3"
int DtypeBits(StoredDtype dtype);

// One tensor as stored.
struct TensorInfo {
  std::string name;
  StoredDtype dtype = StoredDtype::kF32;
  int shard = 0;               // which file
  std::vector<int64_t> shape;  // empty: a scalar
  int64_t offset = 0;          // of its first byte in the file
  int64_t bytes = 0;

  int64_t elements() const;  // product of shape
};
std::string ShapeText(const std::vector<int64_t>& shape);  // "[512, 2048]"

// Limits beyond the format's own; a file outside them is refused.
inline constexpr int64_t kMaxHeaderBytes = 100'000'000;
inline constexpr int64_t kMaxTensors = int64_t{1} << 20;
inline constexpr int kMaxRank = 8;
inline constexpr int64_t kMaxDim = int64_t{1} << 48;
inline constexpr int kMaxNameBytes = 1024;

// Reads a header (without its 8 length bytes) that is followed by `data_bytes` of data. Checked:
// JSON, unique names, known dtypes, shapes, byte ranges that cover the data without hole or
// overlap. Tensors come in the order of their bytes, `shard` 0. kDataLoss names `file_name`, the
// tensor, the field and both numbers.
Result<std::vector<TensorInfo>> ParseSafetensorsHeader(std::string_view header_json,
                                                       int64_t data_bytes,
                                                       const std::string& file_name);

// The same from an open file, its length field included.
Result<std::vector<TensorInfo>> ReadSafetensorsHeader(const File& file);

// Positions in a list of tensors by name: (hash, position), sorted. Chosen names can make hashes
// collide, never the search slow: equal hashes are ordered by name.
using NameTable = std::vector<std::pair<uint64_t, int32_t>>;
NameTable BuildNameTable(std::span<const TensorInfo> tensors);
// Position of `name`, -1 if absent.
int32_t FindName(const NameTable& table, std::span<const TensorInfo> tensors,
                 std::string_view name);
// Positions of two tensors with equal names, (-1, -1) if there are none.
std::pair<int32_t, int32_t> FindDuplicate(const NameTable& table,
                                          std::span<const TensorInfo> tensors);

}  // namespace hga

#endif  // HGA_MODEL_SAFETENSORS_H_
