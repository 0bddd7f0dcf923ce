// SPDX-License-Identifier: Apache-2.0
// Partial softmaxes: a warp per (row tile, unit of a token list); and their merge.
#ifndef HGA_CUDA_ATTEND_KERNEL_CUH_
#define HGA_CUDA_ATTEND_KERNEL_CUH_

#include "cuda/attend/tile.cuh"

namespace hga::cuda {

// How rows are cut into tiles: the same for every unit, and without influence on any bit.
struct TileGrid {
  int tile_heads = 1;  // query heads of a tile; they share a KV head, and a plan
  int tile_queries = 1;
  int head_tiles = 1;  // per KV head
  int query_tiles = 1;
  HGA_HD int tiles(int kv_heads) const { return kv_heads * head_tiles * query_tiles; }
};

__device__ inline RowTile RowTileAt(const AttendCall& call, const TileGrid& grid, int index) {
  const int group = call.shape.heads / call.shape.kv_heads;
  RowTile rows;
  rows.kv_head = index % call.shape.kv_heads;
  const int head_tile = index / call.shape.kv_heads % grid.head_tiles;
  const int query_tile = index / call.shape.kv_heads / grid.head_tiles;
  rows.query = query_tile * grid.tile_queries;
  rows.queries = min(grid.tile_queries, call.queries - rows.query);
  rows.head = rows.kv_head * group + head_tile * grid.tile_heads;
  rows.heads = min(grid.tile_heads, group - head_tile * grid.tile_heads);
  return rows;
}

// One row tile's view of a list.
struct ListView {
  const TokenList& list;
  const int32_t* groups;  // of the tile's selector
  int64_t first_limit;    // of the tile's first query
  __device__ ListView(const TokenList& l, const AttendCall& call, const RowTile& rows) : list(l) {
    if (l.groups != nullptr) {
      const int per_selector = call.shape.heads / l.selectors;
      const int64_t slot = int64_t{rows.query} * l.selectors + rows.head / per_selector;
      groups = l.groups + slot * l.budget;
      first_limit = int64_t{l.counts[slot]} * l.group;
    } else {
      groups = nullptr;
      first_limit = l.tokens + (l.causal ? rows.query : 0);
    }
  }
  __device__ int64_t Limit(int query) const { return first_limit + (list.causal ? query : 0); }
  __device__ int64_t Position(int64_t i) const {
    if (groups != nullptr) return int64_t{groups[i / list.group]} * list.group + i % list.group;
    if (i < list.head) return i;
    i -= list.head;
    return list.start + i / spec::kCell * list.stride * spec::kCell + i % spec::kCell;
  }
};

template <int kDim>
__device__ inline StepRows RowsAt(const ListView& view, const Bf16* const* cells, int64_t base,
                                  int64_t last) {
  StepRows rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // Past the end the last token again; its products are hidden.
    const int64_t i = min(base + threadIdx.x + kWarp * half, last);
    const int64_t position = view.Position(i);
    rows.key[half] = cells[position / spec::kCell] +
                     spec::KeyRow(static_cast<int>(position % spec::kCell), kDim);
  }
  return rows;
}

template <int kDim, bool kGroups>
__device__ inline void AddStep(const AttendCall& call, const RowTile& shape, const ListView& view,
                               int64_t base, int64_t end, AttendTile<kDim>& tile) {
  const Bf16* const* cells = call.kv.cells + shape.kv_head * call.kv.cell_stride;
  const StepRows rows = RowsAt<kDim>(view, cells, base, end - 1);
  const bool all = base + kStepTokens <= view.first_limit;
  float scores[kStepCells][4];
  StepScores(tile, rows, scores);
  if (!all) HideScores(tile, base, scores);
  StepWeights(tile, call.scale_log2, scores);
  if constexpr (kGroups) AddSquares(tile, view.list.group, scores);
  if (all) {
    AddValues(tile, rows, scores);
  } else {
    AddSomeValues(tile, rows, shape, view.first_limit, view.list.causal, base, scores);
  }
}

// Writes the tile's rows: numerators, then {max, sum, squares}.
template <int kDim>
__device__ inline void PutStates(const AttendCall& call, const RowTile& shape,
                                 AttendTile<kDim>& tile, int64_t units, int64_t unit,
                                 float* states) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int rr = 0; rr < 2; ++rr) {
    const float sum = WarpSum<2>(tile.sum[rr]), squares = WarpSum<2>(tile.squares[rr]);
    const int r = g + 8 * rr;
    if (r >= shape.queries * shape.heads) continue;
    const int64_t row =
        int64_t{shape.query + r / shape.heads} * call.shape.heads + shape.head + r % shape.heads;
    float* state = states + (row * units + unit) * StateWidth(kDim);
#pragma unroll
    for (int i = 0; i < kDim / 8; i += 4) {
      float4* to = reinterpret_cast<float4*>(state + 64 * (i / 8) + 16 * t + i % 8);
      const int c = 2 * rr;
      to[0] = {tile.o[i][c], tile.o[i + 1][c], tile.o[i + 2][c], tile.o[i + 3][c]};
      to[2] = {tile.o[i][c + 1], tile.o[i + 1][c + 1], tile.o[i + 2][c + 1], tile.o[i + 3][c + 1]};
    }
    if (t == 0) {
      *reinterpret_cast<float4*>(state + kDim) = {tile.max[rr], sum, squares, 0.f};
    }
  }
}

// Warps in the order of units, then row tiles. block (32, kAttendWarps).
template <int kDim, bool kGroups>
__global__ void __launch_bounds__(kWarp* kAttendWarps, 2)
    PartialKernel(AttendCall call, const __grid_constant__ TokenList list, TileGrid grid,
                  float* states) {
  const int64_t warp = int64_t{blockIdx.x} * kAttendWarps + threadIdx.y;
  const int tiles = grid.tiles(call.shape.kv_heads);
  const int64_t unit = warp / tiles;
  if (unit >= list.units) return;
  const RowTile shape = RowTileAt(call, grid, static_cast<int>(warp % tiles));
  const ListView view(list, call, shape);
  AttendTile<kDim> tile;
  LoadQueries(call, shape, tile);
#pragma unroll
  for (int rr = 0; rr < 2; ++rr) {
    const int r = static_cast<int>(threadIdx.x) / 4 + 8 * rr;
    tile.limit[rr] = r < shape.queries * shape.heads ? view.Limit(r / shape.heads) : 0;
  }
  const int64_t begin = unit * list.unit;
  const int64_t end = min(begin + list.unit, view.Limit(shape.queries - 1));
  for (int64_t base = begin; base < end; base += kStepTokens) {
    AddStep<kDim, kGroups>(call, shape, view, base, end, tile);
  }
  PutStates(call, shape, tile, list.units, unit, states);
}

// One element of a row's partial softmaxes, summed unit by unit.
struct Merged {
  float max, sum, squares, out;  // no initialisers: lies in shared memory too
  __device__ void Add(const float4& other, float other_out) {
    const bool any = other.x > -INFINITY;
    const float next = fmaxf(max, other.x), shift = next > -INFINITY ? next : 0.f;
    const float mine = Exp2(max - shift), theirs = Exp2(other.x - shift);
    sum = fmaf(sum, mine, any ? other.y * theirs : 0.f);
    squares = fmaf(squares, mine * mine, any ? other.z * theirs * theirs : 0.f);
    out = fmaf(out, mine, any ? other_out * theirs : 0.f);
    max = next;
  }
};

// One chain of a row's units.
template <int kDim>
__device__ inline Merged MergeChain(const float* states, int64_t units, int chain) {
  Merged merged{-INFINITY, 0.f, 0.f, 0.f};
  const int d = static_cast<int>(threadIdx.x);
#pragma unroll 4
  for (int64_t u = chain; u < units; u += kMergeChains) {
    const float* state = states + u * StateWidth(kDim);
    merged.Add(*reinterpret_cast<const float4*>(state + kDim), state[d]);
  }
  return merged;
}

// All chains of one element, merged in order. kRanks threads share them: kMergeChains for few rows,
// 1 for many; only those of rank 0 get the result. `shared` is used by the former.
template <int kDim, int kRanks>
__device__ inline Merged MergeUnits(const float* states, int64_t units, Merged (*shared)[kDim]) {
  Merged total{-INFINITY, 0.f, 0.f, 0.f};
  const auto add = [&total](const Merged& m) { total.Add({m.max, m.sum, m.squares, 0.f}, m.out); };
  if constexpr (kRanks == 1) {
    for (int c = 0; c < kMergeChains; ++c) add(MergeChain<kDim>(states, units, c));
    return total;
  } else {
    shared[threadIdx.y][threadIdx.x] =
        MergeChain<kDim>(states, units, static_cast<int>(threadIdx.y));
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kMergeChains; ++c) add(shared[c][threadIdx.x]);
    __syncthreads();
    return total;
  }
}

// Steps 8 to 10 for one element: the tail's value, corrected by what the opened groups tell.
template <int kDim>
__device__ inline float WithTail(const Merged& exact, const Merged& opened, const float* tail,
                                 float trust) {
  const int d = static_cast<int>(threadIdx.x);
  const float tail_sum = tail[TailLayout::kSum];
  if (!(tail_sum > 0.f)) return exact.out / exact.sum;
  float value = tail[TailLayout::Out(kDim) + d] / tail_sum;
  if (opened.sum > 0.f) {
    const float n = opened.sum * opened.sum / opened.squares;
    value =
        fmaf(n / (n + trust), opened.out / opened.sum - tail[TailLayout::Said(kDim) + d], value);
  }
  const float tail_max = tail[TailLayout::kMax] * 1.44269504088896341f;
  const float max = fmaxf(exact.max, tail_max);
  const float mine = Exp2(exact.max - max), theirs = Exp2(tail_max - max) * tail_sum;
  return fmaf(exact.out, mine, theirs * value) / fmaf(exact.sum, mine, theirs);
}

// grid rows, block (kDim, kRanks).
template <int kDim, int kRanks>
__global__ void __launch_bounds__(kDim* kRanks) FinishKernel(FinishParams p) {
  __shared__ Merged shared[kRanks][kDim];
  const int64_t row = blockIdx.x, width = StateWidth(kDim);
  const int d = static_cast<int>(threadIdx.x);
  Merged exact =
      MergeUnits<kDim, kRanks>(p.first + row * p.first_units * width, p.first_units, shared);
  const Merged second =
      MergeUnits<kDim, kRanks>(p.second + row * p.second_units * width, p.second_units, shared);
  if (threadIdx.y != 0) return;
  exact.Add({second.max, second.sum * p.second_weight, 0.f, 0.f}, second.out * p.second_weight);
  float out = 0;
  if (p.tail != nullptr) {
    out = WithTail<kDim>(exact, second, p.tail + row * TailLayout::Width(kDim), p.trust);
  } else {
    out = exact.out / exact.sum;
  }
  p.out[row * kDim + d] = out;
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_ATTEND_KERNEL_CUH_
