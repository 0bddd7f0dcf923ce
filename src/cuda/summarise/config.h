// SPDX-License-Identifier: Apache-2.0
// Entry point of the summaries of a closed chunk.
#ifndef HGA_CUDA_SUMMARISE_CONFIG_H_
#define HGA_CUDA_SUMMARISE_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

void LaunchSummarise(const SummariseParams& p, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_SUMMARISE_CONFIG_H_
