// SPDX-License-Identifier: Apache-2.0
// Products with float32 and f16 weights, which bf16 can't hold: plain multiply-adds.
//
// The order of one sum depends on `cols` alone: a lane adds inputs 512 s + 16 lane + (0..15), s
// ascending; lanes are added by a fixed tree.
#ifndef HGA_CUDA_LINEAR_PLAIN_CUH_
#define HGA_CUDA_LINEAR_PLAIN_CUH_

#include "cuda/linear/config.h"
#include "cuda/primitives/copy.cuh"
#include "cuda/primitives/reduce.cuh"

namespace hga::cuda {

// sums[r][o] = x[r] . W[first + o]; every lane gets them. A row that is null gives 0, outputs past
// the end are the last one again.
template <class T>
__device__ inline void PlainDots(const float* const (&x)[kPlainRows], const WeightView& w,
                                 int64_t first, float (&sums)[kPlainRows][kPlainOutputs]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* rows[kPlainOutputs];
#pragma unroll
  for (int o = 0; o < kPlainOutputs; ++o) {
    rows[o] = static_cast<const T*>(w.data) + min(first + o, w.rows - 1) * w.cols;
#pragma unroll
    for (int r = 0; r < kPlainRows; ++r) sums[r][o] = 0.f;
  }
  for (int64_t k = lane * kPlainLaneElements; k < w.cols; k += kPlainStep) {
    float weight[kPlainOutputs][kPlainLaneElements];
#pragma unroll
    for (int o = 0; o < kPlainOutputs; ++o) Load16(rows[o] + k, weight[o]);
#pragma unroll
    for (int r = 0; r < kPlainRows; ++r) {
      if (x[r] == nullptr) continue;
      float input[kPlainLaneElements];
      Load16(x[r] + k, input);
#pragma unroll
      for (int o = 0; o < kPlainOutputs; ++o) {
#pragma unroll
        for (int i = 0; i < kPlainLaneElements; ++i) {
          sums[r][o] = fmaf(input[i], weight[o][i], sums[r][o]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kPlainRows; ++r) {
#pragma unroll
    for (int o = 0; o < kPlainOutputs; ++o) sums[r][o] = WarpSum(sums[r][o]);
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_LINEAR_PLAIN_CUH_
