// SPDX-License-Identifier: Apache-2.0
// The routed feed-forward in three steps: choose experts, their inner values, their weighted sum.
#ifndef HGA_CUDA_EXPERTS_KERNEL_CUH_
#define HGA_CUDA_EXPERTS_KERNEL_CUH_

#include "cuda/experts/config.h"
#include "cuda/linear/kernel.cuh"
#include "cuda/primitives/activation.cuh"
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
inline __global__ void ChooseKernel(ExpertsParams p, ExpertsScratch s) {
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

// act = silu(gate x) * up x. grid (outputs in tiles, rows * ranks), block (32, kExpertWarps).
inline __global__ void __launch_bounds__(kWarp* kExpertWarps)
    InnerKernel(ExpertsParams p, ExpertsScratch s) {
  const int64_t choice = blockIdx.y;
  const int64_t first = (int64_t{blockIdx.x} * kExpertWarps + threadIdx.y) * kExpertOutputs;
  if (first >= p.width) return;
  const WeightView gate = p.gate[s.expert[choice]], up = p.up[s.expert[choice]];
  const float* x[1] = {p.x + choice / p.experts_per_token * p.hidden};
  float g[1][kExpertOutputs], u[1][kExpertOutputs];
  WithElement(gate.dtype, [&](auto e) { DotTile<decltype(e)>(x, gate, first, g); });
  WithElement(up.dtype, [&](auto e) { DotTile<decltype(e)>(x, up, first, u); });
#pragma unroll
  for (int o = 0; o < kExpertOutputs; ++o) {
    if (threadIdx.x != o || first + o >= p.width) continue;
    s.act[choice * p.width + first + o] = SiluTimes(g[0][o], u[0][o]);
  }
}

// y += weight x down act, by rank. grid (outputs in tiles, rows), block (32, kExpertWarps).
inline __global__ void __launch_bounds__(kWarp* kExpertWarps)
    OuterKernel(ExpertsParams p, ExpertsScratch s) {
  const int64_t row = blockIdx.y;
  const int64_t first = (int64_t{blockIdx.x} * kExpertWarps + threadIdx.y) * kExpertOutputs;
  if (first >= p.hidden) return;
  const int64_t lane = threadIdx.x, mine = min(first + lane, int64_t{p.hidden - 1});
  float y = p.y[row * p.hidden + mine];
  for (int rank = 0; rank < p.experts_per_token; ++rank) {
    const int64_t choice = row * p.experts_per_token + rank;
    const WeightView down = p.down[s.expert[choice]];
    const float* x[1] = {s.act + choice * p.width};
    float sums[1][kExpertOutputs];
    WithElement(down.dtype, [&](auto e) { DotTile<decltype(e)>(x, down, first, sums); });
    float sum = sums[0][0];
#pragma unroll
    for (int o = 1; o < kExpertOutputs; ++o) sum = lane == o ? sums[0][o] : sum;
    y = fmaf(s.weight[choice], sum, y);
  }
  if (lane < kExpertOutputs && first + lane < p.hidden) p.y[row * p.hidden + mine] = y;
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_EXPERTS_KERNEL_CUH_
