// SPDX-License-Identifier: Apache-2.0
// Element types of tensors and scalar conversions between float32 and bf16, f16 and E4M3.
#ifndef HGA_BASE_DTYPE_H_
#define HGA_BASE_DTYPE_H_

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/host_device.h"

namespace hga {

using Bf16 = uint16_t;  // bit patterns; arithmetic is always float32
using Fp8 = uint8_t;    // E4M3 (finite, 448 the largest, 0x7F and 0xFF are NaN)

enum class Dtype : uint8_t { kF32, kF16, kBf16, kFp8 };

HGA_HD constexpr int BytesOf(Dtype dtype) {
  return dtype == Dtype::kF32 ? 4 : dtype == Dtype::kFp8 ? 1 : 2;
}

HGA_HD inline float Bf16ToFloat(Bf16 b) {
  return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
}

// Nearest, ties to even; NaN stays NaN.
HGA_HD inline Bf16 FloatToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<Bf16>((bits >> 16) | 0x40);
  return static_cast<Bf16>((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}

HGA_HD inline float F16ToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) return (sign ? -1.f : 1.f) * std::ldexp(static_cast<float>(mantissa), -24);
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

HGA_HD inline float Fp8ToFloat(Fp8 b) {
  const int exponent = (b >> 3) & 15, mantissa = b & 7;
  float value;
  if (exponent == 15 && mantissa == 7) {
    value = std::bit_cast<float>(0x7FC00000u);
  } else if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    value = std::bit_cast<float>(static_cast<uint32_t>(exponent + 120) << 23 |
                                 static_cast<uint32_t>(mantissa) << 20);
  }
  return b & 128 ? -value : value;
}

// Nearest, ties to even, saturating at 448; NaN becomes NaN.
HGA_HD inline Fp8 FloatToFp8(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint8_t sign = static_cast<uint8_t>((bits >> 24) & 0x80);
  const float a = std::fabs(x);
  if (std::isnan(x)) return static_cast<Fp8>(sign | 0x7F);
  if (a >= 448.f) return static_cast<Fp8>(sign | 0x7E);
  if (a < 0x1p-6f) {  // subnormal: multiples of 2^-9; adding 2^14 rounds them to even
    const float r = (a + 0x1p14f) - 0x1p14f;
    return static_cast<Fp8>(sign | static_cast<uint8_t>(r * 0x1p9f));
  }
  uint32_t m = std::bit_cast<uint32_t>(a);
  m += 0x7FFFFu + ((m >> 20) & 1);  // round the 23-bit mantissa to 3 bits
  const uint32_t value = (m >> 20) - (120u << 3);
  return static_cast<Fp8>(sign | (value > 0x7E ? 0x7E : value));
}

}  // namespace hga

#endif  // HGA_BASE_DTYPE_H_
