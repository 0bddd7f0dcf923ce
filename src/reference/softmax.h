// SPDX-License-Identifier: Apache-2.0
// Exact attention of one query over a list of tokens, and the merge of two such results.
#ifndef HGA_REFERENCE_SOFTMAX_H_
#define HGA_REFERENCE_SOFTMAX_H_

#include <cstdint>
#include <vector>

#include "backend/ops.h"

namespace hga::reference {

// A softmax kept mergeable: log of its mass and its normalised output.
struct Attended {
  double log_mass;          // minus infinity over no tokens
  std::vector<double> out;  // [head_dim]
};

// softmax(s * q.k) v over the tokens at `positions`, for one query head.
Attended AttendTokens(const AttendParams& p, int query, int head,
                      const std::vector<int64_t>& positions);

// (Z_a o_a + Z_b o_b) / (Z_a + Z_b), by log-sum-exp.
Attended Merge(const Attended& a, const Attended& b);

void AppendRange(int64_t begin, int64_t end, std::vector<int64_t>& positions);

// Rounds to the output row of one (query, head).
void WriteOut(const AttendParams& p, int query, int head, const Attended& result);

}  // namespace hga::reference

#endif  // HGA_REFERENCE_SOFTMAX_H_
