// SPDX-License-Identifier: Apache-2.0
// Entry point of silu(gate) * up.
#ifndef HGA_CUDA_SILU_CONFIG_H_
#define HGA_CUDA_SILU_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

inline constexpr int kSiluThreads = 256;

void LaunchSilu(const SiluParams& p, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_SILU_CONFIG_H_
