// SPDX-License-Identifier: Apache-2.0
// y = x W^T, and the one elementwise operation beside it.
#include <cmath>

#include "reference/reference.h"
#include "reference/weight.h"

namespace hga::reference {

void Linear(const LinearParams& p) {
  for (int row = 0; row < p.rows; ++row) {
    const float* x = p.x + row * p.x_stride;
    float* y = p.y + row * p.y_stride;
    for (int64_t o = 0; o < p.w.rows; ++o) {
      const double product = DotRow(x, p.w, o);
      y[o] = static_cast<float>(p.accumulate ? y[o] + product : product);
    }
  }
}

void Silu(const SiluParams& p) {
  for (int64_t i = 0; i < p.count; ++i) {
    const double gate = p.gate[i];
    p.out[i] = static_cast<float>(gate / (1 + std::exp(-gate)) * p.up[i]);
  }
}

}  // namespace hga::reference
