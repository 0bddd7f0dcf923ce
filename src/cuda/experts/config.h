// SPDX-License-Identifier: Apache-2.0
// Shapes, scratch and entry point of the routed feed-forward.
#ifndef HGA_CUDA_EXPERTS_CONFIG_H_
#define HGA_CUDA_EXPERTS_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

// Up to so many rows every choice is a product of its own; more are gathered by expert.
inline constexpr int kMostAlone = 8;
inline constexpr int kGroupThreads = 256;
inline constexpr int kCombineWidth = 256;
inline constexpr int kMostExperts = 1024;  // of a layer
inline constexpr int kMostPerToken = 32;

// Device memory for one call, floats first.
struct ExpertsScratch {
  float* logits = nullptr;     // [rows][experts]
  float* weight = nullptr;     // [rows][experts_per_token], by rank
  float* act = nullptr;        // [rows][experts_per_token][width]
  float* out = nullptr;        // [rows][experts_per_token][hidden]
  int32_t* expert = nullptr;   // [rows][experts_per_token]
  int32_t* choices = nullptr;  // [experts][rows] of an expert, in no order
  int32_t* counts = nullptr;   // [experts]
};

void LaunchExperts(const ExpertsParams& p, const ExpertsScratch& scratch, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_EXPERTS_CONFIG_H_
