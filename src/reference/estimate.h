// SPDX-License-Identifier: Apache-2.0
// What one query believes of its candidate range from summaries alone: steps 2 to 5 of the law.
#ifndef HGA_REFERENCE_ESTIMATE_H_
#define HGA_REFERENCE_ESTIMATE_H_

#include <cstdint>
#include <vector>

#include "backend/ops.h"

namespace hga::reference {

// The query of one selector: a KV head with its query heads, or one query head.
struct SelectorQuery {
  HeadShape shape;
  const RoutingConfig* rule = nullptr;
  const SummaryView* summaries = nullptr;
  const float* q = nullptr;  // [heads][head_dim] of this query
  int64_t position = 0;
  int kv_head = 0;
  int first_head = 0;
  int heads = 0;  // query heads that select together
};

// The query of selector `selector` of query number `query` of the call.
SelectorQuery QueryOf(const HeadShape& shape, const RoutingConfig& rule, const SummaryView& view,
                      const float* q, int64_t first_position, int query, int selector);

struct Estimate {
  std::vector<int64_t> groups;  // candidates of surviving chunks, ascending, from position 0
  std::vector<int64_t> chunks;  // candidate chunks outside the beam, ascending
  std::vector<std::vector<double>> group_mass;  // [heads][groups] e of each
  std::vector<std::vector<double>> chunk_mass;  // [heads][chunks]
  std::vector<double> share;                    // [groups] the selector's score
  std::vector<int> opened;                      // indices into `groups`, ascending
  double last_kept, first_dropped;              // first level, see PlanMargin
};

Estimate EstimateFor(const SelectorQuery& query);

// The smallest score among `chosen` (ascending indices) and the largest among the others.
void MarginOf(const std::vector<double>& score, const std::vector<int>& chosen, double* last,
              double* first_refused);

// log of the sum of exponentials; minus infinity of nothing.
double LogSumExp(const std::vector<double>& x);

// Value mean `mean` of a KV head: [head_dim].
std::vector<double> ValueMean(const SelectorQuery& query, int64_t mean);
std::vector<double> ChunkValueMean(const SelectorQuery& query, int64_t chunk);

}  // namespace hga::reference

#endif  // HGA_REFERENCE_ESTIMATE_H_
