// SPDX-License-Identifier: Apache-2.0
// Step 11: windows exactly, an even sample for the rest with its mass scaled up.
#include <cmath>

#include "reference/reference.h"
#include "reference/softmax.h"
#include "spec/layout.h"
#include "spec/visibility.h"

namespace hga::reference {

void AttendSampled(const AttendSampledParams& p) {
  for (int query = 0; query < p.queries; ++query) {
    const int64_t t = p.first_position + query;
    const auto range = spec::CandidateRange(t, p.sink_chunks, p.local_chunks);
    std::vector<int64_t> fixed, sample;
    AppendRange(0, range.begin, fixed);
    AppendRange(range.end, t + 1, fixed);
    const int64_t stride = spec::SampleStride(range.size() / spec::kCell, p.most_cells);
    for (int64_t cell = range.begin; cell < range.end; cell += stride * spec::kCell) {
      AppendRange(cell, cell + spec::kCell, sample);
    }
    for (int head = 0; head < p.shape.heads; ++head) {
      Attended far = AttendTokens(p, query, head, sample);
      if (!sample.empty()) {
        far.log_mass +=
            std::log(static_cast<double>(range.size()) / static_cast<double>(sample.size()));
      }
      WriteOut(p, query, head, Merge(AttendTokens(p, query, head, fixed), far));
    }
  }
}

}  // namespace hga::reference
