// SPDX-License-Identifier: Apache-2.0
// Inner products of float32 rows with stored weights: a warp owns a few outputs and a few rows.
//
// The order of one sum depends on `cols` alone: a lane adds inputs 512 s + 16 lane + (0..15), s
// ascending; with FP8 each 16 are summed first and then scaled. Lanes are added by a fixed tree.
#ifndef HGA_CUDA_LINEAR_KERNEL_CUH_
#define HGA_CUDA_LINEAR_KERNEL_CUH_

#include <type_traits>

#include "cuda/linear/config.h"
#include "cuda/primitives/copy.cuh"
#include "cuda/primitives/reduce.cuh"
#include "spec/layout.h"

namespace hga::cuda {

// sums[r][o] = x[r] . W[first + o] for kRows rows and kOutputs outputs; every lane gets them. Rows
// and outputs past the end are the last ones again.
template <class T, int kRows, int kOutputs>
__device__ inline void DotTile(const float* const (&x)[kRows], const WeightView& w, int64_t first,
                               float (&sums)[kRows][kOutputs]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* rows[kOutputs];
  const float* scales[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    const int64_t output = min(first + o, w.rows - 1);
    rows[o] = static_cast<const T*>(w.data) + output * w.cols;
    scales[o] =
        std::is_same_v<T, Fp8> ? w.scales + output / 128 * spec::CeilDiv(w.cols, 128) : nullptr;
#pragma unroll
    for (int r = 0; r < kRows; ++r) sums[r][o] = 0.f;
  }
  for (int64_t k = lane * kLinearLaneElements; k < w.cols; k += kLinearStep) {
    float weight[kOutputs][kLinearLaneElements];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) Load16(rows[o] + k, weight[o]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float input[kLinearLaneElements];
      Load16(x[r] + k, input);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
        float part = std::is_same_v<T, Fp8> ? 0.f : sums[r][o];
#pragma unroll
        for (int i = 0; i < kLinearLaneElements; ++i) part = fmaf(input[i], weight[o][i], part);
        sums[r][o] = std::is_same_v<T, Fp8> ? fmaf(part, scales[o][k / 128], sums[r][o]) : part;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) sums[r][o] = WarpSum(sums[r][o]);
  }
}

// grid (outputs, rows) in tiles, block (32, kLinearWarps).
template <class T, int kRows, int kOutputs>
__global__ void __launch_bounds__(kWarp* kLinearWarps) LinearKernel(LinearParams p) {
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t first = (int64_t{blockIdx.x} * kLinearWarps + threadIdx.y) * kOutputs;
  const int row0 = static_cast<int>(blockIdx.y) * kRows;
  if (first >= p.w.rows) return;
  const float* x[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = p.x + min(row0 + r, p.rows - 1) * p.x_stride;
  float sums[kRows][kOutputs];
  DotTile<T>(x, p.w, first, sums);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      if (lane != (r * kOutputs + o) % kWarp || row0 + r >= p.rows || first + o >= p.w.rows) {
        continue;
      }
      float* y = p.y + (row0 + r) * p.y_stride + first + o;
      *y = p.accumulate ? *y + sums[r][o] : sums[r][o];
    }
  }
}

// Calls f with the element type of `dtype`.
template <class F>
__host__ __device__ inline void WithElement(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::kF32:
      return f(float{});
    case Dtype::kF16:
      return f(F16Bits{});
    case Dtype::kBf16:
      return f(Bf16{});
    case Dtype::kFp8:
      return f(Fp8{});
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_LINEAR_KERNEL_CUH_
