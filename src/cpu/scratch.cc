// SPDX-License-Identifier: Apache-2.0
// Sizes of the CPU backend's scratch.
#include "cpu/scratch.h"

#include <algorithm>
#include <utility>

#include "cpu/dispatch.h"
#include "spec/layout.h"

namespace hga::cpu {
namespace {

using spec::CeilDiv;

size_t Size(int64_t count) { return static_cast<size_t>(count); }

// What is done with each array: it gets its address space, or what of it will be touched is summed.
class Maker {
 public:
  template <class T>
  void operator()(int64_t count, int64_t, Array<T>* out) {
    if (!status_.ok()) return;
    // In small pages: scratch is in the caches, and memory is taken for what is touched alone.
    auto made = Array<T>::Make(Size(count), false);
    status_ = made.status();
    if (made.ok()) *out = std::move(*made);
  }
  const Status& status() const { return status_; }

 private:
  Status status_;
};

class Counter {
 public:
  template <class T>
  void operator()(int64_t, int64_t touched, Array<T>*) {
    bytes_ += CeilDiv(touched * static_cast<int64_t>(sizeof(T)), kPage) * kPage;
  }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kPage = 4096;
  int64_t bytes_ = 0;
};

// `make(size, touched, array)` for each array: sizes serve any rule.
template <class F>
void ForThread(const OpsLimits& l, const ScratchUse& use, ThreadScratch* t, F&& make) {
  const int64_t r = l.shape.queries_per_kv(), dim = l.shape.head_dim;
  const int64_t context = CeilDiv(l.context, spec::kChunk) * spec::kChunk;
  const int64_t groups = context / use.group;
  const int64_t route_rows = kRouteQueries * r, dense_rows = kDenseQueries * r;
  const int64_t widest = std::max({int64_t{l.hidden}, int64_t{l.ffn_width}, l.shape.heads * dim});
  const auto whole = [&make](int64_t count, auto* out) { make(count, count, out); };
  whole(LinearScratchFloats(widest) + kLinearTileFloats, &t->linear);
  whole(route_rows * spec::kSegmentTokens, &t->e);
  whole(dim * 2 * spec::kPanel, &t->panel);
  whole(route_rows * dim, &t->narrow);
  whole(2 * spec::kChunk * dim, &t->tile);
  make(std::max(dense_rows * spec::kChunk, r * context),
       std::max(dense_rows * spec::kChunk, r * groups), &t->scores);
  make(r * (context + 4), r * groups, &t->opened);
  whole(route_rows * dim, &t->part);
  whole(3 * dense_rows * (dim + 2), &t->state);
  whole(dense_rows * dim, &t->q);
  make(context, groups, &t->pieces);
  make(2 * context, 2 * groups, &t->ranks);
  make(context + 16, groups, &t->index);
  make(context / 16 + 16, groups / 16, &t->maxima);
}

template <class F>
void ForWorkspace(const OpsLimits& l, const ScratchUse& use, RouteWorkspace* w, F&& make) {
  const int64_t r = l.shape.queries_per_kv(), dim = l.shape.head_dim, rows = kRouteQueries * r;
  const int64_t chunks = CeilDiv(l.context, spec::kChunk), context = chunks * spec::kChunk;
  const int64_t segments = CeilDiv(context, spec::kSegmentTokens);
  const auto whole = [&make](int64_t count, auto* out) { make(count, count, out); };
  whole(rows * dim, &w->q);
  make(rows * context, rows * context / use.group, &w->mass);
  whole(rows * segments * 3, &w->segment);
  make(rows * chunks, use.beam ? rows * chunks : 0, &w->chunk_mass);
  make(rows * segments * 3, use.beam ? rows * segments * 3 : 0, &w->chunk_segment);
  make(rows * chunks, use.beam ? rows * chunks : 0, &w->kept);
  make(context, context / use.group, &w->skip);
  whole(segments * rows * (dim + 1), &w->part);
}

template <class F>
void ForShared(const OpsLimits& l, const ScratchUse& use, Array<float>* experts,
               Array<int32_t>* routing, Array<float>* states, F&& make) {
  const int64_t choices = int64_t{l.rows} * std::max(1, l.experts_per_token);
  const auto whole = [&make](int64_t count, auto* out) { make(count, count, out); };
  whole(choices * (2 * l.hidden + 3 * l.ffn_width + 1) + int64_t{l.rows} * std::max(1, l.experts),
        experts);
  whole(2 * choices + 2 * l.experts + 2, routing);
  // Dense attention of a few queries: a state per (query tile, KV head, partition).
  const int64_t partitions = CeilDiv(l.context, spec::kPartitionTokens) + 1;
  const int64_t tile_rows = kDenseQueries * l.shape.queries_per_kv();
  const int64_t floats = l.shape.kv_heads * partitions * tile_rows * (l.shape.head_dim + 2);
  make(floats, use.dense ? floats : 0, states);
}

}  // namespace

Status Scratch::Prepare(const OpsLimits& limits, int threads) {
  limits_ = limits;
  threads_.resize(Size(threads));
  workspaces_.resize(Size(std::max(threads, limits.shape.kv_heads)));
  expert_jobs_.resize(2 * Size(limits.experts));
  Maker maker;
  for (ThreadScratch& t : threads_) ForThread(limits, {}, &t, maker);
  for (RouteWorkspace& w : workspaces_) ForWorkspace(limits, {}, &w, maker);
  ForShared(limits, {}, &experts_, &routing_, &states_, maker);
  return maker.status();
}

int64_t Scratch::Bytes(const OpsLimits& limits, int threads, const ScratchUse& use) {
  ThreadScratch thread;
  RouteWorkspace workspace;
  Scratch shared;
  Counter per_thread, per_workspace, once;
  ForThread(limits, use, &thread, per_thread);
  ForWorkspace(limits, use, &workspace, per_workspace);
  ForShared(limits, use, &shared.experts_, &shared.routing_, &shared.states_, once);
  return threads * per_thread.bytes() +
         std::max(threads, limits.shape.kv_heads) * per_workspace.bytes() + once.bytes();
}

}  // namespace hga::cpu
