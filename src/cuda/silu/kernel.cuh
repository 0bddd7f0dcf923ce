// SPDX-License-Identifier: Apache-2.0
// silu(gate) * up, elementwise.
#ifndef HGA_CUDA_SILU_KERNEL_CUH_
#define HGA_CUDA_SILU_KERNEL_CUH_

#include "cuda/primitives/activation.cuh"
#include "cuda/silu/config.h"

namespace hga::cuda {

__global__ void __launch_bounds__(kSiluThreads) SiluKernel(SiluParams p) {
  const int64_t i = int64_t{blockIdx.x} * kSiluThreads + threadIdx.x;
  if (i < p.count) p.out[i] = SiluTimes(p.gate[i], p.up[i]);
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_SILU_KERNEL_CUH_
