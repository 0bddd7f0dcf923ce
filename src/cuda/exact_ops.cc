// SPDX-License-Identifier: Apache-2.0
// Dense, sampled and routed attention as token lists and launches.
//
// Units of a list have a size that follows from the rule alone, so that a row's sums have one order
// whatever call it comes with.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/cuda_ops.h"
#include "spec/visibility.h"

namespace hga::cuda {

using spec::CeilDiv;
using spec::kChunk;

// What queries of one chunk (of any chunk: dense) attend to.
struct CudaOps::Exact {
  TokenList list;    // for the first of the queries
  TokenList second;  // no units: none
  float second_weight = 1;
  const float* tail = nullptr;  // of the call's first query
  float trust = 0;
};

namespace {

// The largest multiple of kStepTokens that cuts `tokens` into at most 64 units.
int UnitOf(int64_t tokens) {
  return static_cast<int>(std::max<int64_t>(1, CeilDiv(tokens, int64_t{64} * kStepTokens)) *
                          kStepTokens);
}

TokenList DenseList(int64_t first_position) {
  TokenList list;
  list.head = std::numeric_limits<int64_t>::max();
  list.tokens = first_position + 1;
  list.causal = true;
  list.unit = kDenseUnit;
  return list;
}

// Both windows, or everything where they meet.
TokenList WindowList(int64_t position, const spec::TokenRange& range, int sink_chunks,
                     int local_chunks) {
  TokenList list;
  list.head = range.begin;
  list.start = range.end;
  list.tokens = position + 1 - range.size();
  list.causal = true;
  list.unit = UnitOf((int64_t{sink_chunks} + local_chunks + 1) * kChunk);
  return list;
}

// Of queries from `first` on: pointers moved, limits raised.
TokenList From(TokenList list, int first) {
  if (list.causal) list.tokens += first;
  if (list.groups != nullptr) {
    list.groups += int64_t{first} * list.selectors * list.budget;
    list.counts += int64_t{first} * list.selectors;
  }
  return list;
}

// Units the last of `queries` queries may need.
int64_t UnitsOf(const TokenList& list, int queries) {
  const int64_t tokens = list.groups != nullptr ? int64_t{list.budget} * list.group
                                                : list.tokens + (list.causal ? queries - 1 : 0);
  return CeilDiv(tokens, list.unit);
}

AttendCall CallOf(const AttendParams& p, int first, int queries) {
  AttendCall call;
  call.shape = p.shape;
  call.q = p.q + int64_t{first} * p.shape.heads * p.shape.head_dim;
  call.queries = queries;
  call.kv = p.kv;
  call.scale_log2 = static_cast<float>(1.4426950408889634 / std::sqrt(p.shape.head_dim));
  return call;
}

}  // namespace

void CudaOps::RunExact(const AttendParams& p, int first, int count, const Exact& exact) {
  const int64_t heads = p.shape.heads, dim = p.shape.head_dim;
  const int64_t most = UnitsOf(exact.list, count) + UnitsOf(exact.second, count);
  const int64_t per_query = heads * most * StateWidth(p.shape.head_dim) * 4 + 512;
  const int64_t fit = work_.size() / per_query;
  if (fit < 1) return Refuse("attention", per_query);
  for (int done = 0; done < count;) {
    const int n = static_cast<int>(std::min<int64_t>(fit, count - done));
    const AttendCall call = CallOf(p, first + done, n);
    TokenList list = From(exact.list, done), second = From(exact.second, done);
    list.units = UnitsOf(list, n);
    second.units = UnitsOf(second, n);
    Carver carver(work_.data());
    FinishParams finish;
    float* states = carver.Take<float>(n * heads * list.units * StateWidth(p.shape.head_dim));
    LaunchPartials(call, list, states, queue());
    float* others = carver.Take<float>(n * heads * second.units * StateWidth(p.shape.head_dim));
    LaunchPartials(call, second, others, queue());
    finish.call = call;
    finish.first = states;
    finish.first_units = list.units;
    finish.second = others;
    finish.second_units = second.units;
    finish.second_weight = exact.second_weight;
    if (exact.tail != nullptr) {
      finish.tail = exact.tail + (first + done) * heads * TailLayout::Width(p.shape.head_dim);
    }
    finish.trust = exact.trust;
    finish.out = p.out + (first + done) * heads * dim;
    LaunchFinish(finish, queue());
    done += n;
  }
}

void CudaOps::AttendDense(const AttendDenseParams& p) {
  Exact exact;
  exact.list = DenseList(p.first_position);
  RunExact(p, 0, p.queries, exact);
}

void CudaOps::AttendSampled(const AttendSampledParams& p) {
  for (int first = 0; first < p.queries;) {
    const ChunkRun run = ChunkRunAt(p.first_position, p.queries, first);
    const int64_t position = p.first_position + first;
    const auto range = spec::CandidateRange(position, p.sink_chunks, p.local_chunks);
    Exact exact;
    exact.list = WindowList(position, range, p.sink_chunks, p.local_chunks);
    if (!range.empty()) {
      const int64_t cells = range.size() / spec::kCell;
      exact.second.start = range.begin;
      exact.second.stride = spec::SampleStride(cells, p.most_cells);
      exact.second.tokens = CeilDiv(cells, exact.second.stride) * spec::kCell;
      exact.second.unit = UnitOf(int64_t{p.most_cells} * spec::kCell);
      exact.second_weight = static_cast<float>(static_cast<double>(range.size()) /
                                               static_cast<double>(exact.second.tokens));
    }
    RunExact(p, run.first, run.count, exact);
    first += run.count;
  }
}

void CudaOps::AttendRouted(const AttendRoutedParams& p) {
  const RoutingConfig& rule = *p.rule;
  for (int first = 0; first < p.queries;) {
    const ChunkRun run = ChunkRunAt(p.first_position, p.queries, first);
    const int64_t position = p.first_position + first;
    const auto range = spec::CandidateRange(position, rule.sink_chunks, rule.local_chunks);
    Exact exact;
    exact.list = WindowList(position, range, rule.sink_chunks, rule.local_chunks);
    if (!range.empty()) {
      // No more groups than there are candidates can be open, whatever the budget.
      exact.second.groups = p.plan.groups + int64_t{first} * p.plan.selectors * p.plan.budget;
      exact.second.counts = p.plan.counts + int64_t{first} * p.plan.selectors;
      exact.second.selectors = p.plan.selectors;
      exact.second.budget = p.plan.budget;
      exact.second.group = rule.group;
      exact.second.unit = UnitOf(int64_t{rule.groups_budget} * rule.group);
      exact.tail = rule.tail ? p.tail : nullptr;
      exact.trust = static_cast<float>(rule.trust);
    }
    RunExact(p, run.first, run.count, exact);
    first += run.count;
  }
}

}  // namespace hga::cuda
