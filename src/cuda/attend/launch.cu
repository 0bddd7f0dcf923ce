// SPDX-License-Identifier: Apache-2.0
// Launches exact attention.
#include <algorithm>

#include "cuda/attend/kernel.cuh"

namespace hga::cuda {
namespace {

TileGrid GridOf(const AttendCall& call, const TokenList& list) {
  TileGrid grid;
  const int group = call.shape.queries_per_kv();
  const bool own_plan = list.groups != nullptr && list.selectors == call.shape.heads;
  grid.tile_heads = own_plan ? 1 : std::min(group, kAttendRows);
  grid.tile_queries = list.groups != nullptr ? 1 : std::max(1, kAttendRows / grid.tile_heads);
  grid.head_tiles = static_cast<int>(spec::CeilDiv(group, grid.tile_heads));
  grid.query_tiles = static_cast<int>(spec::CeilDiv(call.queries, grid.tile_queries));
  return grid;
}

template <int kDim>
void PartialsOf(const AttendCall& call, const TokenList& list, float* states, const Queue& queue) {
  const TileGrid grid = GridOf(call, list);
  const int64_t warps = list.units * grid.tiles(call.shape.kv_heads);
  const auto blocks = static_cast<unsigned>(spec::CeilDiv(warps, kAttendWarps));
  const dim3 block(kWarp, kAttendWarps);
  if (list.groups != nullptr) {
    PartialKernel<kDim, true><<<blocks, block, 0, queue.stream>>>(call, list, grid, states);
  } else {
    PartialKernel<kDim, false><<<blocks, block, 0, queue.stream>>>(call, list, grid, states);
  }
  queue.Launched("PartialKernel");
}

template <int kDim, int kRanks>
void FinishOf(const FinishParams& p, const Queue& queue) {
  const auto rows = static_cast<unsigned>(p.call.queries * p.call.shape.heads);
  FinishKernel<kDim, kRanks><<<rows, dim3(kDim, kRanks), 0, queue.stream>>>(p);
  queue.Launched("FinishKernel");
}

}  // namespace

void LaunchPartials(const AttendCall& call, const TokenList& list, float* states,
                    const Queue& queue) {
  if (call.queries <= 0 || list.units <= 0) return;
  if (call.shape.head_dim == 128) {
    PartialsOf<128>(call, list, states, queue);
  } else {
    PartialsOf<64>(call, list, states, queue);
  }
}

void LaunchFinish(const FinishParams& p, const Queue& queue) {
  const int rows = p.call.queries * p.call.shape.heads;
  if (rows == 0) return;
  const bool few = rows <= kFewMergedRows;
  if (p.call.shape.head_dim == 128) {
    few ? FinishOf<128, kMergeChains>(p, queue) : FinishOf<128, 1>(p, queue);
  } else {
    few ? FinishOf<64, kMergeChains>(p, queue) : FinishOf<64, 1>(p, queue);
  }
}

}  // namespace hga::cuda
