// SPDX-License-Identifier: Apache-2.0
// Shapes, scratch and entry point of the routed feed-forward.
#ifndef HGA_CUDA_EXPERTS_CONFIG_H_
#define HGA_CUDA_EXPERTS_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

inline constexpr int kExpertWarps = 8;     // per thread block
inline constexpr int kExpertOutputs = 2;   // of a warp
inline constexpr int kMostExperts = 1024;  // of a layer
inline constexpr int kMostPerToken = 32;

// Device memory for one call, floats first.
struct ExpertsScratch {
  float* logits = nullptr;    // [rows][experts]
  float* weight = nullptr;    // [rows][experts_per_token], by rank
  float* act = nullptr;       // [rows][experts_per_token][width]
  int32_t* expert = nullptr;  // [rows][experts_per_token]
};

void LaunchExperts(const ExpertsParams& p, const ExpertsScratch& scratch, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_EXPERTS_CONFIG_H_
