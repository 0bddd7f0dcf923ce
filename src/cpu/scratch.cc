// SPDX-License-Identifier: Apache-2.0
// Sizes of the CPU backend's scratch.
#include "cpu/scratch.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "spec/layout.h"

namespace hga::cpu {
namespace {

using spec::CeilDiv;

size_t Size(int64_t count) { return static_cast<size_t>(count); }

template <class T>
Status Make(int64_t count, Array<T>* out) {
  HGA_ASSIGN_OR_RETURN(*out, Array<T>::Make(Size(count)));
  return OkStatus();
}

Status MakeThread(const OpsLimits& l, ThreadScratch* t) {
  const int64_t r = l.shape.queries_per_kv(), dim = l.shape.head_dim;
  const int64_t context = CeilDiv(l.context, spec::kChunk) * spec::kChunk;
  const int64_t route_rows = kRouteQueries * r, dense_rows = kDenseQueries * r;
  const int64_t widest = std::max({int64_t{l.hidden}, int64_t{l.ffn_width}, l.shape.heads * dim});
  HGA_RETURN_IF_ERROR(Make(LinearScratchFloats(widest) + kLinearTileFloats, &t->linear));
  HGA_RETURN_IF_ERROR(Make(route_rows * spec::kSegmentTokens, &t->e));
  HGA_RETURN_IF_ERROR(Make(dim * 2 * spec::kPanel, &t->panel));
  HGA_RETURN_IF_ERROR(Make(route_rows * dim, &t->narrow));
  HGA_RETURN_IF_ERROR(Make(2 * spec::kChunk * dim, &t->tile));
  HGA_RETURN_IF_ERROR(Make(std::max(dense_rows * spec::kChunk, r * context), &t->scores));
  HGA_RETURN_IF_ERROR(Make(r * (context + 4), &t->opened));
  HGA_RETURN_IF_ERROR(Make(route_rows * dim, &t->part));
  HGA_RETURN_IF_ERROR(Make(3 * dense_rows * (dim + 2), &t->state));
  HGA_RETURN_IF_ERROR(Make(dense_rows * dim, &t->q));
  HGA_RETURN_IF_ERROR(Make(context, &t->pieces));
  HGA_RETURN_IF_ERROR(Make(2 * context, &t->ranks));
  HGA_RETURN_IF_ERROR(Make(context + 16, &t->index));
  return Make(context / 16 + 16, &t->maxima);
}

Status MakeWorkspace(const OpsLimits& l, RouteWorkspace* w) {
  const int64_t r = l.shape.queries_per_kv(), dim = l.shape.head_dim, rows = kRouteQueries * r;
  const int64_t chunks = CeilDiv(l.context, spec::kChunk), context = chunks * spec::kChunk;
  const int64_t segments = CeilDiv(context, spec::kSegmentTokens);
  HGA_RETURN_IF_ERROR(Make(rows * dim, &w->q));
  HGA_RETURN_IF_ERROR(Make(rows * context, &w->mass));
  HGA_RETURN_IF_ERROR(Make(rows * segments * 3, &w->segment));
  HGA_RETURN_IF_ERROR(Make(rows * chunks, &w->chunk_mass));
  HGA_RETURN_IF_ERROR(Make(rows * segments * 3, &w->chunk_segment));
  HGA_RETURN_IF_ERROR(Make(rows * chunks, &w->kept));
  HGA_RETURN_IF_ERROR(Make(context, &w->skip));
  return Make(segments * rows * (dim + 1), &w->part);
}

}  // namespace

Status Scratch::Prepare(const OpsLimits& limits, int threads) {
  limits_ = limits;
  threads_.resize(Size(threads));
  for (ThreadScratch& t : threads_) HGA_RETURN_IF_ERROR(MakeThread(limits, &t));
  workspaces_.resize(Size(std::max(2 * threads, limits.shape.kv_heads)));
  for (RouteWorkspace& w : workspaces_) HGA_RETURN_IF_ERROR(MakeWorkspace(limits, &w));

  const int64_t choices = int64_t{limits.rows} * std::max(1, limits.experts_per_token);
  HGA_RETURN_IF_ERROR(Make(choices * (2 * limits.hidden + 3 * limits.ffn_width + 1) +
                               int64_t{limits.rows} * std::max(1, limits.experts),
                           &experts_));
  HGA_RETURN_IF_ERROR(Make(2 * choices + 2 * limits.experts + 2, &routing_));
  expert_jobs_.resize(2 * Size(limits.experts));
  // Dense attention of a few queries: a state per (query tile, KV head, partition).
  const int64_t partitions = CeilDiv(limits.context, spec::kPartitionTokens) + 1;
  const int64_t tile_rows = kDenseQueries * limits.shape.queries_per_kv();
  return Make(limits.shape.kv_heads * partitions * tile_rows * (limits.shape.head_dim + 2),
              &states_);
}

}  // namespace hga::cpu
