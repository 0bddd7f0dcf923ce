// SPDX-License-Identifier: Apache-2.0
// Norm per head, RoPE and rounding to bf16: a warp per head of a row.
#ifndef HGA_CUDA_ROTATE_KERNEL_CUH_
#define HGA_CUDA_ROTATE_KERNEL_CUH_

#include "base/dtype.h"
#include "cuda/primitives/activation.cuh"
#include "cuda/primitives/reduce.cuh"
#include "cuda/rotate/config.h"

namespace hga::cuda {

// x[j] is element lane + 32 j: both halves of a pair lie in one lane.
template <int kDim>
__device__ inline void NormTurn(float (&x)[kDim / kWarp], const float* norm, float epsilon,
                                const float* cos, const float* sin) {
  constexpr int kHalf = kDim / kWarp / 2;
  const int lane = static_cast<int>(threadIdx.x);
  if (norm != nullptr) {
    float squares = 0;
#pragma unroll
    for (float v : x) squares = fmaf(v, v, squares);
    const float inverse = InverseRms(WarpSum(squares), kDim, epsilon);
#pragma unroll
    for (int j = 0; j < 2 * kHalf; ++j) x[j] = x[j] * inverse * norm[lane + kWarp * j];
  }
#pragma unroll
  for (int j = 0; j < kHalf; ++j) {
    const float c = cos[lane + kWarp * j], s = sin[lane + kWarp * j];
    const float a = x[j], b = x[j + kHalf];
    x[j] = fmaf(-b, s, a * c);
    x[j + kHalf] = fmaf(a, s, b * c);
  }
}

// grid (heads + 2 kv_heads in tiles of kRotateWarps, rows), block (32, kRotateWarps). Heads in
// the order q, k, v.
template <int kDim>
__global__ void __launch_bounds__(kWarp* kRotateWarps) RotateKernel(RotateParams p) {
  constexpr int kEach = kDim / kWarp;
  const int lane = static_cast<int>(threadIdx.x), kv = p.shape.kv_heads;
  const int64_t row = blockIdx.y;
  const int job = static_cast<int>(blockIdx.x) * kRotateWarps + static_cast<int>(threadIdx.y);
  if (job >= p.shape.heads + 2 * kv) return;
  const bool is_q = job < p.shape.heads, is_k = !is_q && job < p.shape.heads + kv;
  const int head = is_q ? job : (job - p.shape.heads) % kv;
  const float* in = is_q   ? p.q + (row * p.shape.heads + head) * kDim
                    : is_k ? p.k + (row * kv + head) * kDim
                           : p.v + (row * kv + head) * kDim;
  float x[kEach];
#pragma unroll
  for (int j = 0; j < kEach; ++j) x[j] = in[lane + kWarp * j];
  if (is_q || is_k) {
    const int64_t angle = row * (kDim / 2);
    NormTurn<kDim>(x, is_q ? p.q_norm : p.k_norm, p.epsilon, p.cos + angle, p.sin + angle);
  }
  Bf16* stored = is_q ? nullptr : (is_k ? p.k_out : p.v_out)[row * kv + head];
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const Bf16 rounded = FloatToBf16(x[j]);
    if (is_q) {
      p.q[(row * p.shape.heads + head) * kDim + lane + kWarp * j] = Bf16ToFloat(rounded);
    } else {
      stored[lane + kWarp * j] = rounded;
    }
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_ROTATE_KERNEL_CUH_
