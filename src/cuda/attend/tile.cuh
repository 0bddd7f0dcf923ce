// SPDX-License-Identifier: Apache-2.0
// A warp's tile of exact attention: 16 rows against 64 tokens, on matrix instructions.
//
// Operands go from memory to registers without shared memory: a matrix product may run over its
// inner dimension in any order, so each lane takes 16-byte pieces where they lie and both operands
// agree on the order. Lane = 4 g + t; cell j of a step is column block j of the scores.
//   scores: product step 2 j + h, slots {2t, 2t+1, 2t+8, 2t+9} = dimensions 8 (4 j + t) + 4 h +
//   0..3 values: column block i of half c, column n = dimension 64 c + 8 n + i
// Weights are split into two bf16 terms (17 bits), products with bf16 values are exact, sums are
// float32: the result is within 2^-18 of float32 weights, relative to the sum of magnitudes.
//
// A row's bits depend on the tokens it sees alone: products of hidden tokens are exact zeros, also
// where the hidden token is not a number.
#ifndef HGA_CUDA_ATTEND_TILE_CUH_
#define HGA_CUDA_ATTEND_TILE_CUH_

#include "base/dtype.h"
#include "cuda/attend/config.h"
#include "cuda/primitives/mma.cuh"
#include "cuda/primitives/reduce.cuh"

namespace hga::cuda {

inline constexpr int kStepCells = kStepTokens / spec::kCell;

// Which rows a warp has: `heads` query heads of each of `queries` consecutive queries.
struct RowTile {
  int query = 0, queries = 0;  // of the call
  int head = 0, heads = 0;
  int kv_head = 0;
};

// Index 0 or 1 of per-row members: row g or g + 8 of the tile.
template <int kDim>
struct AttendTile {
  uint32_t q[kDim / 16][4];
  float o[kDim / 8][4];
  float max[2], sum[2], squares[2];
  int64_t limit[2];  // tokens seen, by list index
};

// Row g + 8 kHalf of the tile, or null.
template <int kDim>
__device__ inline const float* QueryRow(const AttendCall& call, const RowTile& rows, int half) {
  const int r = static_cast<int>(threadIdx.x) / 4 + 8 * half;
  if (r >= rows.queries * rows.heads) return nullptr;
  const int64_t row =
      int64_t{rows.query + r / rows.heads} * call.shape.heads + rows.head + r % rows.heads;
  return call.q + row * kDim;
}

template <int kDim>
__device__ inline void LoadQueries(const AttendCall& call, const RowTile& rows,
                                   AttendTile<kDim>& tile) {
  LoadLeftRow<0, kDim>(QueryRow<kDim>(call, rows, 0), tile.q);
  LoadLeftRow<1, kDim>(QueryRow<kDim>(call, rows, 1), tile.q);
#pragma unroll
  for (int rr = 0; rr < 2; ++rr) {
    tile.max[rr] = -INFINITY;
    tile.sum[rr] = tile.squares[rr] = 0.f;
  }
#pragma unroll
  for (auto& o : tile.o) o[0] = o[1] = o[2] = o[3] = 0.f;
}

// Key rows of the step's tokens: lane l holds those of tokens l and 32 + l.
struct StepRows {
  const Bf16* key[2];
  // Of token `i` of the step, i / 32 known at compile time.
  __device__ const Bf16* Key(int half, int i) const {
    return reinterpret_cast<const Bf16*>(
        __shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(key[half]), i));
  }
};

// scores[j][..]: of cell j, in the layout of a matrix product's result.
template <int kDim>
__device__ inline void StepScores(const AttendTile<kDim>& tile, const StepRows& rows,
                                  float (&scores)[kStepCells][4]) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < kStepCells; ++j) {
    const uint4* key = reinterpret_cast<const uint4*>(rows.Key(j / 4, 8 * (j % 4) + g)) + t;
    uint4 k[kDim / 32];
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) k[i] = __ldg(key + 4 * i);
    scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0.f;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) {
      Mma(scores[j], tile.q[2 * i], k[i].x, k[i].y);
      Mma(scores[j], tile.q[2 * i + 1], k[i].z, k[i].w);
    }
  }
}

// Hides tokens at and past each row's limit; `base` is the list index of the step's first token.
template <int kDim>
__device__ inline void HideScores(const AttendTile<kDim>& tile, int64_t base,
                                  float (&scores)[kStepCells][4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kStepCells; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (base + 8 * j + 2 * t + i % 2 >= tile.limit[i / 2]) scores[j][i] = -INFINITY;
    }
  }
}

// Scores to weights relative to the rows' new maxima; what was summed before is brought along.
template <int kDim>
__device__ inline void StepWeights(AttendTile<kDim>& tile, float scale_log2,
                                   float (&scores)[kStepCells][4]) {
#pragma unroll
  for (int rr = 0; rr < 2; ++rr) {
    float max = scores[0][2 * rr];
#pragma unroll
    for (int j = 0; j < kStepCells; ++j) {
      max = fmaxf(max, fmaxf(scores[j][2 * rr], scores[j][2 * rr + 1]));
    }
    max = fmaxf(tile.max[rr], WarpMax<2>(max) * scale_log2);
    const float shift = max > -INFINITY ? max : 0.f;
    const float before = Exp2(tile.max[rr] - shift);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < kStepCells; ++j) {
#pragma unroll
      for (int i = 2 * rr; i < 2 * rr + 2; ++i) {
        scores[j][i] = Exp2(fmaf(scores[j][i], scale_log2, -shift));
        sum += scores[j][i];
      }
    }
    tile.sum[rr] = fmaf(tile.sum[rr], before, sum);
    tile.squares[rr] *= before * before;
    tile.max[rr] = max;
#pragma unroll
    for (auto& o : tile.o) o[2 * rr] *= before, o[2 * rr + 1] *= before;
  }
}

// Adds the squared masses of the step's groups.
template <int kDim>
__device__ inline void AddSquares(AttendTile<kDim>& tile, int group,
                                  const float (&weights)[kStepCells][4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int rr = 0; rr < 2; ++rr) {
    float mass = 0;
#pragma unroll
    for (int j = 0; j < kStepCells; ++j) {
      const float a = weights[j][2 * rr], b = weights[j][2 * rr + 1];
      if (group == 1) {
        tile.squares[rr] += a * a + b * b;
        continue;
      }
      float cell = a + b;  // of the cell's tokens that share this lane's group
      if (group >= 4) cell += __shfl_xor_sync(kAllLanes, cell, 1);
      if (group >= 8) cell += __shfl_xor_sync(kAllLanes, cell, 2);
      mass = group > 8 && j % (group / 8) != 0 ? mass + cell : cell;
      const bool ends = group <= 8 || (j + 1) % (group / 8) == 0;
      const bool mine = group == 2 || (group == 4 && t % 2 == 0) || (group >= 8 && t == 0);
      if (ends && mine) tile.squares[rr] += mass * mass;
    }
  }
}

// Values of 16 tokens (cells 2 s and 2 s + 1 of the step): v[c][..] of half c.
template <int kDim>
struct StepValues {
  uint4 v[kDim / 64][4];  // tokens 2t, 2t+1 of the first cell, then of the second
  __device__ void Load(const StepRows& rows, int s) {
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 16 * (s % 2) + 8 * (i / 2) + 2 * t + i % 2;
      const Bf16* value = rows.Key(s / 2, token) + spec::ValueRow(0, kDim);
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        v[c][i] = __ldg(reinterpret_cast<const uint4*>(value + 64 * c) + g);
      }
    }
  }
  __device__ static uint32_t Word(const uint4& x, int i) {
    return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w;
  }
  // Operand of column block i: dimension 8 n + i of two tokens.
  __device__ uint32_t Pair(int c, int first, int i) const {
    return __byte_perm(Word(v[c][first], i / 2), Word(v[c][first + 1], i / 2),
                       i % 2 == 0 ? 0x5410 : 0x7632);
  }
};

// Two bf16 terms of the weights of 16 tokens, as a left operand.
struct SplitWeights {
  uint32_t high[4], low[4];
  __device__ SplitWeights(const float (&a)[4], const float (&b)[4]) {
    const float w[8] = {a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float x = w[2 * i], y = w[2 * i + 1];
      high[i] = PackBf16(x, y);
      low[i] =
          PackBf16(x - __uint_as_float(high[i] << 16), y - __uint_as_float(high[i] & 0xFFFF0000u));
    }
  }
};

// Every row of the tile sees all of the step's tokens.
template <int kDim>
__device__ inline void AddValues(AttendTile<kDim>& tile, const StepRows& rows,
                                 const float (&weights)[kStepCells][4]) {
#pragma unroll
  for (int s = 0; s < kStepCells / 2; ++s) {
    StepValues<kDim> values;
    values.Load(rows, s);
    const SplitWeights w(weights[2 * s], weights[2 * s + 1]);
#pragma unroll
    for (int i = 0; i < kDim / 8; ++i) {
      const uint32_t b0 = values.Pair(i / 8, 0, i % 8), b1 = values.Pair(i / 8, 2, i % 8);
      Mma(tile.o[i], w.high, b0, b1);
      Mma(tile.o[i], w.low, b0, b1);
    }
  }
}

// Both halves of a pair of tokens from list index i on, where the limit hides them: zero bits.
__device__ inline uint32_t PairMask(int64_t i, int64_t limit) {
  return (i < limit ? 0xFFFFu : 0u) | (i + 1 < limit ? 0xFFFF0000u : 0u);
}

// Some row does not see some token: a product per query, over the tokens it sees; each row keeps
// that of its own query.
template <int kDim>
__device__ inline void AddSomeValues(AttendTile<kDim>& tile, const StepRows& rows,
                                     const RowTile& shape, int64_t first_limit, bool causal,
                                     int64_t base, const float (&weights)[kStepCells][4]) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int s = 0; s < kStepCells / 2; ++s) {
    StepValues<kDim> values;
    values.Load(rows, s);
    const SplitWeights w(weights[2 * s], weights[2 * s + 1]);
    for (int query = 0; query < shape.queries; ++query) {
      const int64_t limit = first_limit + (causal ? query : 0), at = base + 16 * s + 2 * t;
      const uint32_t mask0 = PairMask(at, limit), mask1 = PairMask(at + 8, limit);
      const bool mine0 = g / shape.heads == query, mine1 = (g + 8) / shape.heads == query;
#pragma unroll
      for (int i = 0; i < kDim / 8; ++i) {
        const uint32_t b0 = values.Pair(i / 8, 0, i % 8) & mask0;
        const uint32_t b1 = values.Pair(i / 8, 2, i % 8) & mask1;
        float o[4] = {tile.o[i][0], tile.o[i][1], tile.o[i][2], tile.o[i][3]};
        Mma(o, w.high, b0, b1);
        Mma(o, w.low, b0, b1);
        if (mine0) tile.o[i][0] = o[0], tile.o[i][1] = o[1];
        if (mine1) tile.o[i][2] = o[2], tile.o[i][3] = o[3];
      }
    }
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_ATTEND_TILE_CUH_
