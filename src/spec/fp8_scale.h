// SPDX-License-Identifier: Apache-2.0
// The scale of an FP8 summary: the smallest power of two that keeps a vector within 448.
#ifndef HGA_SPEC_FP8_SCALE_H_
#define HGA_SPEC_FP8_SCALE_H_

#include <bit>
#include <cstdint>

#include "spec/layout.h"

namespace hga::spec {

// n of the scale 2^n for a vector whose largest magnitude is `largest` (finite, >= 0), by exponent
// bits: 448 = 1.75 * 2^8, so the mantissa decides whether one more doubling is needed.
HGA_HD inline int Fp8ScaleExponent(float largest) {
  if (largest == 0.f) return 0;
  uint32_t bits = std::bit_cast<uint32_t>(largest);
  int exponent = static_cast<int>(bits >> 23) - 127;
  uint32_t mantissa = bits & 0x7FFFFFu;
  if (bits < 0x800000u) {  // subnormal: normalise
    const int shift = std::countl_zero(bits) - 8;
    exponent = -126 - shift;
    mantissa = (bits << shift) & 0x7FFFFFu;
  }
  const int n = exponent - 8 + (mantissa > 0x600000u ? 1 : 0);
  // 2^n and 2^-n must both be normal float32 numbers.
  return n < -126 ? -126 : n;
}

// 2^n as float32, n in [-126, 127].
HGA_HD inline float PowerOfTwo(int n) {
  return std::bit_cast<float>(static_cast<uint32_t>(n + 127) << 23);
}

}  // namespace hga::spec

#endif  // HGA_SPEC_FP8_SCALE_H_
