// SPDX-License-Identifier: Apache-2.0
// Survivors of the first level: step 4.
#include <algorithm>

#include "reference/estimate.h"
#include "reference/reference.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga::reference {

void Beam(const BeamParams& p) {
  const RoutingConfig& rule = *p.rule;
  std::fill_n(p.kept, p.shape.kv_heads * p.kept_stride, uint8_t{0});
  const int selectors = spec::Selectors(rule, p.shape.heads, p.shape.kv_heads);
  for (int query = 0; query < p.queries; ++query) {
    const auto range =
        spec::CandidateRange(p.first_position + query, rule.sink_chunks, rule.local_chunks);
    for (int selector = 0; selector < selectors; ++selector) {
      const SelectorQuery s =
          QueryOf(p.shape, rule, p.summaries, p.q, p.first_position, query, selector);
      const std::vector<int64_t> dropped = EstimateFor(s).chunks;
      uint8_t* kept = p.kept + s.kv_head * p.kept_stride;
      for (int64_t c = range.begin / spec::kChunk; c < range.end / spec::kChunk; ++c) {
        if (!std::binary_search(dropped.begin(), dropped.end(), c)) kept[c] = 1;
      }
    }
  }
}

}  // namespace hga::reference
