// SPDX-License-Identifier: Apache-2.0
// Steps 7, 9 and 10: real tokens of the working set, merged with the corrected tail.
#include <cmath>
#include <limits>

#include "reference/reference.h"
#include "reference/softmax.h"
#include "spec/visibility.h"

namespace hga::reference {
namespace {

// n = 1 / sum of w^2 over the opened groups, w the softmax of their exact log-masses.
double EffectiveGroups(const AttendParams& p, int query, int head, int group,
                       const std::vector<int32_t>& opened, double all) {
  double squares = 0;
  for (int32_t x : opened) {
    std::vector<int64_t> tokens;
    AppendRange(int64_t{x} * group, (int64_t{x} + 1) * group, tokens);
    const double w = std::exp(AttendTokens(p, query, head, tokens).log_mass - all);
    squares += w * w;
  }
  return 1 / squares;
}

// The tail row as Route wrote it, after the value correction.
Attended CorrectedTail(const AttendRoutedParams& p, int query, int head,
                       const std::vector<int32_t>& opened, const Attended& exact) {
  const int d = p.shape.head_dim;
  const float* row = p.tail + (int64_t{query} * p.shape.heads + head) * TailLayout::Width(d);
  const double sum = row[TailLayout::kSum];
  Attended tail{-std::numeric_limits<double>::infinity(), std::vector<double>(d, 0.0)};
  if (!(sum > 0)) return tail;
  tail.log_mass = row[TailLayout::kMax] + std::log(sum);
  double trust = 0;
  if (!opened.empty()) {
    const double n = EffectiveGroups(p, query, head, p.rule->group, opened, exact.log_mass);
    trust = n / (n + p.rule->trust);
  }
  for (int i = 0; i < d; ++i) {
    const double said = row[TailLayout::Said(d) + i];
    tail.out[i] = row[TailLayout::Out(d) + i] / sum + trust * (exact.out[i] - said);
  }
  return tail;
}

}  // namespace

void AttendRouted(const AttendRoutedParams& p) {
  const RoutingConfig& rule = *p.rule;
  const int heads_per_selector = p.shape.heads / p.plan.selectors;
  for (int query = 0; query < p.queries; ++query) {
    const int64_t t = p.first_position + query;
    const auto range = spec::CandidateRange(t, rule.sink_chunks, rule.local_chunks);
    std::vector<int64_t> fixed;
    AppendRange(0, range.begin, fixed);
    AppendRange(range.end, t + 1, fixed);
    for (int head = 0; head < p.shape.heads; ++head) {
      const int64_t slot = int64_t{query} * p.plan.selectors + head / heads_per_selector;
      const int32_t* groups = p.plan.groups + slot * p.plan.budget;
      const std::vector<int32_t> opened(groups, groups + p.plan.counts[slot]);
      std::vector<int64_t> tokens;
      for (int32_t x : opened) {
        AppendRange(int64_t{x} * rule.group, (int64_t{x} + 1) * rule.group, tokens);
      }
      const Attended exact = AttendTokens(p, query, head, tokens);
      Attended result = Merge(AttendTokens(p, query, head, fixed), exact);
      if (p.tail != nullptr) {
        result = Merge(result, CorrectedTail(p, query, head, opened, exact));
      }
      WriteOut(p, query, head, result);
    }
  }
}

}  // namespace hga::reference
