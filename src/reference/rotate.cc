// SPDX-License-Identifier: Apache-2.0
// Queries and keys: norm per head, RoPE, rounding to bf16. Values: rounding to bf16.
#include <cmath>
#include <vector>

#include "reference/reference.h"

namespace hga::reference {
namespace {

// One head's vector [head_dim] after norm (none if `weight` is null) and RoPE over the pairs
// (i, i + head_dim / 2).
std::vector<Bf16> NormedAndTurned(const float* x, const float* weight, float epsilon,
                                  const float* cos, const float* sin, int head_dim) {
  std::vector<double> normed(x, x + head_dim);
  if (weight != nullptr) {
    double squares = 0;
    for (double v : normed) squares += v * v;
    const double factor = 1 / std::sqrt(squares / head_dim + epsilon);
    for (int i = 0; i < head_dim; ++i) normed[i] *= factor * weight[i];
  }
  const int half = head_dim / 2;
  std::vector<Bf16> turned(head_dim);
  for (int i = 0; i < half; ++i) {
    const double a = normed[i], b = normed[half + i];
    turned[i] = FloatToBf16(static_cast<float>(a * cos[i] - b * sin[i]));
    turned[half + i] = FloatToBf16(static_cast<float>(b * cos[i] + a * sin[i]));
  }
  return turned;
}

}  // namespace

void Rotate(const RotateParams& p) {
  const int d = p.shape.head_dim, kv_heads = p.shape.kv_heads;
  for (int64_t row = 0; row < p.rows; ++row) {
    const float* cos = p.cos + row * (d / 2);
    const float* sin = p.sin + row * (d / 2);
    for (int head = 0; head < p.shape.heads; ++head) {
      float* q = p.q + (row * p.shape.heads + head) * d;
      const auto turned = NormedAndTurned(q, p.q_norm, p.epsilon, cos, sin, d);
      for (int i = 0; i < d; ++i) q[i] = Bf16ToFloat(turned[i]);
    }
    for (int head = 0; head < kv_heads; ++head) {
      const int64_t slot = row * kv_heads + head;
      const auto turned = NormedAndTurned(p.k + slot * d, p.k_norm, p.epsilon, cos, sin, d);
      for (int i = 0; i < d; ++i) {
        p.k_out[slot][i] = turned[i];
        p.v_out[slot][i] = FloatToBf16(p.v[slot * d + i]);
      }
    }
  }
}

}  // namespace hga::reference
