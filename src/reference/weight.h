// SPDX-License-Identifier: Apache-2.0
// One weight element as the law counts it: float32(stored value x its scale).
#ifndef HGA_REFERENCE_WEIGHT_H_
#define HGA_REFERENCE_WEIGHT_H_

#include "backend/ops.h"
#include "spec/layout.h"

namespace hga::reference {

inline float WeightAt(const WeightView& w, int64_t row, int64_t col) {
  const int64_t i = row * w.cols + col;
  switch (w.dtype) {
    case Dtype::kF32:
      return static_cast<const float*>(w.data)[i];
    case Dtype::kF16:
      return F16ToFloat(static_cast<const uint16_t*>(w.data)[i]);
    case Dtype::kBf16:
      return Bf16ToFloat(static_cast<const Bf16*>(w.data)[i]);
    case Dtype::kFp8:
      break;
  }
  const float scale = w.scales[row / 128 * spec::CeilDiv(w.cols, 128) + col / 128];
  return Fp8ToFloat(static_cast<const Fp8*>(w.data)[i]) * scale;
}

// Inner product of x [cols] with a row of W.
inline double DotRow(const float* x, const WeightView& w, int64_t row) {
  double sum = 0;
  for (int64_t c = 0; c < w.cols; ++c) sum += static_cast<double>(x[c]) * WeightAt(w, row, c);
  return sum;
}

}  // namespace hga::reference

#endif  // HGA_REFERENCE_WEIGHT_H_
