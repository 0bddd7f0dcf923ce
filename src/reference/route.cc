// SPDX-License-Identifier: Apache-2.0
// Plan and tail of consecutive queries: steps 2 to 6 and 8.
#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/estimate.h"
#include "reference/reference.h"
#include "spec/rules.h"

namespace hga::reference {
namespace {

void AddScaled(double factor, const std::vector<double>& x, std::vector<double>& sum) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * x[i];
}

// The tail of head number `h` of the selector, relative to the largest log-mass of all candidates.
void WriteTail(const SelectorQuery& s, const Estimate& estimate, int h, float* tail) {
  const int d = s.shape.head_dim;
  std::fill(tail, tail + TailLayout::Width(d), 0.f);
  if (estimate.groups.empty()) return;
  const std::vector<double>& e = estimate.group_mass[h];
  const std::vector<double>& e_chunk = estimate.chunk_mass[h];
  double m = *std::max_element(e.begin(), e.end());
  for (double x : e_chunk) m = std::max(m, x);
  double sum = 0, opened_sum = 0;
  std::vector<double> out(d, 0.0), said(d, 0.0);
  for (int x = 0; x < static_cast<int>(e.size()); ++x) {
    const double mass = std::exp(e[x] - m);
    const auto value = ValueMean(s, estimate.groups[x] / spec::GroupsPerValue(*s.rule));
    const bool opened = std::binary_search(estimate.opened.begin(), estimate.opened.end(), x);
    (opened ? opened_sum : sum) += mass;
    AddScaled(mass, value, opened ? said : out);
  }
  for (size_t c = 0; c < e_chunk.size(); ++c) {
    const double mass = std::exp(e_chunk[c] - m);
    sum += mass;
    AddScaled(mass, ChunkValueMean(s, estimate.chunks[c]), out);
  }
  tail[TailLayout::kMax] = static_cast<float>(m);
  tail[TailLayout::kSum] = static_cast<float>(sum);
  tail[TailLayout::kOpenedSum] = static_cast<float>(opened_sum);
  for (int i = 0; i < d; ++i) {
    tail[TailLayout::Out(d) + i] = static_cast<float>(out[i]);
    tail[TailLayout::Said(d) + i] = opened_sum > 0 ? static_cast<float>(said[i] / opened_sum) : 0.f;
  }
}

}  // namespace

void Route(const RouteParams& p) {
  const RoutingConfig& rule = *p.rule;
  const int64_t selectors = p.plan.selectors, width = TailLayout::Width(p.shape.head_dim);
  for (int64_t query = 0; query < p.queries; ++query) {
    for (int selector = 0; selector < selectors; ++selector) {
      const SelectorQuery s = QueryOf(p.shape, rule, p.summaries, p.q, p.first_position,
                                      static_cast<int>(query), selector);
      const Estimate estimate = EstimateFor(s);
      const int64_t slot = query * selectors + selector;
      int32_t* groups = p.plan.groups + slot * p.plan.budget;
      p.plan.counts[slot] = static_cast<int32_t>(estimate.opened.size());
      for (int x : estimate.opened) *groups++ = static_cast<int32_t>(estimate.groups[x]);
      if (p.tail == nullptr) continue;
      for (int h = 0; h < s.heads; ++h) {
        WriteTail(s, estimate, h, p.tail + (query * p.shape.heads + s.first_head + h) * width);
      }
    }
  }
}

}  // namespace hga::reference
