// SPDX-License-Identifier: Apache-2.0
// The score of every candidate group, and how clear the choice among them is.
#include <limits>

#include "reference/estimate.h"
#include "reference/reference.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga {
namespace reference {

// Scores are counted from the first candidate group of the query.
void Score(const ScoreParams& p) {
  const RoutingConfig& rule = *p.rule;
  const int selectors = spec::Selectors(rule, p.shape.heads, p.shape.kv_heads);
  for (int query = 0; query < p.queries; ++query) {
    const auto range =
        spec::CandidateRange(p.first_position + query, rule.sink_chunks, rule.local_chunks);
    const int64_t first = range.begin / rule.group, candidates = range.size() / rule.group;
    for (int selector = 0; selector < selectors; ++selector) {
      const Estimate estimate =
          EstimateFor(QueryOf(p.shape, rule, p.summaries, p.q, p.first_position, query, selector));
      float* scores = p.scores + (int64_t{query} * selectors + selector) * p.groups;
      for (int64_t x = 0; x < candidates; ++x) scores[x] = -std::numeric_limits<float>::infinity();
      for (size_t x = 0; x < estimate.groups.size(); ++x) {
        scores[estimate.groups[x] - first] = static_cast<float>(estimate.share[x]);
      }
    }
  }
}

}  // namespace reference

std::vector<PlanMargin> PlanMargins(const RouteParams& p) {
  const int selectors = spec::Selectors(*p.rule, p.shape.heads, p.shape.kv_heads);
  std::vector<PlanMargin> margins;
  for (int query = 0; query < p.queries; ++query) {
    for (int selector = 0; selector < selectors; ++selector) {
      const auto estimate = reference::EstimateFor(reference::QueryOf(
          p.shape, *p.rule, p.summaries, p.q, p.first_position, query, selector));
      PlanMargin margin;
      margin.last_kept = estimate.last_kept;
      margin.first_dropped = estimate.first_dropped;
      reference::MarginOf(estimate.share, estimate.opened, &margin.last_opened, &margin.first_shut);
      margins.push_back(margin);
    }
  }
  return margins;
}

}  // namespace hga
