// SPDX-License-Identifier: Apache-2.0
// The tail: what summaries say of opened groups, and the weighted value means of all the others.
#ifndef HGA_CUDA_ROUTE_KERNEL_CUH_
#define HGA_CUDA_ROUTE_KERNEL_CUH_

#include "cuda/primitives/copy.cuh"
#include "cuda/route/config.h"

namespace hga::cuda {

// f(chain) gives a chain's pair of sums; adds them in order. kRanks threads share the chains:
// kTailChains for few rows, 1 for many. Every thread gets the sums.
template <int kDim, int kRanks, class F>
__device__ inline float2 SumChains(float2 (&shared)[kRanks][kDim], const F& f) {
  float2 sum{0.f, 0.f};
  if constexpr (kRanks == 1) {
    for (int c = 0; c < kTailChains; ++c) {
      const float2 x = f(c);
      sum.x += x.x, sum.y += x.y;
    }
  } else {
    shared[threadIdx.y][threadIdx.x] = f(static_cast<int>(threadIdx.y));
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kTailChains; ++c) {
      sum.x += shared[c][threadIdx.x].x, sum.y += shared[c][threadIdx.x].y;
    }
    __syncthreads();
  }
  return sum;
}

template <int kDim, int kRanks>
struct OpenedShared {
  float mass[kDim], weight[kDim];
  int64_t value[kDim];
  float2 chains[kRanks][kDim];
};

// grid rows, block (kDim, kRanks): a thread per element and chain of groups. Groups are taken kDim
// at a time, each time in chains.
template <class T, int kDim, int kRanks>
__global__ void __launch_bounds__(kDim* kRanks)
    OpenedKernel(RouteCall c, TailLevel level, PlanView plan, float* tail) {
  __shared__ OpenedShared<kDim, kRanks> s;
  const int tid = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x, selector = row / c.rows_per_selector;
  const int64_t kv_head = row % c.heads / (c.heads / c.kv_heads);
  const int32_t* groups = plan.groups + selector * plan.budget;
  const ScanLevel& masses = level.masses;
  const int count = plan.counts[selector];
  float2 all{0.f, 0.f};  // numerators of what is said, and masses
  for (int base = 0; base < count; base += kDim) {
    if (threadIdx.y == 0 && base + tid < count) {
      const int64_t group = groups[base + tid], x = group - level.first_item();
      float* at = masses.mass + row * masses.items() + x;
      s.mass[tid] = *at * masses.segment[row * masses.segments() + masses.SegmentOf(x)].factor;
      *at = 0.f;
      s.value[tid] = kv_head * level.capacity + group / level.items_per_value;
      s.weight[tid] = s.mass[tid] * level.scales[s.value[tid]];
    }
    __syncthreads();
    const int n = min(kDim, count - base);
    const float2 some = SumChains<kDim, kRanks>(s.chains, [&](int chain) {
      float2 sum{0.f, 0.f};
#pragma unroll 8
      for (int i = chain; i < n; i += kTailChains) {
        const float v = Widen(static_cast<const T*>(level.values)[s.value[i] * kDim + tid]);
        sum.x = fmaf(s.weight[i], v, sum.x);
        sum.y += s.mass[i];
      }
      return sum;
    });
    all.x += some.x, all.y += some.y;
    __syncthreads();
  }
  if (threadIdx.y != 0) return;
  float* out = tail + row * TailLayout::Width(kDim);
  out[TailLayout::Said(kDim) + tid] = all.y > 0.f ? all.x * (1.0f / all.y) : 0.f;
  if (tid == 0) out[TailLayout::kOpenedSum] = all.y;
}

struct TailShared {
  float mass[kTailRows][kTailValues];
  float4 weight[kTailValues][kTailRows / 4];  // [value mean][row]
};

// Masses and weights of the part's value means for `rows` rows.
template <int kDim>
__device__ inline void TailWeights(const TailLevel& level, TailShared& s, int64_t row0, int rows,
                                   int64_t first, int64_t scales) {
  const ScanLevel& masses = level.masses;
  for (int i = static_cast<int>(threadIdx.x); i < kTailRows * kTailValues; i += kDim) {
    const int r = i / kTailValues, j = i % kTailValues;
    const int64_t v = first + j, row = row0 + r;
    float mass = 0, weight = 0;
    if (r < rows && v >= level.first_value() && v < level.last_value()) {
      const int64_t x = v * level.items_per_value - level.first_item();
      for (int k = 0; k < level.items_per_value; ++k) {
        mass += masses.mass[row * masses.items() + x + k];
      }
      mass *= masses.segment[row * masses.segments() + masses.SegmentOf(x)].factor;
      weight = mass * level.scales[scales + v];
    }
    s.mass[r][j] = mass;
    reinterpret_cast<float*>(s.weight[j])[r] = weight;
  }
}

// grid (parts, kv_heads, queries), block kDim: a thread per element, value means in order.
template <class T, int kDim>
__global__ void __launch_bounds__(kDim) TailPartKernel(RouteCall c, TailLevel level) {
  __shared__ TailShared s;
  const int tid = static_cast<int>(threadIdx.x), group = c.heads / c.kv_heads;
  const int64_t kv_head = blockIdx.y, row0 = blockIdx.z * int64_t{c.heads} + kv_head * group;
  const int64_t first = (level.first_part() + blockIdx.x) * kTailValues;
  const int begin = static_cast<int>(max(level.first_value() - first, int64_t{0}));
  const int end = static_cast<int>(min(level.last_value() - first, int64_t{kTailValues}));
  const T* values =
      static_cast<const T*>(level.values) + (kv_head * level.capacity + first) * kDim + tid;
  for (int r0 = 0; r0 < group; r0 += kTailRows) {
    const int rows = min(kTailRows, group - r0);
    __syncthreads();
    TailWeights<kDim>(level, s, row0 + r0, rows, first, kv_head * level.capacity);
    __syncthreads();
    float out[kTailRows] = {};
#pragma unroll 8
    for (int j = begin; j < end; ++j) {
      const float v = Widen(values[int64_t{j} * kDim]);
#pragma unroll
      for (int r = 0; r < kTailRows / 4; ++r) {
        const float4 w = s.weight[j][r];
        out[4 * r] = fmaf(w.x, v, out[4 * r]);
        out[4 * r + 1] = fmaf(w.y, v, out[4 * r + 1]);
        out[4 * r + 2] = fmaf(w.z, v, out[4 * r + 2]);
        out[4 * r + 3] = fmaf(w.w, v, out[4 * r + 3]);
      }
    }
#pragma unroll
    for (int r = 0; r < kTailRows; ++r) {
      if (r >= rows) break;
      float* part = level.part + ((row0 + r0 + r) * level.parts() + blockIdx.x) * (kDim + 4);
      part[tid] = out[r];
      if (tid != r) continue;
      float sum = 0;
      for (int j = begin; j < end; ++j) sum += s.mass[r][j];
      part[kDim] = sum;
    }
  }
}

// grid rows, block (kDim, kRanks).
template <int kDim, int kRanks>
__global__ void __launch_bounds__(kDim* kRanks)
    TailSumKernel(RouteCall c, TailLevel groups, TailLevel chunks, float* tail) {
  __shared__ float2 shared[kRanks][kDim];
  const int tid = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const float2 all = SumChains<kDim, kRanks>(shared, [&](int chain) {
    float2 sum{0.f, 0.f};
    for (const TailLevel* level : {&groups, &chunks}) {
      const int64_t parts = level->parts();
      const float* part = level->part + row * parts * (kDim + 4);
#pragma unroll 8
      for (int64_t i = chain; i < parts; i += kTailChains) {
        sum.x += part[i * (kDim + 4) + tid];
        sum.y += part[i * (kDim + 4) + kDim];
      }
    }
    return sum;
  });
  if (threadIdx.y != 0) return;
  float* to = tail + row * TailLayout::Width(kDim);
  to[TailLayout::Out(kDim) + tid] = all.x;
  if (tid == 0) {
    to[TailLayout::kMax] = c.row_max[row];
    to[TailLayout::kSum] = all.y;
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_ROUTE_KERNEL_CUH_
