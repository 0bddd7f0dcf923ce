// SPDX-License-Identifier: Apache-2.0
// Windows, samples and plans as cells.
#include "attention/cell_needs.h"

#include <algorithm>

#include "spec/layout.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga {

using spec::kCell;

std::vector<LayerPolicy> PoliciesOf(const AttentionConfig& config, int layers, bool tiered) {
  std::vector<LayerPolicy> policies(static_cast<size_t>(layers));
  for (int layer = 0; tiered && layer < layers; ++layer) {
    const LayerKind kind = config.KindOf(layer);
    if (kind == LayerKind::kDense) continue;
    const RoutingConfig& rule = config.RuleOf(layer);
    LayerPolicy& policy = policies[static_cast<size_t>(layer)];
    policy.resident = false;
    policy.sink_chunks = rule.sink_chunks;
    policy.local_chunks = rule.local_chunks;
    policy.sample_cells = kind == LayerKind::kSampled ? config.sampled_layers.at(layer) : 0;
  }
  return policies;
}

namespace {

void AddRange(const HeadShape& shape, int64_t first, int64_t end, int64_t stride,
              CellFetch* fetch) {
  for (int head = 0; head < shape.kv_heads; ++head) {
    for (int64_t cell = first; cell < end; cell += stride) fetch->Add(head, cell);
  }
}

}  // namespace

void AddWindows(const HeadShape& shape, int sink_chunks, int local_chunks, int64_t position,
                CellFetch* fetch) {
  const spec::TokenRange range = spec::CandidateRange(position, sink_chunks, local_chunks);
  AddRange(shape, 0, range.begin / kCell, 1, fetch);
  AddRange(shape, range.end / kCell, position / kCell + 1, 1, fetch);
}

void AddSample(const HeadShape& shape, const RoutingConfig& rule, int most_cells, int64_t position,
               CellFetch* fetch) {
  AddWindows(shape, rule.sink_chunks, rule.local_chunks, position, fetch);
  const spec::TokenRange range =
      spec::CandidateRange(position, rule.sink_chunks, rule.local_chunks);
  if (range.empty()) return;
  AddRange(shape, range.begin / kCell, range.end / kCell,
           spec::SampleStride(range.size() / kCell, most_cells), fetch);
}

void AddGroups(int kv_head, int group, const int32_t* groups, int64_t count, CellFetch* fetch) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = int64_t{groups[i]} * group;
    for (int64_t cell = first / kCell; cell <= (first + group - 1) / kCell; ++cell) {
      fetch->Add(kv_head, cell);
    }
  }
}

void AddPlan(const AttendRoutedParams& p, int query, CellFetch* fetch) {
  const int per_head = p.plan.selectors / p.shape.kv_heads;
  for (int s = 0; s < p.plan.selectors; ++s) {
    const int64_t at = int64_t{query} * p.plan.selectors + s;
    AddGroups(s / per_head, p.rule->group, p.plan.groups + at * p.plan.budget, p.plan.counts[at],
              fetch);
  }
}

int64_t MostOpenedCells(const HeadShape& shape, const RoutingConfig& rule) {
  const int64_t cells = std::max(1, rule.group / kCell);
  return int64_t{spec::Selectors(rule, shape.heads, shape.kv_heads)} * rule.groups_budget * cells;
}

}  // namespace hga
