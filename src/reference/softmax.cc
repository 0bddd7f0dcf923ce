// SPDX-License-Identifier: Apache-2.0
// The only place of the reference that reads keys and values.
#include "reference/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "spec/layout.h"

namespace hga::reference {
namespace {

const Bf16* CellOf(const AttendParams& p, int kv_head, int64_t position) {
  return p.kv.cells[kv_head * p.kv.cell_stride + position / spec::kCell];
}

}  // namespace

Attended AttendTokens(const AttendParams& p, int query, int head,
                      const std::vector<int64_t>& positions) {
  const int d = p.shape.head_dim, kv_head = head / p.shape.queries_per_kv();
  const float* q = p.q + (int64_t{query} * p.shape.heads + head) * d;
  std::vector<double> score(positions.size());
  double largest = -std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < positions.size(); ++j) {
    const int row = static_cast<int>(positions[j] % spec::kCell);
    const Bf16* key = CellOf(p, kv_head, positions[j]) + spec::KeyRow(row, d);
    double dot = 0;
    for (int i = 0; i < d; ++i) dot += static_cast<double>(q[i]) * Bf16ToFloat(key[i]);
    score[j] = dot / std::sqrt(static_cast<double>(d));
    largest = std::max(largest, score[j]);
  }
  Attended result{-std::numeric_limits<double>::infinity(), std::vector<double>(d, 0.0)};
  if (positions.empty()) return result;
  double sum = 0;
  for (size_t j = 0; j < positions.size(); ++j) {
    const int row = static_cast<int>(positions[j] % spec::kCell);
    const Bf16* value = CellOf(p, kv_head, positions[j]) + spec::ValueRow(row, d);
    const double weight = std::exp(score[j] - largest);
    sum += weight;
    for (int i = 0; i < d; ++i) result.out[i] += weight * Bf16ToFloat(value[i]);
  }
  for (double& x : result.out) x /= sum;
  result.log_mass = largest + std::log(sum);
  return result;
}

Attended Merge(const Attended& a, const Attended& b) {
  if (a.log_mass == -std::numeric_limits<double>::infinity()) return b;
  if (b.log_mass == -std::numeric_limits<double>::infinity()) return a;
  const double largest = std::max(a.log_mass, b.log_mass);
  const double za = std::exp(a.log_mass - largest), zb = std::exp(b.log_mass - largest);
  Attended result{largest + std::log(za + zb), std::vector<double>(a.out.size())};
  for (size_t i = 0; i < a.out.size(); ++i) {
    result.out[i] = (za * a.out[i] + zb * b.out[i]) / (za + zb);
  }
  return result;
}

void AppendRange(int64_t begin, int64_t end, std::vector<int64_t>& positions) {
  for (int64_t t = begin; t < end; ++t) positions.push_back(t);
}

void WriteOut(const AttendParams& p, int query, int head, const Attended& result) {
  float* out = p.out + (int64_t{query} * p.shape.heads + head) * p.shape.head_dim;
  for (size_t i = 0; i < result.out.size(); ++i) out[i] = static_cast<float>(result.out[i]);
}

}  // namespace hga::reference
