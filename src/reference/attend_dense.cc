// SPDX-License-Identifier: Apache-2.0
// Ordinary causal attention: the softmax over every token up to the query.
#include "reference/reference.h"
#include "reference/softmax.h"

namespace hga::reference {

void AttendDense(const AttendDenseParams& p) {
  for (int query = 0; query < p.queries; ++query) {
    std::vector<int64_t> positions;
    AppendRange(0, p.first_position + query + 1, positions);
    for (int head = 0; head < p.shape.heads; ++head) {
      WriteOut(p, query, head, AttendTokens(p, query, head, positions));
    }
  }
}

}  // namespace hga::reference
