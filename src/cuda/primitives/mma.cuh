// SPDX-License-Identifier: Apache-2.0
// The one matrix instruction in use, m16n8k16 of bf16 with float32 sums, and its operands.
//
// Lane = 4 g + t. A [16][16]: a0 (g, 2t..2t+1), a1 (g+8, 2t..), a2 (g, 2t+8..), a3 (g+8, 2t+8..).
// B [16][8]: b0 (2t..2t+1, g), b1 (2t+8.., g). C [16][8]: c0, c1 (g, 2t..2t+1), c2, c3 (g+8, ..).
// A result element is a function of its own row of A and column of B alone, wherever they stand.
#ifndef HGA_CUDA_PRIMITIVES_MMA_CUH_
#define HGA_CUDA_PRIMITIVES_MMA_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace hga::cuda {

// c += a b.
__device__ inline void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two floats rounded to bf16, the first in the lower half.
__device__ inline uint32_t PackBf16(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Two floats that hold bf16 values.
__device__ inline uint32_t PackExact(float first, float second) {
  return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
}

// Row g + 8 kHalf of a left operand over kDim inner elements, from float32 that holds bf16 values;
// null: zeros. Inner elements in the order that lets every lane take 16-byte pieces: step 2 j + h,
// slots {2t, 2t+1, 2t+8, 2t+9} are elements 8 (4 j + t) + 4 h + 0..3.
template <int kHalf, int kDim>
__device__ inline void LoadLeftRow(const float* row, uint32_t (&a)[kDim / 16][4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    float4 x{0.f, 0.f, 0.f, 0.f};
    if (row != nullptr) {
      x = __ldg(reinterpret_cast<const float4*>(row) + 2 * (4 * (step / 2) + t) + step % 2);
    }
    a[step][kHalf] = PackExact(x.x, x.y);
    a[step][kHalf + 2] = PackExact(x.z, x.w);
  }
}

// 2^x; relative error 2^-22; 0 for minus infinity.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_PRIMITIVES_MMA_CUH_
