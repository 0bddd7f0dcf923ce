// SPDX-License-Identifier: Apache-2.0
// Sums and maxima over a warp and over a thread block, always by the same tree.
#ifndef HGA_CUDA_PRIMITIVES_REDUCE_CUH_
#define HGA_CUDA_PRIMITIVES_REDUCE_CUH_

#include <cuda_runtime.h>

namespace hga::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;
inline constexpr int kWarp = 32;

// Every lane gets the result. Lanes that differ in the bits of kFirst and above exchange.
template <int kFirst = 16, int kLast = 1>
__device__ inline float WarpSum(float x) {
#pragma unroll
  for (int step = kFirst; step >= kLast; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

template <int kFirst = 16, int kLast = 1>
__device__ inline float WarpMax(float x) {
#pragma unroll
  for (int step = kFirst; step >= kLast; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}

// Over all threads of the block (whole warps, at most 32); `shared` holds a float per warp and may
// be used again after the call.
template <bool kMax>
__device__ inline float BlockReduce(float x, float* shared) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  x = kMax ? WarpMax(x) : WarpSum(x);
  if (lane == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  const float neutral = kMax ? -INFINITY : 0.f;
  x = lane < warps ? shared[lane] : neutral;
  x = kMax ? WarpMax(x) : WarpSum(x);
  __syncthreads();
  return x;
}

__device__ inline float BlockSum(float x, float* shared) { return BlockReduce<false>(x, shared); }
__device__ inline float BlockMax(float x, float* shared) { return BlockReduce<true>(x, shared); }

}  // namespace hga::cuda

#endif  // HGA_CUDA_PRIMITIVES_REDUCE_CUH_
