// SPDX-License-Identifier: Apache-2.0
// Shape and entry point of the RMS norm.
#ifndef HGA_CUDA_NORM_CONFIG_H_
#define HGA_CUDA_NORM_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

inline constexpr int kNormThreads = 256;  // of a row

void LaunchNorm(const NormParams& p, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_NORM_CONFIG_H_
