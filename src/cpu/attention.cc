// SPDX-License-Identifier: Apache-2.0
// Exact attention as tasks: dense, routed and sampled, in tiles of queries of one chunk and one KV
// head. A few queries are spread over partitions of the keys instead; the sums are the same.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/cpu_ops.h"
#include "spec/layout.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga::cpu {
namespace {

using spec::kCell;

// A state laid out in `memory`: [rows] max, [rows] sum, [rows][dim] out.
SoftmaxState StateAt(float* memory, int64_t rows) {
  return {memory, memory + rows, memory + 2 * rows};
}
int64_t StateFloats(int64_t rows, int dim) { return rows * (dim + 2); }

void Clear(const SoftmaxState& s, int64_t rows, int dim) {
  std::fill_n(s.max, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(s.sum, rows, 0.0f);
  std::memset(s.out, 0, sizeof(float) * static_cast<size_t>(rows * dim));
}

float ScaleOf(int head_dim) { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }

// What the tasks of one tile share.
struct Tile {
  QueryTile queries;
  int kv_head;
  int rows;                       // queries x R
  int64_t position;               // of the first query
  int64_t tokens;                 // seen by the last query
  int64_t limits[kDenseQueries];  // tokens seen by each query, from position 0
  const Bf16* const* cells;       // of the KV head
};

Tile MakeTile(const AttendParams& p, const QueryTile& queries, int kv_head) {
  Tile tile;
  tile.queries = queries;
  tile.kv_head = kv_head;
  tile.rows = queries.queries * p.shape.queries_per_kv();
  tile.position = p.first_position + queries.query;
  tile.tokens = tile.position + queries.queries;
  for (int i = 0; i < queries.queries; ++i) tile.limits[i] = tile.position + i + 1;
  tile.cells = p.kv.cells + kv_head * p.kv.cell_stride;
  return tile;
}

// Arguments that every run over tokens of this tile shares; q must hold the tile's rows.
TilesArgs BaseArgs(const AttendParams& p, const Tile& tile, ThreadScratch& t) {
  TilesArgs a;
  a.q = t.q.data();
  a.rows = tile.rows;
  a.head_dim = p.shape.head_dim;
  a.rows_per_query = p.shape.queries_per_kv();
  a.scale = ScaleOf(p.shape.head_dim);
  a.scores = t.scores.data();
  a.tile = t.tile.data();
  return a;
}

// Adds partition `index` of the keys to `state`.
void AddPartition(const AttendKernels& k, const AttendParams& p, const Tile& tile, int64_t index,
                  const SoftmaxState& state, ThreadScratch& t) {
  const int64_t first = index * spec::kPartitionTokens;
  int64_t limits[kDenseQueries];
  TilesArgs a = BaseArgs(p, tile, t);
  a.cells = tile.cells + first / kCell;
  a.tokens = std::min(tile.tokens - first, int64_t{spec::kPartitionTokens});
  for (int i = 0; i < tile.queries.queries; ++i) limits[i] = tile.limits[i] - first;
  a.limits = limits;
  a.state = state;
  k.tiles(a);
}

// Writes a tile's rows to the output.
void PutRows(const AttendParams& p, const Tile& tile, const float* rows) {
  const int64_t r = p.shape.queries_per_kv(), dim = p.shape.head_dim;
  for (int i = 0; i < tile.queries.queries; ++i) {
    float* out =
        p.out + ((tile.queries.query + i) * int64_t{p.shape.heads} + tile.kv_head * r) * dim;
    std::memcpy(out, rows + i * r * dim, sizeof(float) * static_cast<size_t>(r * dim));
  }
}

// The cells of the windows of a tile, and how many of their tokens each query sees.
int64_t WindowCells(const Tile& tile, const spec::TokenRange& candidates, const Bf16** cells,
                    int64_t* limits) {
  int64_t n = 0;
  for (int64_t c = 0; c < candidates.begin / kCell; ++c) cells[n++] = tile.cells[c];
  for (int64_t c = candidates.end / kCell; c < spec::CeilDiv(tile.tokens, kCell); ++c) {
    cells[n++] = tile.cells[c];
  }
  for (int i = 0; i < tile.queries.queries; ++i) limits[i] = tile.limits[i] - candidates.size();
  return tile.tokens - candidates.size();
}

void AddWindows(const AttendKernels& k, const AttendParams& p, const Tile& tile,
                const spec::TokenRange& candidates, const SoftmaxState& state, ThreadScratch& t) {
  int64_t limits[kDenseQueries];
  TilesArgs a = BaseArgs(p, tile, t);
  a.tokens = WindowCells(tile, candidates, t.pieces.data(), limits);
  a.cells = t.pieces.data();
  a.limits = limits;
  a.state = state;
  k.tiles(a);
}

}  // namespace

void CpuOps::DenseTile(const AttendParams& p, int query, int queries, int kv_head,
                       ThreadScratch& t) {
  const Tile tile = MakeTile(p, {query, queries}, kv_head);
  const int dim = p.shape.head_dim;
  const SoftmaxState total = StateAt(t.state.data(), tile.rows);
  const SoftmaxState part = StateAt(t.state.data() + StateFloats(tile.rows, dim), tile.rows);
  GatherQueries(p.shape, p.q, tile.queries, kv_head, t.q.data());
  Clear(total, tile.rows, dim);
  for (int64_t i = 0; i * spec::kPartitionTokens < tile.tokens; ++i) {
    Clear(part, tile.rows, dim);
    AddPartition(kernels_.attend, p, tile, i, part, t);
    kernels_.attend.merge(total, part, 1.0f, tile.rows, dim);
  }
  kernels_.attend.divide(total, tile.rows, dim, part.out);
  PutRows(p, tile, part.out);
}

void CpuOps::AttendDense(const AttendDenseParams& p) {
  const int kv = p.shape.kv_heads, dim = p.shape.head_dim;
  const int64_t tiles = QueryTiles(p.first_position, p.queries, kDenseQueries);
  const auto tile_at = [&](int64_t i) {
    return TileAt(p.first_position, p.queries, kDenseQueries, i / kv);
  };
  if (tiles > 1) {
    return Parallel(tiles * kv, [&](int64_t i, ThreadScratch& t) {
      const QueryTile tile = tile_at(i);
      DenseTile(p, tile.query, tile.queries, static_cast<int>(i % kv), t);
    });
  }
  const int64_t partitions = spec::CeilDiv(p.first_position + p.queries, spec::kPartitionTokens);
  const int64_t rows = p.queries * p.shape.queries_per_kv(), floats = StateFloats(rows, dim);
  Parallel(kv * partitions, [&](int64_t i, ThreadScratch& t) {
    const Tile tile = MakeTile(p, tile_at(0), static_cast<int>(i / partitions));
    GatherQueries(p.shape, p.q, tile.queries, tile.kv_head, t.q.data());
    const SoftmaxState part = StateAt(scratch_.states().data() + i * floats, rows);
    Clear(part, rows, dim);
    AddPartition(kernels_.attend, p, tile, i % partitions, part, t);
  });
  ThreadScratch& t = scratch_.thread(0);
  for (int head = 0; head < kv; ++head) {
    const SoftmaxState total = StateAt(t.state.data(), rows);
    Clear(total, rows, dim);
    for (int64_t i = 0; i < partitions; ++i) {
      float* part = scratch_.states().data() + (head * partitions + i) * floats;
      kernels_.attend.merge(total, StateAt(part, rows), 1.0f, static_cast<int>(rows), dim);
    }
    float* out = t.state.data() + floats;
    kernels_.attend.divide(total, static_cast<int>(rows), dim, out);
    PutRows(p, MakeTile(p, tile_at(0), head), out);
  }
}

void CpuOps::AttendSampled(const AttendSampledParams& p) {
  const int kv = p.shape.kv_heads, dim = p.shape.head_dim;
  const int64_t tiles = QueryTiles(p.first_position, p.queries, kDenseQueries);
  Parallel(tiles * kv, [&](int64_t i, ThreadScratch& t) {
    const QueryTile queries = TileAt(p.first_position, p.queries, kDenseQueries, i / kv);
    const Tile tile = MakeTile(p, queries, static_cast<int>(i % kv));
    const spec::TokenRange range =
        spec::CandidateRange(tile.position, p.sink_chunks, p.local_chunks);
    if (range.empty()) {
      return DenseTile(p, queries.query, queries.queries, tile.kv_head, t);
    }
    const SoftmaxState total = StateAt(t.state.data(), tile.rows);
    const SoftmaxState sample = StateAt(t.state.data() + StateFloats(tile.rows, dim), tile.rows);
    GatherQueries(p.shape, p.q, queries, tile.kv_head, t.q.data());
    Clear(total, tile.rows, dim);
    AddWindows(kernels_.attend, p, tile, range, total, t);

    const int64_t cells = range.size() / kCell, stride = spec::SampleStride(cells, p.most_cells);
    int64_t n = 0;
    for (int64_t c = 0; c < cells; c += stride) {
      t.pieces[static_cast<size_t>(n++)] = tile.cells[range.begin / kCell + c];
    }
    TilesArgs a = BaseArgs(p, tile, t);
    a.cells = t.pieces.data();
    a.tokens = n * kCell;
    a.state = sample;
    Clear(sample, tile.rows, dim);
    kernels_.attend.tiles(a);
    const float weight =
        static_cast<float>(static_cast<double>(range.size()) / static_cast<double>(a.tokens));
    kernels_.attend.merge(total, sample, weight, tile.rows, dim);
    kernels_.attend.divide(total, tile.rows, dim, sample.out);
    PutRows(p, tile, sample.out);
  });
}

namespace {

// Steps 7, 9 and 10 for the queries of a tile, after its windows.
class RoutedRows {
 public:
  RoutedRows(const AttendKernels& kernels, const AttendRoutedParams& p, const Tile& tile,
             const SoftmaxState& windows, ThreadScratch& t)
      : kernels_(kernels), p_(p), tile_(tile), windows_(windows), t_(t) {}

  void Query(int i) {
    const int r = p_.shape.queries_per_kv();
    const bool per_head = p_.rule->scope == SelectionScope::kQueryHead;
    const int parts = per_head ? r : 1, rows = r / parts;
    for (int j = 0; j < parts; ++j) {
      const int selector = per_head ? tile_.kv_head * r + j : tile_.kv_head;
      Selector(i, selector, i * r + j * rows, rows);
    }
  }

 private:
  // Rows [row, row + rows) of the tile share the plan of `selector` for query i.
  void Selector(int i, int selector, int row, int rows) {
    const int dim = p_.shape.head_dim;
    const int64_t query = tile_.queries.query + i, at = query * p_.plan.selectors + selector;
    const int groups = p_.plan.counts[at];
    OpenedArgs a;
    float* memory = windows_.max + 2 * StateFloats(tile_.rows, dim);
    if (groups > 0) {
      a.q = t_.q.data() + int64_t{row} * dim;
      a.rows = rows;
      a.head_dim = dim;
      a.scale = ScaleOf(dim);
      a.groups = groups;
      a.state = StateAt(memory, rows);
      a.group_mass = t_.scores.data();
      a.scores = t_.opened.data();
      SetPieces(p_.plan.groups + at * p_.plan.budget, &a);
      kernels_.opened(a);
    }
    for (int k = 0; k < rows; ++k) Finish(query, row + k, k, groups > 0 ? &a : nullptr);
  }

  void SetPieces(const int32_t* groups, OpenedArgs* a) {
    const int group = p_.rule->group, dim = p_.shape.head_dim;
    a->piece_tokens = std::min(group, kCell);
    a->pieces_per_group = group / a->piece_tokens;
    int64_t n = 0;
    for (int g = 0; g < a->groups; ++g) {
      const int64_t first = int64_t{groups[g]} * group;
      for (int64_t token = first; token < first + group; token += a->piece_tokens) {
        t_.pieces[static_cast<size_t>(n++)] = tile_.cells[token / kCell] + token % kCell * dim;
      }
    }
    a->pieces = t_.pieces.data();
  }

  void Finish(int64_t query, int row, int k, const OpenedArgs* opened) {
    const int dim = p_.shape.head_dim, r = p_.shape.queries_per_kv();
    const int64_t head = tile_.kv_head * r + row % r;
    const int64_t out = query * p_.shape.heads + head;
    FinishArgs f;
    f.head_dim = dim;
    f.windows = {windows_.max + row, windows_.sum + row, windows_.out + int64_t{row} * dim};
    if (opened != nullptr) {
      f.opened = {opened->state.max + k, opened->state.sum + k,
                  opened->state.out + int64_t{k} * dim};
      f.group_mass = opened->group_mass + int64_t{k} * opened->groups;
      f.groups = opened->groups;
    }
    if (p_.rule->tail && p_.tail != nullptr) f.tail = p_.tail + out * TailLayout::Width(dim);
    f.trust = static_cast<float>(p_.rule->trust);
    f.out = p_.out + out * dim;
    kernels_.finish(f);
  }

  const AttendKernels& kernels_;
  const AttendRoutedParams& p_;
  const Tile& tile_;
  const SoftmaxState windows_;
  ThreadScratch& t_;
};

}  // namespace

void CpuOps::AttendRouted(const AttendRoutedParams& p) {
  const int kv = p.shape.kv_heads, dim = p.shape.head_dim;
  const int64_t tiles = QueryTiles(p.first_position, p.queries, kRouteQueries);
  Parallel(tiles * kv, [&](int64_t i, ThreadScratch& t) {
    const QueryTile queries = TileAt(p.first_position, p.queries, kRouteQueries, i / kv);
    const Tile tile = MakeTile(p, queries, static_cast<int>(i % kv));
    const spec::TokenRange range =
        spec::CandidateRange(tile.position, p.rule->sink_chunks, p.rule->local_chunks);
    if (range.empty()) {
      return DenseTile(p, queries.query, queries.queries, tile.kv_head, t);
    }
    const SoftmaxState windows = StateAt(t.state.data(), tile.rows);
    GatherQueries(p.shape, p.q, queries, tile.kv_head, t.q.data());
    Clear(windows, tile.rows, dim);
    AddWindows(kernels_.attend, p, tile, range, windows, t);
    RoutedRows rows(kernels_.attend, p, tile, windows, t);
    for (int q = 0; q < queries.queries; ++q) rows.Query(q);
  });
}

}  // namespace hga::cpu
