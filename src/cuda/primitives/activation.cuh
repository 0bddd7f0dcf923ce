// SPDX-License-Identifier: Apache-2.0
// Scalar functions that several ops share.
#ifndef HGA_CUDA_PRIMITIVES_ACTIVATION_CUH_
#define HGA_CUDA_PRIMITIVES_ACTIVATION_CUH_

#include <cuda_runtime.h>

namespace hga::cuda {

// 1 / sqrt(mean of squares + epsilon).
__device__ inline float InverseRms(float squares, int width, float epsilon) {
  return 1.0f / sqrtf(squares / static_cast<float>(width) + epsilon);
}

// silu(gate) * up. Bounded, so that the quotient stays a number where the exponential overflows.
__device__ inline float SiluTimes(float gate, float up) {
  return gate / (1.0f + expf(fminf(-gate, 87.0f))) * up;
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_PRIMITIVES_ACTIVATION_CUH_
