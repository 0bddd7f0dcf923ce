// SPDX-License-Identifier: Apache-2.0
// RMS norm: a thread block per row.
#ifndef HGA_CUDA_NORM_KERNEL_CUH_
#define HGA_CUDA_NORM_KERNEL_CUH_

#include "cuda/norm/config.h"
#include "cuda/primitives/activation.cuh"
#include "cuda/primitives/reduce.cuh"

namespace hga::cuda {

__global__ void __launch_bounds__(kNormThreads) NormKernel(NormParams p) {
  __shared__ float shared[kNormThreads / kWarp];
  const int64_t row = int64_t{blockIdx.x} * p.width;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < p.width; i += kNormThreads) {
    squares = fmaf(p.x[row + i], p.x[row + i], squares);
  }
  const float inverse = InverseRms(BlockSum(squares, shared), p.width, p.epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < p.width; i += kNormThreads) {
    p.y[row + i] = p.x[row + i] * inverse * p.weight[i];
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_NORM_KERNEL_CUH_
