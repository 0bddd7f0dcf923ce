// SPDX-License-Identifier: Apache-2.0
// Estimated log-masses from key means, brought to shares and scores: steps 2 to 5 of the law.
// A warp keeps a segment of key means in shared memory and meets one tile of rows after the other.
#ifndef HGA_CUDA_SCAN_KERNEL_CUH_
#define HGA_CUDA_SCAN_KERNEL_CUH_

#include "cuda/primitives/copy.cuh"
#include "cuda/primitives/mma.cuh"
#include "cuda/primitives/reduce.cuh"
#include "cuda/scan/config.h"

namespace hga::cuda {

// Words between two means in shared memory: 16-byte pieces of neighbouring means never share a
// bank.
template <int kDim>
inline constexpr int kMeanStride = kDim / 2 + 16;

// Neighbouring dimensions of one mean as a pair of bf16, from the panel's rows of these dimensions.
__device__ inline uint32_t MeanPair(const uint4 (&a)[1], const uint4 (&b)[1], int mean) {
  const auto byte = [mean](const uint4& x) {
    const uint32_t word = mean < 4 ? x.x : mean < 8 ? x.y : mean < 12 ? x.z : x.w;
    return word >> (8 * (mean % 4)) & 255u;
  };
  const auto pair = static_cast<__nv_fp8x2_storage_t>(byte(a[0]) | byte(b[0]) << 8);
  const float2 wide = __half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(pair, __NV_E4M3)));
  return PackExact(wide.x, wide.y);
}
__device__ inline uint32_t MeanPair(const uint4 (&a)[2], const uint4 (&b)[2], int mean) {
  const auto half = [mean](const uint4(&x)[2]) {
    const uint4& v = x[mean / 8];
    const int i = mean % 8 / 2;
    const uint32_t word = i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
    return word >> (16 * (mean % 2)) & 0xFFFFu;
  };
  return half(a) | half(b) << 16;
}

// The segment's means as rows of bf16 pairs [kScanMeans][kMeanStride]; panels past the capacity are
// zero. A warp fills its own.
template <class T, int kDim>
__device__ inline void StageMeans(const ScanLevel& level, int64_t kv_head, int64_t segment,
                                  uint32_t* means) {
  constexpr int kPieces = static_cast<int>(sizeof(T));  // of 16 bytes, of a dimension of a panel
  const T* keys =
      static_cast<const T*>(level.keys) + kv_head * spec::KeyMeanElements(level.capacity, kDim);
#pragma unroll
  for (int panel = 0; panel < kScanMeans / spec::kPanel; ++panel) {
    const int64_t first = segment * kScanMeans + panel * spec::kPanel;
#pragma unroll
    for (int half = 0; half < kDim / 64; ++half) {
      const int pair = static_cast<int>(threadIdx.x) + kWarp * half;
      uint4 a[kPieces] = {}, b[kPieces] = {};
      if (first < level.capacity) {
        const uint4* from =
            reinterpret_cast<const uint4*>(keys + spec::KeyMeanOffset(first, 2 * pair, kDim));
#pragma unroll
        for (int i = 0; i < kPieces; ++i) a[i] = __ldg(from + i), b[i] = __ldg(from + kPieces + i);
      }
#pragma unroll
      for (int m = 0; m < spec::kPanel; ++m) {
        means[(panel * spec::kPanel + m) * kMeanStride<kDim> + pair] = MeanPair(a, b, m);
      }
    }
  }
  __syncwarp();
}

// Dot products of the tile's rows with all means of the segment.
template <int kDim>
__device__ inline void ScanDots(const uint32_t (&q)[kDim / 16][4], const uint32_t* means,
                                float (&dot)[kScanMeans / 8][4]) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kScanMeans / 8; ++j) {
    dot[j][0] = dot[j][1] = dot[j][2] = dot[j][3] = 0.f;
    const uint4* mean = reinterpret_cast<const uint4*>(means + (8 * j + g) * kMeanStride<kDim>) + t;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) {
      const uint4 k = mean[4 * i];
      Mma(dot[j], q[2 * i], k.x, k.y);
      Mma(dot[j], q[2 * i + 1], k.z, k.w);
    }
  }
}

// Where a lane's columns stand: means 8 j + 2 t + i of the segment.
struct ScanColumns {
  float factor[kScanMeans / 4];  // [2 j + i]: scale of the mean times that of the softmax
  uint32_t valid = 0;            // bit 2 j + i: a candidate
  __device__ ScanColumns(const RouteCall& c, const ScanLevel& level, int64_t kv_head,
                         int64_t segment) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int k = 0; k < kScanMeans / 4; ++k) {
      const int64_t mean = segment * kScanMeans + 8 * (k / 2) + 2 * t + k % 2;
      const bool is_valid = mean >= level.first_mean && mean < level.last_mean;
      factor[k] = is_valid ? level.scales[kv_head * level.capacity + mean] * c.softmax_scale : 0.f;
      valid |= is_valid ? 1u << k : 0u;
    }
  }
};

// Columns that `row` may see: candidates of chunks its selector kept.
__device__ inline uint32_t OpenColumns(const RouteCall& c, const ScanLevel& level,
                                       const ScanColumns& columns, int64_t segment, int64_t row) {
  if (level.kept == nullptr) return columns.valid;
  const uint8_t* kept = level.kept + row / c.rows_per_selector * level.chunks();
  const int t = static_cast<int>(threadIdx.x) % 4;
  uint32_t open = 0;
#pragma unroll
  for (int k = 0; k < kScanMeans / 4; ++k) {
    if ((columns.valid >> k & 1) == 0) continue;
    const int64_t mean = segment * kScanMeans + 8 * (k / 2) + 2 * t + k % 2;
    if (kept[(mean - level.first_mean) / (spec::kChunk / level.span)]) open |= 1u << k;
  }
  return open;
}

// Log-masses of row half kHalf to exponentials relative to the row's maximum of the segment.
template <int kHalf>
__device__ inline void Exponentials(const ScanLevel& level, const ScanColumns& columns,
                                    uint32_t open, float (&dot)[kScanMeans / 8][4], float* max,
                                    float* sum) {
  float largest = -INFINITY, total = 0;
#pragma unroll
  for (int k = 0; k < kScanMeans / 4; ++k) {
    float& e = dot[k / 2][2 * kHalf + k % 2];
    e = open >> k & 1 ? fmaf(e, columns.factor[k], level.log_span) : -INFINITY;
    largest = fmaxf(largest, e);
  }
  largest = WarpMax<2>(largest);
#pragma unroll
  for (int k = 0; k < kScanMeans / 4; ++k) {
    float& e = dot[k / 2][2 * kHalf + k % 2];
    e = largest > -INFINITY ? expf(e - largest) : 0.f;
    total += e;
  }
  *max = largest;
  *sum = WarpSum<2>(total);
}

// Writes the masses of row half kHalf: sums of `per_item` neighbouring columns.
template <int kHalf>
__device__ inline void PutMasses(const ScanLevel& level, int64_t segment, bool exists,
                                 const float (&e)[kScanMeans / 8][4], float* mass) {
  const int t = static_cast<int>(threadIdx.x) % 4, per_item = level.per_item;
  const int64_t first = segment * kScanMeans - level.first_mean;  // of the segment, in candidates
  const int64_t candidates = level.last_mean - level.first_mean;
  const auto put = [&](int column, float x) {
    const int64_t mean = first + column;
    if (exists && mean >= 0 && mean < candidates) mass[mean / per_item] = x;
  };
  float item = 0;
#pragma unroll
  for (int j = 0; j < kScanMeans / 8; ++j) {
    const float a = e[j][2 * kHalf], b = e[j][2 * kHalf + 1];
    const int column = 8 * j + 2 * t;
    if (per_item == 1) {
      put(column, a);
      put(column + 1, b);
      continue;
    }
    float part = a + b;
    if (per_item >= 4) part += __shfl_xor_sync(kAllLanes, part, 1);
    if (per_item >= 8) part += __shfl_xor_sync(kAllLanes, part, 2);
    item = per_item > 8 && j % (per_item / 8) != 0 ? item + part : part;
    const bool ends = per_item <= 8 || (j + 1) % (per_item / 8) == 0;
    const bool mine = per_item == 2 || (per_item == 4 && t % 2 == 0) || (per_item >= 8 && t == 0);
    if (ends && mine) put(column, item);
  }
}

template <int kHalf>
__device__ inline void PutRow(const RouteCall& c, const ScanLevel& level,
                              const ScanColumns& columns, int64_t segment, int64_t row, bool exists,
                              float (&dot)[kScanMeans / 8][4]) {
  const uint32_t open = exists ? OpenColumns(c, level, columns, segment, row) : 0u;
  float max = 0, sum = 0;
  Exponentials<kHalf>(level, columns, open, dot, &max, &sum);
  PutMasses<kHalf>(level, segment, exists, dot, level.mass + row * level.items());
  if (exists && threadIdx.x % 4 == 0) {
    level.segment[row * level.segments() + segment - level.first_segment()] = {max, sum, 0.f, 0.f};
  }
}

// Row `i` of a KV head: queries, and in each of them its query heads.
__device__ inline int64_t ScanRow(const RouteCall& c, int64_t kv_head, int i) {
  const int group = c.heads / c.kv_heads;
  return int64_t{i / group} * c.heads + kv_head * group + i % group;
}

// grid (segments in tiles of kScanWarps, kv_heads, shares of the row tiles), block (32,
// kScanWarps).
template <class T, int kDim>
__global__ void __launch_bounds__(kWarp* kScanWarps) ScanKernel(RouteCall c, ScanLevel level) {
  __shared__ __align__(16) uint32_t staged[kScanWarps][kScanMeans * kMeanStride<kDim>];
  const int64_t kv_head = blockIdx.y;
  const int64_t segment = level.first_segment() + int64_t{blockIdx.x} * kScanWarps + threadIdx.y;
  if (segment >= level.first_segment() + level.segments()) return;
  uint32_t* means = staged[threadIdx.y];
  StageMeans<T, kDim>(level, kv_head, segment, means);
  const ScanColumns columns(c, level, kv_head, segment);
  const int rows = c.queries * (c.heads / c.kv_heads);
  for (int first = static_cast<int>(blockIdx.z) * kScanRows; first < rows;
       first += static_cast<int>(gridDim.z) * kScanRows) {
    const int r0 = first + static_cast<int>(threadIdx.x) / 4, r1 = r0 + 8;
    const int64_t row0 = ScanRow(c, kv_head, r0 < rows ? r0 : 0);
    const int64_t row1 = ScanRow(c, kv_head, r1 < rows ? r1 : 0);
    uint32_t q[kDim / 16][4];
    LoadLeftRow<0, kDim>(r0 < rows ? c.q + row0 * kDim : nullptr, q);
    LoadLeftRow<1, kDim>(r1 < rows ? c.q + row1 * kDim : nullptr, q);
    float dot[kScanMeans / 8][4];
    ScanDots<kDim>(q, means, dot);
    PutRow<0>(c, level, columns, segment, row0, r0 < rows, dot);
    PutRow<1>(c, level, columns, segment, row1, r1 < rows, dot);
  }
}

// grid rows, block kCombineThreads.
__global__ void CombineKernel(RouteCall c, ScanLevel level, ScanLevel others) {
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
__global__ void DropKernel(RouteCall c, ScanLevel level) {
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
__global__ void KeepKernel(RouteCall c, const uint8_t* flags, int64_t first, int64_t chunks,
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
__global__ void ScoreKernel(RouteCall c, ScanLevel level, float* scores, int64_t stride) {
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
