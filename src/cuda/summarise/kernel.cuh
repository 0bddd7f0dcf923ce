// SPDX-License-Identifier: Apache-2.0
// One mean per thread block, one element per thread. The law fixes every rounding: sums in float32
// in token order, so that a rebuild on any backend gives the same bits.
#ifndef HGA_CUDA_SUMMARISE_KERNEL_CUH_
#define HGA_CUDA_SUMMARISE_KERNEL_CUH_

#include "base/dtype.h"
#include "cuda/primitives/reduce.cuh"
#include "cuda/summarise/config.h"
#include "spec/fp8_scale.h"
#include "spec/layout.h"

namespace hga::cuda {

// Means over `span` tokens of the chunk, of keys or of values.
struct SummaryLevel {
  const Bf16* const* cells = nullptr;  // [kv_heads][cell_stride]
  int64_t cell_stride = 0;
  int64_t chunk = 0;
  int span = 0;
  bool values = false;      // rows; keys: panels
  bool fp8 = true;          // or bf16
  void* out = nullptr;      // [kv_heads][capacity][kDim]
  float* scales = nullptr;  // [kv_heads][capacity]
  int64_t capacity = 0;
  int slow_pair = 0;          // pairs from here on are averaged before rotation
  double frequency[64] = {};  // [kDim / 2] of the pairs; read from slow_pair on
};

// The pair (a, b) turned by RoPE to `position`.
__device__ inline void TurnPair(double position, double frequency, float* a, float* b) {
  const double angle = position * frequency;
  const float c = static_cast<float>(cos(angle)), s = static_cast<float>(sin(angle));
  const float x = *a, y = *b;
  *a = x * c - y * s;
  *b = y * c + x * s;
}

// Element `i` of the mean over tokens [first, first + span) of the chunk.
template <int kDim>
__device__ inline float MeanElement(const SummaryLevel& level, const Bf16* const* cells, int first,
                                    int i) {
  constexpr int kHalf = kDim / 2;
  const int pair = i % kHalf;
  const bool slow = !level.values && pair >= level.slow_pair;
  float sum = 0, other = 0;  // of a slow pair both elements are summed
  for (int t = first; t < first + level.span; ++t) {
    const int in_cell = t % spec::kCell;
    const Bf16* row = cells[t / spec::kCell] +
                      (level.values ? spec::ValueRow(in_cell, kDim) : spec::KeyRow(in_cell, kDim));
    if (!slow) {
      sum += Bf16ToFloat(row[i]);
      continue;
    }
    float a = Bf16ToFloat(row[pair]), b = Bf16ToFloat(row[pair + kHalf]);
    const double position = static_cast<double>(level.chunk * spec::kChunk + t);
    TurnPair(-position, level.frequency[pair], &a, &b);
    sum += a;
    other += b;
  }
  const float factor = 1.0f / static_cast<float>(level.span);
  float a = sum * factor, b = other * factor;
  if (!slow) return a;
  const int64_t middle = level.chunk * spec::kChunk + first + (level.span - 1) / 2;
  TurnPair(static_cast<double>(middle), level.frequency[pair], &a, &b);
  return i < kHalf ? a : b;
}

// grid (64 / span, kv_heads), block kDim.
template <int kDim>
__global__ void __launch_bounds__(kDim)
    SummariseKernel(const __grid_constant__ SummaryLevel level) {
  __shared__ float shared[kDim / kWarp];
  const int i = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.x) * level.span;
  const int64_t head = blockIdx.y;
  const int64_t mean = (level.chunk * spec::kChunk + first) / level.span;
  const float x = MeanElement<kDim>(level, level.cells + head * level.cell_stride, first, i);
  const int64_t at = level.values ? (head * level.capacity + mean) * kDim + i
                                  : head * spec::KeyMeanElements(level.capacity, kDim) +
                                        spec::KeyMeanOffset(mean, i, kDim);
  if (!level.fp8) {
    static_cast<Bf16*>(level.out)[at] = FloatToBf16(x);
    if (i == 0) level.scales[head * level.capacity + mean] = 1.0f;
    return;
  }
  const float largest = BlockMax(fabsf(x), shared);
  const int n = isfinite(largest) ? spec::Fp8ScaleExponent(largest) : 0;
  static_cast<Fp8*>(level.out)[at] = FloatToFp8(x * spec::PowerOfTwo(-n));
  if (i == 0) level.scales[head * level.capacity + mean] = spec::PowerOfTwo(n);
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_SUMMARISE_KERNEL_CUH_
