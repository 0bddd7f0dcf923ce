// SPDX-License-Identifier: Apache-2.0
// Shapes and entry point of matrix products.
#ifndef HGA_CUDA_LINEAR_CONFIG_H_
#define HGA_CUDA_LINEAR_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

inline constexpr int kLinearWarps = 8;          // per thread block
inline constexpr int kLinearLaneElements = 16;  // neighbouring inputs of a lane
// Inputs that a warp covers at once; a lane adds its own pieces in order, then lanes by a tree.
inline constexpr int kLinearStep = 32 * kLinearLaneElements;

void LaunchLinear(const LinearParams& p, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_LINEAR_CONFIG_H_
