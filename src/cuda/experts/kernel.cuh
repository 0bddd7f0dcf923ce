// SPDX-License-Identifier: Apache-2.0
// The routed feed-forward around its products: choosing experts, gathering rows, the weighted sum.
#ifndef HGA_CUDA_EXPERTS_KERNEL_CUH_
#define HGA_CUDA_EXPERTS_KERNEL_CUH_

#include "cuda/experts/config.h"
#include "cuda/primitives/reduce.cuh"
#include "spec/order.h"

namespace hga::cuda {

// The best of the warp's candidates (key descending, then index ascending); a used one has index
// kMostExperts.
__device__ inline int WarpBest(uint32_t key, int index) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const uint32_t other_key = __shfl_xor_sync(kAllLanes, key, step);
    const int other = __shfl_xor_sync(kAllLanes, index, step);
    if (other_key > key || (other_key == key && other < index)) key = other_key, index = other;
  }
  return index;
}

// Softmax over all experts and the best of them by rank: a warp per row.
__global__ void ChooseKernel(ExpertsParams p, ExpertsScratch s) {
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const float* logits = s.logits + row * p.experts;
  float largest = -INFINITY, sum = 0;
  for (int e = lane; e < p.experts; e += kWarp) largest = fmaxf(largest, logits[e]);
  largest = WarpMax(largest);
  for (int e = lane; e < p.experts; e += kWarp) sum += expf(logits[e] - largest);
  sum = WarpSum(sum);
  uint32_t used = 0;  // bit j: expert lane + 32 j
  float kept = 0, mine = 0;
  for (int rank = 0; rank < p.experts_per_token; ++rank) {
    uint32_t key = 0;
    int index = kMostExperts;
    for (int e = lane, j = 0; e < p.experts; e += kWarp, ++j) {
      const uint32_t k = spec::ScoreKey(expf(logits[e] - largest) / sum);
      if ((used >> j & 1) == 0 && (index == kMostExperts || k > key)) key = k, index = e;
    }
    const int best = WarpBest(key, index);
    const float share = expf(logits[best] - largest) / sum;
    if (best % kWarp == lane) used |= 1u << (best / kWarp);
    if (rank % kWarp == lane) mine = share;
    if (lane == 0) s.expert[row * p.experts_per_token + rank] = best;
    kept += share;
  }
  if (lane < p.experts_per_token) {
    s.weight[row * p.experts_per_token + lane] = p.renormalise ? mine / kept : mine;
  }
}

// Lists every expert's choices. Their order differs from run to run, and no bit depends on it: a
// row's result is a function of that row. `counts` must be zero.
__global__ void GroupKernel(ExpertsScratch s, int choices, int rows) {
  const int choice = static_cast<int>(blockIdx.x) * kGroupThreads + static_cast<int>(threadIdx.x);
  if (choice >= choices) return;
  const int expert = s.expert[choice];
  s.choices[int64_t{expert} * rows + atomicAdd(&s.counts[expert], 1)] = choice;
}

// y += weight x out, by rank. grid (hidden in tiles, rows), block kCombineWidth.
__global__ void CombineExpertsKernel(ExpertsParams p, ExpertsScratch s) {
  const int64_t row = blockIdx.y, i = int64_t{blockIdx.x} * kCombineWidth + threadIdx.x;
  if (i >= p.hidden) return;
  float y = p.y[row * p.hidden + i];
  for (int rank = 0; rank < p.experts_per_token; ++rank) {
    const int64_t choice = row * p.experts_per_token + rank;
    y = fmaf(s.weight[choice], s.out[choice * p.hidden + i], y);
  }
  p.y[row * p.hidden + i] = y;
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_EXPERTS_KERNEL_CUH_
