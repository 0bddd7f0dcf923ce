// SPDX-License-Identifier: Apache-2.0
// Routed feed-forward: softmax over all experts, the best few, their weighted sum.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "reference/reference.h"
#include "reference/weight.h"

namespace hga::reference {
namespace {

// Probability of every expert for the row x [hidden].
std::vector<double> RouterShares(const float* x, const WeightView& router) {
  std::vector<double> share(router.rows);
  for (int64_t e = 0; e < router.rows; ++e) share[e] = DotRow(x, router, e);
  const double largest = *std::max_element(share.begin(), share.end());
  double sum = 0;
  for (double& s : share) sum += s = std::exp(s - largest);
  for (double& s : share) s /= sum;
  return share;
}

// out += weight * down(silu(gate x) * up x) of one expert.
void AddExpert(const ExpertsParams& p, int expert, const float* x, double weight,
               std::vector<double>& out) {
  std::vector<double> inner(p.width);
  for (int i = 0; i < p.width; ++i) {
    const double gate = DotRow(x, p.gate[expert], i);
    inner[i] = gate / (1 + std::exp(-gate)) * DotRow(x, p.up[expert], i);
  }
  for (int o = 0; o < p.hidden; ++o) {
    double sum = 0;
    for (int i = 0; i < p.width; ++i) sum += inner[i] * WeightAt(p.down[expert], o, i);
    out[o] += weight * sum;
  }
}

}  // namespace

void Experts(const ExpertsParams& p) {
  for (int64_t row = 0; row < p.rows; ++row) {
    const float* x = p.x + row * p.hidden;
    const std::vector<double> share = RouterShares(x, p.router);
    std::vector<int> rank(p.experts);
    std::iota(rank.begin(), rank.end(), 0);
    std::stable_sort(rank.begin(), rank.end(), [&](int a, int b) { return share[a] > share[b]; });
    rank.resize(p.experts_per_token);
    double kept = 0;
    for (int e : rank) kept += share[e];
    std::vector<double> out(p.hidden, 0.0);
    for (int e : rank) AddExpert(p, e, x, p.renormalise ? share[e] / kept : share[e], out);
    float* y = p.y + row * p.hidden;
    for (int o = 0; o < p.hidden; ++o) y[o] = static_cast<float>(y[o] + out[o]);
  }
}

}  // namespace hga::reference
