// SPDX-License-Identifier: Apache-2.0
// Selection of one row by one thread block: the key of the last chosen is found digit by digit,
// then the chosen are written in order. Bit-equal to the law for any scores.
#ifndef HGA_CUDA_SELECT_KERNEL_CUH_
#define HGA_CUDA_SELECT_KERNEL_CUH_

#include "cuda/primitives/reduce.cuh"
#include "cuda/select/config.h"
#include "spec/layout.h"
#include "spec/order.h"

namespace hga::cuda {

inline constexpr int kSelectBins = 256;

struct SelectShared {
  uint32_t bins[kSelectBins];
  uint32_t digit, need;
  uint64_t warps[kSelectThreads / kWarp];
};

// Warp 0: the largest digit such that keys with larger digits are fewer than s.need; leaves what is
// still needed of that digit.
__device__ inline void FindDigit(SelectShared& s) {
  constexpr int kEach = kSelectBins / kWarp;
  const int lane = static_cast<int>(threadIdx.x);
  uint32_t sum = 0;
  for (int i = 0; i < kEach; ++i) sum += s.bins[lane * kEach + i];
  uint32_t above = sum;  // of this lane and the ones after it
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t other = __shfl_down_sync(kAllLanes, above, step);
    if (lane + step < kWarp) above += other;
  }
  above -= sum;
  const uint32_t need = s.need;
  __syncwarp();
  if (above < need && need <= above + sum) {
    int bin = lane * kEach + kEach - 1;
    while (above + s.bins[bin] < need) above += s.bins[bin--];
    s.digit = static_cast<uint32_t>(bin);
    s.need = need - above;
  }
}

// A thread's neighbouring scores as keys: in registers, or looked up.
template <bool kKept>
struct ThreadKeys {
  const float* scores;
  int64_t begin;
  int count;
  uint32_t kept[kKept ? kSelectKept : 1];
  __device__ ThreadKeys(const float* s, int64_t n) : scores(s) {
    const int64_t each = spec::CeilDiv(n, kSelectThreads);
    begin = min(n, threadIdx.x * each);
    count = static_cast<int>(min(n, begin + each) - begin);
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < kSelectKept; ++i) {
        kept[i] = i < count ? spec::ScoreKey(scores[begin + i]) : 0u;
      }
    }
  }
  // f(index within the thread, key, whether it exists).
  template <class F>
  __device__ void ForEach(const F& f) const {
    if constexpr (kKept) {
#pragma unroll
      for (int i = 0; i < kSelectKept; ++i) f(i, kept[i], i < count);
    } else {
      for (int i = 0; i < count; ++i) f(i, spec::ScoreKey(scores[begin + i]), true);
    }
  }
};

// Key of the last chosen; s.need becomes how many of its equals are chosen.
template <bool kKept>
__device__ inline uint32_t FindThreshold(const ThreadKeys<kKept>& keys, SelectShared& s) {
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < kSelectBins; i += kSelectThreads) s.bins[i] = 0;
    __syncthreads();
    keys.ForEach([&](int, uint32_t key, bool real) {
      if (real && (key & mask) == prefix) atomicAdd(&s.bins[key >> shift & 255u], 1u);
    });
    __syncthreads();
    if (threadIdx.x < kWarp) FindDigit(s);
    __syncthreads();
    prefix |= s.digit << shift;
    mask |= 255u << shift;
  }
  return prefix;
}

// Sum of x over the threads before this one.
__device__ inline uint64_t SumBefore(uint64_t x, SelectShared& s) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  uint64_t sum = x;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint64_t other = __shfl_up_sync(kAllLanes, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == kWarp - 1) s.warps[warp] = sum;
  __syncthreads();
  uint64_t before = sum - x;
  for (int w = 0; w < warp; ++w) before += s.warps[w];
  return before;
}

// grid rows, block kSelectThreads.
template <bool kKept>
__global__ void __launch_bounds__(kSelectThreads) SelectKernel(SelectRows p) {
  __shared__ SelectShared s;
  const int64_t row = blockIdx.x;
  int32_t* chosen = p.chosen != nullptr ? p.chosen + row * p.chosen_stride : nullptr;
  uint8_t* flags = p.flags != nullptr ? p.flags + row * p.n : nullptr;
  if (threadIdx.x == 0) {
    if (p.counts != nullptr) p.counts[row] = p.count;
    s.need = static_cast<uint32_t>(p.count);
  }
  __syncthreads();
  const ThreadKeys<kKept> keys(p.scores + row * p.stride, p.n);
  // All or nothing: every key counts as the last one, and all or none of its equals are chosen.
  const bool some = p.count > 0 && p.count < p.n;
  const uint32_t last = some ? FindThreshold(keys, s) : 0u;
  const uint64_t need = some ? s.need : static_cast<uint64_t>(p.count);
  const auto key_of = [&](uint32_t key) { return some ? key : last; };
  uint64_t mine = 0;  // keys above the last, and equal to it
  keys.ForEach([&](int, uint32_t key, bool real) {
    if (real) mine += key_of(key) > last ? uint64_t{1} << 32 : key_of(key) == last ? 1u : 0u;
  });
  const uint64_t before = SumBefore(mine, s);
  uint64_t larger = before >> 32, equal = before & 0xFFFFFFFFu;
  keys.ForEach([&](int i, uint32_t k, bool real) {
    if (!real) return;
    const uint32_t key = key_of(k);
    const bool take = key > last || (key == last && equal < need);
    if (take && chosen != nullptr) {
      chosen[larger + min(equal, need)] = static_cast<int32_t>(keys.begin + i) + p.base;
    }
    if (flags != nullptr) flags[keys.begin + i] = take;
    larger += key > last;
    equal += key == last;
  });
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_SELECT_KERNEL_CUH_
