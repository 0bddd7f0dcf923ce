// SPDX-License-Identifier: Apache-2.0
// RMS norm: every row divided by its root mean square, times the weight.
#include <cmath>

#include "reference/reference.h"

namespace hga::reference {

void Norm(const NormParams& p) {
  for (int row = 0; row < p.rows; ++row) {
    const float* x = p.x + int64_t{row} * p.width;
    float* y = p.y + int64_t{row} * p.width;
    double squares = 0;
    for (int i = 0; i < p.width; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double factor = 1 / std::sqrt(squares / p.width + p.epsilon);
    for (int i = 0; i < p.width; ++i) y[i] = static_cast<float>(x[i] * factor * p.weight[i]);
  }
}

}  // namespace hga::reference
