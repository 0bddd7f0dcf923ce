// SPDX-License-Identifier: Apache-2.0
// Shapes and entry points of matrix products.
#ifndef HGA_CUDA_LINEAR_CONFIG_H_
#define HGA_CUDA_LINEAR_CONFIG_H_

#include "backend/ops.h"
#include "cuda/queue.h"

namespace hga::cuda {

// Products of FP8 and bf16 weights, on matrix instructions.
inline constexpr int kFewRows = 8;       // rows of a tile of the kernel for few rows
inline constexpr int kFewOutputs = 16;   // outputs of a tile of it
inline constexpr int kFewWarps = 8;      // that share its blocks of inputs
inline constexpr int kFewBlocks = 32;    // blocks of 128 inputs between two sums
inline constexpr int kMostFewRows = 32;  // up to here it is used
inline constexpr int kManyRows = 32;     // rows of a tile of the kernel for many rows
inline constexpr int kManyWarps = 4;     // 32 outputs each
inline constexpr int kManyOutputs = 32 * kManyWarps;

// Products of float32 and f16 weights: what a warp does at once.
inline constexpr int kPlainLaneElements = 16;  // neighbouring inputs of a lane
inline constexpr int kPlainStep = 32 * kPlainLaneElements;
inline constexpr int kPlainRows = 4;
inline constexpr int kPlainOutputs = 2;

// Products as kernels find them. Rows are called choices where experts are involved: choice c reads
// row c / divisor of x and writes row c of y.
struct LinearJob {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int rows = 0;
  WeightView w;  // without experts
  float* y = nullptr;
  int64_t y_stride = 0;
  bool accumulate = false;
  int64_t outputs = 0;
  int divisor = 1;
  const WeightView* experts = nullptr;  // [experts]; blockIdx.z is an expert or a choice
  const WeightView* gates = nullptr;    // [experts]: y = silu(gate x) * (w x); null: y = w x
  // An expert's choices: [experts][rows], first counts[e] used.
  const int32_t* choices = nullptr;
  const int32_t* counts = nullptr;
  // Or, every choice on its own: [choices] its expert.
  const int32_t* expert_of = nullptr;
};

void LaunchLinear(const LinearParams& p, const Queue& queue);
// With `choices`: for each of `slices` experts; with `expert_of`: for each of `slices` choices.
void LaunchExpertLinear(const LinearJob& job, int slices, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_LINEAR_CONFIG_H_
