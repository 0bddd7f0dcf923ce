// SPDX-License-Identifier: Apache-2.0
// Shape and entry point of q/k norm, RoPE and rounding.
#ifndef HGA_CUDA_ROTATE_CONFIG_H_
#define HGA_CUDA_ROTATE_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

inline constexpr int kRotateWarps = 4;  // per thread block, a head each

void LaunchRotate(const RotateParams& p, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_ROTATE_CONFIG_H_
