// SPDX-License-Identifier: Apache-2.0
// Loads of stored elements, widened to float32 on the way.
#ifndef HGA_CUDA_PRIMITIVES_COPY_CUH_
#define HGA_CUDA_PRIMITIVES_COPY_CUH_

#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "base/dtype.h"

namespace hga::cuda {

// Element types as distinct C++ types: Bf16 and f16 bits are both uint16_t in the interface.
struct F16Bits {
  uint16_t bits;
};

__device__ inline float Widen(float x) { return x; }
__device__ inline float Widen(Bf16 x) { return __uint_as_float(static_cast<uint32_t>(x) << 16); }
__device__ inline float Widen(F16Bits x) { return __half2float(__ushort_as_half(x.bits)); }
// Exact: every E4M3 value is an f16. (0x7F, NaN, is refused when weights are loaded.)
__device__ inline float Widen(Fp8 x) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(x, __NV_E4M3)));
}

// The two bf16 values of a word, the lower address first.
__device__ inline float2 WidenPair(uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u)};
}

// 16 consecutive elements, 16-byte aligned.
__device__ inline void Load16(const float* p, float (&out)[16]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(p) + i);
    out[4 * i] = v.x, out[4 * i + 1] = v.y, out[4 * i + 2] = v.z, out[4 * i + 3] = v.w;
  }
}

__device__ inline void Load16(const Bf16* p, float (&out)[16]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(p) + i);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 pair = WidenPair(words[j]);
      out[8 * i + 2 * j] = pair.x, out[8 * i + 2 * j + 1] = pair.y;
    }
  }
}

__device__ inline void Load16(const F16Bits* p, float (&out)[16]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(p) + i);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      out[8 * i + 2 * j] = Widen(F16Bits{static_cast<uint16_t>(words[j] & 0xFFFFu)});
      out[8 * i + 2 * j + 1] = Widen(F16Bits{static_cast<uint16_t>(words[j] >> 16)});
    }
  }
}

__device__ inline void Load16(const Fp8* p, float (&out)[16]) {
  const uint4 v = __ldg(reinterpret_cast<const uint4*>(p));
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const auto pair = static_cast<__nv_fp8x2_storage_t>(words[i / 2] >> (16 * (i % 2)));
    const float2 wide = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3)));
    out[2 * i] = wide.x, out[2 * i + 1] = wide.y;
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_PRIMITIVES_COPY_CUH_
