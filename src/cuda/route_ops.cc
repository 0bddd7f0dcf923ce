// SPDX-License-Identifier: Apache-2.0
// Routing as launches: chunks of the first level, groups, selection, and the tail.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cuda/cuda_ops.h"
#include "cuda/select/config.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga::cuda {
namespace {

// Queries of one chunk under one rule, with everything they need in scratch.
class RoutePass {
 public:
  RoutePass(const HeadShape& shape, const RoutingConfig& rule, const SummaryView& summaries,
            const spec::TokenRange& range)
      : shape_(shape), rule_(rule), summaries_(summaries), range_(range) {
    const int64_t chunks = range.size() / spec::kChunk;
    kept_ = spec::BeamChunks(chunks, rule.chunk_beam, rule.beam_share);
    beam_ = kept_ < chunks;
  }

  // Lays out scratch for `queries` queries; with `own_scores` also for their scores.
  void Cut(int queries, bool own_scores, Carver& carver);
  void Begin(const float* q) { call_.q = q; }
  // Up to the scores of every group.
  void Score(float* scores, int64_t stride, const Queue& queue);
  // Selection, then the tail unless it is null.
  void Open(const PlanView& plan, float* tail, const Queue& queue);
  // The first level alone.
  void Keep(uint8_t* kept, int64_t stride, const Queue& queue);
  float* own_scores() const { return scores_; }
  int64_t groups() const { return groups_.items(); }

 private:
  ScanLevel LevelOf(bool chunk_level) const;
  void Beam(const Queue& queue);

  HeadShape shape_;
  const RoutingConfig& rule_;
  const SummaryView& summaries_;
  spec::TokenRange range_;
  int64_t kept_ = 0;
  bool beam_ = false;
  RouteCall call_;
  ScanLevel groups_, chunks_;
  TailLevel group_tail_, chunk_tail_;
  float* scores_ = nullptr;
  uint8_t* flags_ = nullptr;
};

ScanLevel RoutePass::LevelOf(bool chunk_level) const {
  ScanLevel level;
  level.keys = chunk_level ? summaries_.chunk_keys : summaries_.keys;
  level.scales = chunk_level ? summaries_.chunk_key_scales : summaries_.key_scales;
  level.capacity = chunk_level ? summaries_.chunk_key_means : summaries_.key_means;
  level.span = chunk_level ? rule_.chunk_key_span : rule_.key_span;
  level.per_item = chunk_level ? spec::ChunkMeansPerChunk(rule_) : spec::MeansPerGroup(rule_);
  level.first_mean = range_.begin / level.span;
  level.last_mean = range_.end / level.span;
  level.log_span = static_cast<float>(std::log(static_cast<double>(level.span)));
  return level;
}

void RoutePass::Cut(int queries, bool own_scores, Carver& carver) {
  const bool by_kv_head = rule_.scope == SelectionScope::kKvHead;
  call_.heads = shape_.heads;
  call_.kv_heads = shape_.kv_heads;
  call_.head_dim = shape_.head_dim;
  call_.queries = queries;
  call_.rows_per_selector = by_kv_head ? shape_.queries_per_kv() : 1;
  call_.softmax_scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  call_.fp8 = rule_.summary_dtype == SummaryDtype::kFp8;
  const int64_t rows = call_.rows(), selectors = call_.selector_rows();
  call_.row_max = carver.Take<float>(rows);
  const auto masses = [&](ScanLevel& level) {
    level.mass = carver.Take<float>(rows * level.items());
    level.segment = carver.Take<Segment>(rows * level.segments());
  };
  groups_ = LevelOf(false);
  masses(groups_);
  if (beam_) {
    chunks_ = LevelOf(true);
    masses(chunks_);
    flags_ = carver.Take<uint8_t>(selectors * chunks_.items());
    groups_.kept = flags_;
  }
  if (own_scores || beam_) scores_ = carver.Take<float>(selectors * groups_.items());
  if (!rule_.tail) return;
  const auto parts = [&](TailLevel& tail, const ScanLevel& level) {
    tail.masses = level;
    tail.part = carver.Take<float>(rows * tail.parts() * (shape_.head_dim + 4));
  };
  group_tail_.items_per_value = spec::GroupsPerValue(rule_);
  group_tail_.values = summaries_.values;
  group_tail_.scales = summaries_.value_scales;
  group_tail_.capacity = summaries_.value_means;
  parts(group_tail_, groups_);
  if (!beam_) return;
  chunk_tail_.values = summaries_.chunk_values;
  chunk_tail_.scales = summaries_.chunk_value_scales;
  chunk_tail_.capacity = summaries_.chunks;
  parts(chunk_tail_, chunks_);
}

// The first level: which chunks survive; the others keep their mass.
void RoutePass::Beam(const Queue& queue) {
  LaunchScan(call_, chunks_, queue);
  LaunchCombine(call_, chunks_, ScanLevel(), queue);
  LaunchScore(call_, chunks_, scores_, chunks_.items(), queue);
  SelectRows select;
  select.scores = scores_;
  select.stride = select.n = chunks_.items();
  select.count = static_cast<int>(kept_);
  select.flags = flags_;
  LaunchSelect(select, call_.selector_rows(), queue);
  ScanLevel dropped = chunks_;
  dropped.kept = flags_;
  LaunchDrop(call_, dropped, queue);
}

void RoutePass::Keep(uint8_t* kept, int64_t stride, const Queue& queue) {
  if (beam_) Beam(queue);
  LaunchKeep(call_, flags_, range_.begin / spec::kChunk, range_.size() / spec::kChunk, kept, stride,
             queue);
}

void RoutePass::Score(float* scores, int64_t stride, const Queue& queue) {
  if (beam_) Beam(queue);
  LaunchScan(call_, groups_, queue);
  LaunchCombine(call_, groups_, chunks_, queue);
  LaunchScore(call_, groups_, scores, stride, queue);
}

void RoutePass::Open(const PlanView& plan, float* tail, const Queue& queue) {
  const int64_t available = kept_ * spec::GroupsPerChunk(rule_);
  SelectRows select;
  select.scores = scores_;
  select.stride = select.n = groups();
  select.count = static_cast<int>(std::min<int64_t>(rule_.groups_budget, available));
  select.chosen = plan.groups;
  select.chosen_stride = plan.budget;
  select.base = static_cast<int32_t>(range_.begin / rule_.group);
  select.counts = plan.counts;
  LaunchSelect(select, call_.selector_rows(), queue);
  if (tail == nullptr) return;
  LaunchOpened(call_, group_tail_, plan, tail, queue);
  LaunchTailParts(call_, group_tail_, queue);
  if (beam_) LaunchTailParts(call_, chunk_tail_, queue);
  LaunchTailSum(call_, group_tail_, chunk_tail_, tail, queue);
}

// As many queries as fit into scratch, at most `most`; 0 if not even one does.
int QueriesThatFit(RoutePass& pass, bool own_scores, int most, int64_t bytes) {
  const auto fits = [&](int queries) {
    Carver count(nullptr);
    pass.Cut(queries, own_scores, count);
    return count.used() <= bytes;
  };
  int queries = most;
  while (queries > 0 && !fits(queries)) queries /= 2;
  return queries;
}

int64_t BytesOfOne(RoutePass& pass, bool own_scores) {
  Carver count(nullptr);
  pass.Cut(1, own_scores, count);
  return count.used();
}

// Calls f(first query, queries, pass) for pieces of a call that have candidates and fit into
// scratch, and none(first query, queries) for those without.
template <class None, class F>
Status ForEachPass(const HeadShape& shape, const RoutingConfig& rule, const SummaryView& summaries,
                   const float* q, int64_t first_position, int queries, bool own_scores,
                   const DeviceMemory& work, const None& none, const F& f) {
  for (int first = 0; first < queries;) {
    const ChunkRun run = ChunkRunAt(first_position, queries, first);
    const auto range =
        spec::CandidateRange(first_position + first, rule.sink_chunks, rule.local_chunks);
    if (range.empty()) {
      none(first, run.count);
      first += run.count;
      continue;
    }
    RoutePass pass(shape, rule, summaries, range);
    const int fit = QueriesThatFit(pass, own_scores, run.count, work.size());
    if (fit == 0) {
      return ResourceExhausted(
          fmt::format("routing one query needs {} bytes of scratch on the GPU, {} were prepared",
                      BytesOfOne(pass, own_scores), work.size()));
    }
    Carver carver(work.data());
    pass.Cut(fit, own_scores, carver);
    pass.Begin(q + int64_t{first} * shape.heads * shape.head_dim);
    f(first, fit, pass);
    first += fit;
  }
  return OkStatus();
}

}  // namespace

void CudaOps::Route(const RouteParams& p) {
  const int64_t heads = p.shape.heads, width = TailLayout::Width(p.shape.head_dim);
  float* tails = p.rule->tail ? p.tail : nullptr;
  const auto plan_at = [&](int first) {
    PlanView plan = p.plan;
    plan.groups += int64_t{first} * plan.selectors * plan.budget;
    plan.counts += int64_t{first} * plan.selectors;
    return plan;
  };
  const auto tail_at = [&](int first) {
    return tails != nullptr ? tails + first * heads * width : nullptr;
  };
  const auto none = [&](int first, int queries) {
    stream_->Fill(plan_at(first).counts, 0, int64_t{queries} * p.plan.selectors * 4);
    if (tails != nullptr) stream_->Fill(tail_at(first), 0, queries * heads * width * 4);
  };
  stream_->Fail(ForEachPass(p.shape, *p.rule, p.summaries, p.q, p.first_position, p.queries, true,
                            work_, none, [&](int first, int, RoutePass& pass) {
                              pass.Score(pass.own_scores(), pass.groups(), queue());
                              pass.Open(plan_at(first), tail_at(first), queue());
                            }));
}

void CudaOps::Beam(const BeamParams& p) {
  stream_->Fill(p.kept, 0, p.shape.kv_heads * p.kept_stride);
  stream_->Fail(ForEachPass(
      p.shape, *p.rule, p.summaries, p.q, p.first_position, p.queries, false, work_,
      [](int, int) {},
      [&](int, int, RoutePass& pass) { pass.Keep(p.kept, p.kept_stride, queue()); }));
}

void CudaOps::Score(const ScoreParams& p) {
  const int selectors = spec::Selectors(*p.rule, p.shape.heads, p.shape.kv_heads);
  stream_->Fail(ForEachPass(
      p.shape, *p.rule, p.summaries, p.q, p.first_position, p.queries, false, work_,
      [](int, int) {},
      [&](int first, int, RoutePass& pass) {
        pass.Score(p.scores + int64_t{first} * selectors * p.groups, p.groups, queue());
      }));
}

}  // namespace hga::cuda
