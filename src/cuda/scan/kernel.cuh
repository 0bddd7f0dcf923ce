// SPDX-License-Identifier: Apache-2.0
// Estimated log-masses from key means, brought to shares and scores: steps 2 to 5 of the law.
#ifndef HGA_CUDA_SCAN_KERNEL_CUH_
#define HGA_CUDA_SCAN_KERNEL_CUH_

#include "cuda/primitives/copy.cuh"
#include "cuda/primitives/reduce.cuh"
#include "cuda/scan/config.h"

namespace hga::cuda {

struct ScanShared {
  float4 q[128][kScanRows / 4];    // [dim][row]
  float e[kScanRows][kScanMeans];  // exponentials
  float reduce[kScanMeans / kWarp];
};

// Dot products of one key mean with kScanRows rows, dimensions in order.
template <class T, int kDim>
__device__ inline void ScanDots(const ScanShared& s, const T* panel, float (&dot)[kScanRows]) {
#pragma unroll
  for (float& d : dot) d = 0.f;
#pragma unroll 16
  for (int k = 0; k < kDim; ++k) {
    const float mean = Widen(panel[k * spec::kPanel]);
#pragma unroll
    for (int r = 0; r < kScanRows / 4; ++r) {
      const float4 q = s.q[k][r];
      dot[4 * r] = fmaf(q.x, mean, dot[4 * r]);
      dot[4 * r + 1] = fmaf(q.y, mean, dot[4 * r + 1]);
      dot[4 * r + 2] = fmaf(q.z, mean, dot[4 * r + 2]);
      dot[4 * r + 3] = fmaf(q.w, mean, dot[4 * r + 3]);
    }
  }
}

// Masses of the segment's items for one row, and their sum.
__device__ inline void PutMasses(const ScanLevel& level, ScanShared& s, int r, int64_t row,
                                 int64_t segment, float max) {
  const int item = static_cast<int>(threadIdx.x);
  float mass = 0;
  const int64_t first = (segment * kScanMeans) / level.per_item + item;
  const int64_t x = first - level.first_mean / level.per_item;
  if (item < kScanMeans / level.per_item && x >= 0 && x < level.items()) {
    for (int j = 0; j < level.per_item; ++j) mass += s.e[r][item * level.per_item + j];
    level.mass[row * level.items() + x] = mass;
  }
  const float sum = BlockSum(mass, s.reduce);
  if (item == 0) {
    level.segment[row * level.segments() + segment - level.first_segment()] = {max, sum, 0.f, 0.f};
  }
}

// grid (segments, kv_heads, queries), block kScanMeans.
template <class T, int kDim>
__global__ void __launch_bounds__(kScanMeans) ScanKernel(RouteCall c, ScanLevel level) {
  __shared__ ScanShared s;
  const int tid = static_cast<int>(threadIdx.x), group = c.heads / c.kv_heads;
  const int64_t kv_head = blockIdx.y, segment = level.first_segment() + blockIdx.x;
  const int64_t mean = segment * kScanMeans + tid;
  const bool valid = mean >= level.first_mean && mean < level.last_mean;
  const T* panel = static_cast<const T*>(level.keys) +
                   kv_head * spec::KeyMeanElements(level.capacity, kDim) +
                   spec::KeyMeanOffset(valid ? mean : level.first_mean, 0, kDim);
  const float factor =
      valid ? level.scales[kv_head * level.capacity + mean] * c.softmax_scale : 0.f;
  const int64_t chunk = valid ? (mean - level.first_mean) / (spec::kChunk / level.span) : 0;
  const int64_t row0 = blockIdx.z * int64_t{c.heads} + kv_head * group;
  for (int first = 0; first < group; first += kScanRows) {
    const int rows = min(kScanRows, group - first);
    __syncthreads();
    for (int i = tid; i < kScanRows * kDim; i += kScanMeans) {
      const int r = i % kScanRows, k = i / kScanRows;
      reinterpret_cast<float*>(s.q[k])[r] = r < rows ? c.q[(row0 + first + r) * kDim + k] : 0.f;
    }
    __syncthreads();
    float dot[kScanRows];
    ScanDots<T, kDim>(s, panel, dot);
#pragma unroll
    for (int r = 0; r < kScanRows; ++r) {
      if (r >= rows) break;
      const int64_t row = row0 + first + r;
      const bool open = valid && (level.kept == nullptr ||
                                  level.kept[row / c.rows_per_selector * level.chunks() + chunk]);
      const float e = open ? fmaf(dot[r], factor, level.log_span) : -INFINITY;
      const float max = BlockMax(e, s.reduce);
      s.e[r][tid] = max > -INFINITY ? expf(e - max) : 0.f;
      __syncthreads();
      PutMasses(level, s, r, row, segment, max);
    }
  }
}

// grid rows, block kCombineThreads.
inline __global__ void CombineKernel(RouteCall c, ScanLevel level, ScanLevel others) {
  __shared__ float shared[kCombineThreads / kWarp];
  const int64_t row = blockIdx.x, own = level.segments(), other = others.segments();
  Segment* mine = level.segment + row * own;
  Segment* theirs = others.segment + row * other;
  float max = -INFINITY, total = 0;
  for (int64_t i = threadIdx.x; i < own; i += kCombineThreads) max = fmaxf(max, mine[i].max);
  for (int64_t i = threadIdx.x; i < other; i += kCombineThreads) max = fmaxf(max, theirs[i].max);
  max = BlockMax(max, shared);
  const auto bring = [max, &total](Segment& s) {
    s.factor = s.max > -INFINITY ? expf(s.max - max) : 0.f;
    total = fmaf(s.factor, s.sum, total);
  };
  for (int64_t i = threadIdx.x; i < own; i += kCombineThreads) bring(mine[i]);
  for (int64_t i = threadIdx.x; i < other; i += kCombineThreads) bring(theirs[i]);
  total = BlockSum(total, shared);
  for (int64_t i = threadIdx.x; i < own; i += kCombineThreads) {
    mine[i].share = total > 0.f ? mine[i].factor / total : 0.f;
  }
  if (threadIdx.x == 0) c.row_max[row] = max;
}

// grid (segments, rows), block kScanMeans.
inline __global__ void DropKernel(RouteCall c, ScanLevel level) {
  __shared__ float shared[kScanMeans / kWarp];
  const int64_t row = blockIdx.y;
  const int64_t first = (level.first_segment() + blockIdx.x) * kScanMeans / level.per_item;
  const int64_t x = first + threadIdx.x - level.first_mean / level.per_item;
  float mass = 0;
  if (threadIdx.x < kScanMeans / level.per_item && x >= 0 && x < level.items()) {
    float* at = level.mass + row * level.items() + x;
    if (level.kept[row / c.rows_per_selector * level.items() + x]) *at = 0.f;
    mass = *at;
  }
  const float sum = BlockSum(mass, shared);
  if (threadIdx.x == 0) level.segment[row * level.segments() + blockIdx.x].sum = sum;
}

// grid (chunks in tiles, kv_heads), block kScoreThreads. Selector rows: [queries][selectors].
inline __global__ void KeepKernel(RouteCall c, const uint8_t* flags, int64_t first, int64_t chunks,
                                  uint8_t* kept, int64_t stride) {
  const int64_t chunk = int64_t{blockIdx.x} * kScoreThreads + threadIdx.x, kv_head = blockIdx.y;
  if (chunk >= chunks) return;
  const int per_head = c.heads / c.rows_per_selector / c.kv_heads;
  bool any = flags == nullptr;
  for (int query = 0; query < c.queries && !any; ++query) {
    for (int s = 0; s < per_head; ++s) {
      const int64_t row = (int64_t{query} * c.kv_heads + kv_head) * per_head + s;
      any = any || flags[row * chunks + chunk];
    }
  }
  if (any) kept[kv_head * stride + first + chunk] = 1;
}

// grid (items in tiles, selector rows), block kScoreThreads.
inline __global__ void ScoreKernel(RouteCall c, ScanLevel level, float* scores, int64_t stride) {
  const int64_t x = int64_t{blockIdx.x} * kScoreThreads + threadIdx.x, selector = blockIdx.y;
  if (x >= level.items()) return;
  const int64_t segment = level.SegmentOf(x), row0 = selector * c.rows_per_selector;
  float score = 0;
  for (int r = 0; r < c.rows_per_selector; ++r) {
    const int64_t row = row0 + r;
    score = fmaf(level.mass[row * level.items() + x],
                 level.segment[row * level.segments() + segment].share, score);
  }
  if (level.kept != nullptr) {
    const int64_t chunk = x * level.per_item / (spec::kChunk / level.span);
    if (!level.kept[selector * level.chunks() + chunk]) score = -INFINITY;
  }
  scores[selector * stride + x] = score;
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_SCAN_KERNEL_CUH_
