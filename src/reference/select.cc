// SPDX-License-Identifier: Apache-2.0
// Step 6: sort by the law's order, keep the best, list them ascending.
#include <algorithm>
#include <numeric>
#include <vector>

#include "reference/reference.h"
#include "spec/order.h"

namespace hga::reference {

void Select(const SelectParams& p) {
  std::vector<int32_t> order(p.n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t i, int32_t j) { return spec::Before(p.scores[i], i, p.scores[j], j); });
  std::sort(order.begin(), order.begin() + p.count);
  std::copy(order.begin(), order.begin() + p.count, p.chosen);
}

}  // namespace hga::reference
