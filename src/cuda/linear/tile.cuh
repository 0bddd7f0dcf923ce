// SPDX-License-Identifier: Apache-2.0
// Operands of matrix products with stored weights on bf16 matrix instructions.
//
// Weights are the left operand (16 outputs), inputs the right one (8 rows). FP8 values are exact in
// bf16; float32 inputs are split into three bf16 terms (24 bits), so products are exact and only
// float32 sums round. Over blocks of 128 inputs: a block is summed from zero, steps in order, the
// smallest term first; blocks are added in order, each times its scale. Nothing else decides the
// bits of an element, whichever kernel and tile computes it.
//
// Lane = 4 g + t takes 16-byte pieces t, t + 4, ... of a row's block; of each piece four
// neighbouring elements at a time fill slots {2t, 2t+1, 2t+8, 2t+9} of a product step.
#ifndef HGA_CUDA_LINEAR_TILE_CUH_
#define HGA_CUDA_LINEAR_TILE_CUH_

#include <cuda_bf16.h>

#include "backend/ops.h"
#include "cuda/primitives/mma.cuh"
#include "spec/layout.h"

namespace hga::cuda {

inline constexpr int kBlockInputs = 128;
inline constexpr int kBlockSteps = kBlockInputs / 16;
inline constexpr int kTileOutputs = 16;

// First of the four inputs of lane t in product step `step`.
template <class T>
__device__ inline int StepInput(int step, int t) {
  constexpr int kPiece = 16 / static_cast<int>(sizeof(T)), kSteps = kPiece / 4;
  return kPiece * (t + 4 * (step / kSteps)) + 4 * (step % kSteps);
}

// Two neighbouring E4M3 values (the lower or upper half of a word) as bf16: the bits moved under
// bf16's exponent, times 2^120. Exact, subnormals too.
template <bool kUpper>
__device__ inline uint32_t WidenFp8Pair(uint32_t word) {
  const uint32_t spread = __byte_perm(word, 0u, kUpper ? 0x3424 : 0x1404);
  const uint32_t bits = (spread >> 4 & 0x07F007F0u) | (spread & 0x80008000u);
  const uint32_t factor = 0x7B807B80u;  // 2^120 twice
  const __nv_bfloat162 wide = __hmul2(reinterpret_cast<const __nv_bfloat162&>(bits),
                                      reinterpret_cast<const __nv_bfloat162&>(factor));
  return reinterpret_cast<const uint32_t&>(wide);
}

// One block of 16 outputs, as stored.
template <class T>
struct WeightTile {
  static constexpr int kPieces =
      kBlockInputs * static_cast<int>(sizeof(T)) / 64;  // of a lane's row
  uint4 piece[2][kPieces];                              // rows g and g + 8

  // Rows past the end are the last one again, inputs past the end zero.
  __device__ void Load(const WeightView& w, int64_t first_output, int64_t block) {
    constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    const int64_t inputs = w.cols - block * kBlockInputs;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t output = min(first_output + g + 8 * half, w.rows - 1);
      const T* row = static_cast<const T*>(w.data) + output * w.cols + block * kBlockInputs;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        const int at = kPiece * (t + 4 * i);
        piece[half][i] =
            at < inputs ? __ldg(reinterpret_cast<const uint4*>(row + at)) : uint4{0u, 0u, 0u, 0u};
      }
    }
  }
  __device__ static uint32_t Word(const uint4& x, int i) {
    return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w;
  }
  // Left operand of product step `step`, known at compile time.
  __device__ void Operand(int step, uint32_t (&a)[4]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (sizeof(T) == 1) {
        const uint32_t word = Word(piece[half][step / 4], step % 4);
        a[half] = WidenFp8Pair<false>(word);
        a[half + 2] = WidenFp8Pair<true>(word);
      } else {
        a[half] = Word(piece[half][step / 2], 2 * (step % 2));
        a[half + 2] = Word(piece[half][step / 2], 2 * (step % 2) + 1);
      }
    }
  }
};

// Three bf16 terms of two neighbouring inputs: x = high + middle + low to 24 bits.
struct SplitPair {
  uint32_t term[3];  // high, middle, low
  __device__ SplitPair(float x, float y) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      term[i] = PackBf16(x, y);
      x -= __uint_as_float(term[i] << 16);
      y -= __uint_as_float(term[i] & 0xFFFF0000u);
    }
  }
};

// The scale of a block of 16 outputs (which lie in one row of scales), 1 without.
__device__ inline float BlockScale(const WeightView& w, int64_t first_output, int64_t block) {
  if (w.scales == nullptr) return 1.0f;
  return w.scales[first_output / 128 * spec::CeilDiv(w.cols, int64_t{128}) + block];
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_LINEAR_TILE_CUH_
