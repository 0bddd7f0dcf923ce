// SPDX-License-Identifier: Apache-2.0
// Summaries of a closed chunk. Here the law fixes the arithmetic: float32 in token order, so that
// every backend writes the same bits.
#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/reference.h"
#include "spec/fp8_scale.h"
#include "spec/layout.h"
#include "spec/rules.h"

namespace hga::reference {
namespace {

using Vector = std::vector<float>;  // [head_dim]

// The keys or the values of one chunk of one KV head: [64][head_dim].
std::vector<Vector> ChunkRows(const SummariseParams& p, int kv_head, bool values) {
  const int d = p.shape.head_dim;
  std::vector<Vector> rows(spec::kChunk, Vector(d));
  for (int t = 0; t < spec::kChunk; ++t) {
    const Bf16* cell = p.cells[kv_head * p.cell_stride + t / spec::kCell];
    const int in_cell = t % spec::kCell;
    const Bf16* row = cell + (values ? spec::ValueRow(in_cell, d) : spec::KeyRow(in_cell, d));
    for (int i = 0; i < d; ++i) rows[t][i] = Bf16ToFloat(row[i]);
  }
  return rows;
}

// Sum in float32 in token order, times 1/n.
Vector Mean(const std::vector<Vector>& rows, int begin, int span) {
  Vector sum(rows[0].size(), 0.f);
  for (int t = begin; t < begin + span; ++t) {
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += rows[t][i];
  }
  const float inverse = 1.f / static_cast<float>(span);
  for (float& x : sum) x *= inverse;
  return sum;
}

// x turned by RoPE to `position` (negative: back to position 0). Angles in double, products in
// float32.
Vector Turned(const Vector& x, int64_t position, double theta) {
  const int half = static_cast<int>(x.size()) / 2;
  Vector y(x.size());
  for (int i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * std::pow(theta, -1.0 * i / half);
    const float c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
    const float ac = x[i] * c, bs = x[half + i] * s, bc = x[half + i] * c, as = x[i] * s;
    y[i] = ac - bs;
    y[half + i] = bc + as;
  }
  return y;
}

// The published key mean: pairs that turn by less than half a radian over a chunk are averaged
// before rotation, and the mean is turned to the middle of its span.
Vector MixedMean(const SummariseParams& p, const std::vector<Vector>& keys, int begin, int span) {
  const int64_t start = p.chunk * spec::kChunk + begin;
  std::vector<Vector> unturned(span);
  for (int t = 0; t < span; ++t) {
    unturned[t] = Turned(keys[begin + t], -(start + t), p.rope_theta);
  }
  const Vector slow = Turned(Mean(unturned, 0, span), start + (span - 1) / 2, p.rope_theta);
  Vector mean = Mean(keys, begin, span);
  const int half = static_cast<int>(mean.size()) / 2;
  for (int i = 0; i < half; ++i) {
    const double turn = (spec::kChunk - 1) * std::pow(p.rope_theta, -1.0 * i / half);
    if (turn > 0.5) continue;
    mean[i] = slow[i];
    mean[half + i] = slow[half + i];
  }
  return mean;
}

Vector KeyMeanOf(const SummariseParams& p, const std::vector<Vector>& keys, int begin, int span) {
  return p.rule->key_mean == KeyMean::kMixedRope ? MixedMean(p, keys, begin, span)
                                                 : Mean(keys, begin, span);
}

// Stores element i of `mean` at data[offset(i)], and its scale.
template <typename Offset>
void Store(const Vector& mean, SummaryDtype dtype, void* data, float* scale, Offset offset) {
  if (dtype == SummaryDtype::kBf16) {
    *scale = 1.f;
    for (size_t i = 0; i < mean.size(); ++i) {
      static_cast<Bf16*>(data)[offset(static_cast<int>(i))] = FloatToBf16(mean[i]);
    }
    return;
  }
  float largest = 0;
  for (float x : mean) largest = std::max(largest, std::fabs(x));
  const int n = spec::Fp8ScaleExponent(largest);
  *scale = spec::PowerOfTwo(n);
  for (size_t i = 0; i < mean.size(); ++i) {
    static_cast<Fp8*>(data)[offset(static_cast<int>(i))] =
        FloatToFp8(mean[i] * spec::PowerOfTwo(-n));
  }
}

void* At(void* data, SummaryDtype dtype, int64_t elements) {
  return static_cast<uint8_t*>(data) + elements * (dtype == SummaryDtype::kFp8 ? 1 : 2);
}

// Key means of `span` tokens of one chunk into panels that hold `capacity` means per KV head.
void StoreKeys(const SummariseParams& p, const std::vector<Vector>& keys, int kv_head, int span,
               void* data, float* scales, int64_t capacity) {
  const int d = p.shape.head_dim;
  const SummaryDtype dtype = p.rule->summary_dtype;
  void* mine = At(data, dtype, kv_head * spec::KeyMeanElements(capacity, d));
  for (int begin = 0; begin < spec::kChunk; begin += span) {
    const int64_t mean = (p.chunk * spec::kChunk + begin) / span;
    Store(KeyMeanOf(p, keys, begin, span), dtype, mine, scales + kv_head * capacity + mean,
          [&](int i) { return spec::KeyMeanOffset(mean, i, d); });
  }
}

// Value means of `span` tokens of one chunk as rows, `capacity` per KV head.
void StoreValues(const SummariseParams& p, const std::vector<Vector>& values, int kv_head, int span,
                 void* data, float* scales, int64_t capacity) {
  const int d = p.shape.head_dim;
  const SummaryDtype dtype = p.rule->summary_dtype;
  void* mine = At(data, dtype, kv_head * capacity * d);
  for (int begin = 0; begin < spec::kChunk; begin += span) {
    const int64_t mean = (p.chunk * spec::kChunk + begin) / span;
    Store(Mean(values, begin, span), dtype, mine, scales + kv_head * capacity + mean,
          [&](int i) { return spec::ValueMeanOffset(mean, d) + i; });
  }
}

}  // namespace

void Summarise(const SummariseParams& p) {
  const RoutingConfig& rule = *p.rule;
  const SummaryView& out = p.out;
  for (int g = 0; g < p.shape.kv_heads; ++g) {
    const auto keys = ChunkRows(p, g, false);
    const auto values = ChunkRows(p, g, true);
    StoreKeys(p, keys, g, rule.key_span, out.keys, out.key_scales, out.key_means);
    if (rule.tail) {
      StoreValues(p, values, g, rule.value_span, out.values, out.value_scales, out.value_means);
    }
    if (rule.chunk_beam == 0) continue;
    StoreKeys(p, keys, g, rule.chunk_key_span, out.chunk_keys, out.chunk_key_scales,
              out.chunk_key_means);
    if (rule.tail) {
      StoreValues(p, values, g, spec::kChunk, out.chunk_values, out.chunk_value_scales, out.chunks);
    }
  }
}

}  // namespace hga::reference
