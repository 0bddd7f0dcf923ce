// SPDX-License-Identifier: Apache-2.0
// Looks for values no weight may have. Scans are branch-free so that they run at memory speed.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "model/checkpoint.h"

namespace hga {
namespace {

// Elements scanned before the result is looked at.
constexpr int64_t kBlock = 4096;

template <typename T>
T Load(const std::byte* data, int64_t i) {
  T value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));  // may be unaligned
  return value;
}

// Position of the first of `count` elements for which `is_bad`, -1 if none.
template <typename T, typename IsBad>
int64_t FirstBad(const std::byte* data, int64_t count, IsBad is_bad) {
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t end = std::min(count, start + kBlock);
    uint32_t bad = 0;
    for (int64_t i = start; i < end; ++i) bad |= is_bad(Load<T>(data, i)) ? 1u : 0u;
    if (bad == 0) continue;
    for (int64_t i = start; i < end; ++i) {
      if (is_bad(Load<T>(data, i))) return i;
    }
  }
  return -1;
}

struct Finding {
  int64_t at = -1;
  double value = 0;
};

// `bits` with the exponent's bits in `exponent` are NaN or infinity; a scale must also be above 0.
template <typename T, T kExponent, typename ToFloat>
Finding ScanFloats(const std::byte* data, int64_t count, bool scale, ToFloat to_float) {
  constexpr T kSign = static_cast<T>(T{1} << (sizeof(T) * 8 - 1));
  const auto not_finite = [](T bits) { return (bits & kExponent) == kExponent; };
  const auto bad_scale = [](T bits) {
    return (bits & kExponent) == kExponent || (bits & kSign) != 0 || bits == 0;
  };
  const int64_t at =
      scale ? FirstBad<T>(data, count, bad_scale) : FirstBad<T>(data, count, not_finite);
  return at < 0 ? Finding{} : Finding{at, to_float(Load<T>(data, at))};
}

Finding Scan(StoredDtype dtype, const std::byte* data, int64_t count, bool scale) {
  switch (dtype) {
    case StoredDtype::kBf16:
      return ScanFloats<uint16_t, 0x7F80>(data, count, scale, Bf16ToFloat);
    case StoredDtype::kF16:
      return ScanFloats<uint16_t, 0x7C00>(data, count, scale, F16ToFloat);
    case StoredDtype::kF32:
      return ScanFloats<uint32_t, 0x7F800000u>(
          data, count, scale, [](uint32_t bits) { return std::bit_cast<float>(bits); });
    case StoredDtype::kF8E4m3: {
      const int64_t at =
          FirstBad<uint8_t>(data, count, [](uint8_t bits) { return (bits & 0x7F) == 0x7F; });
      return at < 0 ? Finding{} : Finding{at, std::nan("")};
    }
    default:
      return {};  // kinds that CheckTensors refuses
  }
}

}  // namespace

Status CheckValues(const TensorInfo& tensor, const std::string& path, const void* data,
                   int64_t bytes, int64_t first) {
  const bool scale = tensor.name.ends_with("_scale_inv");
  const int64_t count = bytes * 8 / DtypeBits(tensor.dtype);
  const Finding finding = Scan(tensor.dtype, static_cast<const std::byte*>(data), count, scale);
  if (finding.at < 0) return OkStatus();
  return DataLoss(fmt::format("{}: tensor {}, element {} of {} is {}, {} is needed", Quoted(path),
                              Quoted(tensor.name), first + finding.at, tensor.elements(),
                              finding.value,
                              scale ? "a finite number above 0" : "a finite number"));
}

}  // namespace hga
