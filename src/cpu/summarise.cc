// SPDX-License-Identifier: Apache-2.0
// Summaries of one closed chunk. Plain C++ on purpose: the law fixes every rounding, and a chunk
// closes once in 64 tokens.
#include "cpu/summarise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "spec/fp8_scale.h"
#include "spec/layout.h"
#include "spec/rules.h"

namespace hga::cpu {
namespace {

constexpr int kMaxDim = 256;

// The chunk's 64 rows (keys or values) of one KV head.
struct Rows {
  const Bf16* const* cells;  // [8]
  int dim;
  bool values;
  const Bf16* Row(int t) const {
    const int row = t % spec::kCell;
    return cells[t / spec::kCell] + (values ? spec::ValueRow(row, dim) : spec::KeyRow(row, dim));
  }
};

// Sum of rows [first, first + span) in token order, times 1 / span.
void Mean(const Rows& rows, int first, int span, float* out) {
  float total[kMaxDim] = {};
  for (int t = first; t < first + span; ++t) {
    const Bf16* row = rows.Row(t);
    for (int i = 0; i < rows.dim; ++i) total[i] += Bf16ToFloat(row[i]);
  }
  const float factor = 1.0f / static_cast<float>(span);
  for (int i = 0; i < rows.dim; ++i) out[i] = total[i] * factor;
}

// Pairs that turn by at most half a radian over a chunk are averaged before rotation.
class SlowPairs {
 public:
  SlowPairs(int dim, double theta) : half_(dim / 2) {
    for (int i = 0; i < half_; ++i) inverse_[i] = std::pow(theta, -2.0 * i / dim);
    first_ = 0;
    while (first_ < half_ && (spec::kChunk - 1) * inverse_[first_] > 0.5) ++first_;
  }

  // Replaces the slow pairs of the mean over tokens [position, position + span) in `out`.
  void Replace(const Rows& rows, int first, int span, int64_t position, float* out) const {
    float total[kMaxDim] = {};
    for (int t = first; t < first + span; ++t) {
      const Bf16* row = rows.Row(t);
      for (int i = first_; i < half_; ++i) {
        float a = Bf16ToFloat(row[i]), b = Bf16ToFloat(row[half_ + i]);
        Turn(-static_cast<double>(position + t - first), i, &a, &b);
        total[i] += a;
        total[half_ + i] += b;
      }
    }
    const float factor = 1.0f / static_cast<float>(span);
    for (int i = first_; i < half_; ++i) {
      float a = total[i] * factor, b = total[half_ + i] * factor;
      Turn(static_cast<double>(position + (span - 1) / 2), i, &a, &b);
      out[i] = a;
      out[half_ + i] = b;
    }
  }

 private:
  void Turn(double position, int pair, float* a, float* b) const {
    const float c = static_cast<float>(std::cos(position * inverse_[pair]));
    const float s = static_cast<float>(std::sin(position * inverse_[pair]));
    const float x = *a, y = *b;
    *a = x * c - y * s;
    *b = y * c + x * s;
  }
  int half_;
  int first_;
  double inverse_[kMaxDim / 2];
};

// Rounds a vector to the summary type: element i goes to out[i * step]. Returns the scale.
float Store(const float* x, int dim, SummaryDtype dtype, void* out, int64_t step) {
  if (dtype == SummaryDtype::kBf16) {
    Bf16* o = static_cast<Bf16*>(out);
    for (int i = 0; i < dim; ++i) o[i * step] = FloatToBf16(x[i]);
    return 1.0f;
  }
  float largest = 0;
  for (int i = 0; i < dim; ++i) largest = std::max(largest, std::fabs(x[i]));
  const int n = std::isfinite(largest) ? spec::Fp8ScaleExponent(largest) : 0;
  const float inverse = spec::PowerOfTwo(-n);
  Fp8* o = static_cast<Fp8*>(out);
  for (int i = 0; i < dim; ++i) o[i * step] = FloatToFp8(x[i] * inverse);
  return spec::PowerOfTwo(n);
}

template <class T>
void* At(void* base, int64_t element) {
  return static_cast<T*>(base) + element;
}

void* Element(void* base, SummaryDtype dtype, int64_t element) {
  return dtype == SummaryDtype::kFp8 ? At<Fp8>(base, element) : At<Bf16>(base, element);
}

// One level of key means of a KV head.
void KeyLevel(const SummariseParams& p, const Rows& rows, const SlowPairs* slow, int head, int span,
              void* out, float* scales, int64_t capacity) {
  const int dim = p.shape.head_dim;
  const int64_t base = head * spec::KeyMeanElements(capacity, dim);
  for (int t = 0; t < spec::kChunk; t += span) {
    const int64_t position = p.chunk * spec::kChunk + t, mean = position / span;
    float x[kMaxDim];
    Mean(rows, t, span, x);
    if (slow != nullptr) slow->Replace(rows, t, span, position, x);
    scales[head * capacity + mean] =
        Store(x, dim, p.rule->summary_dtype,
              Element(out, p.rule->summary_dtype, base + spec::KeyMeanOffset(mean, 0, dim)),
              spec::kPanel);
  }
}

void ValueLevel(const SummariseParams& p, const Rows& rows, int head, int span, void* out,
                float* scales, int64_t capacity) {
  const int dim = p.shape.head_dim;
  for (int t = 0; t < spec::kChunk; t += span) {
    const int64_t mean = (p.chunk * spec::kChunk + t) / span;
    float x[kMaxDim];
    Mean(rows, t, span, x);
    scales[head * capacity + mean] =
        Store(x, dim, p.rule->summary_dtype,
              Element(out, p.rule->summary_dtype, (head * capacity + mean) * dim), 1);
  }
}

}  // namespace

void Summarise(const SummariseParams& p) {
  const RoutingConfig& rule = *p.rule;
  HGA_CHECK(p.shape.head_dim <= kMaxDim);
  const SlowPairs slow_pairs(p.shape.head_dim, p.rope_theta > 0 ? p.rope_theta : 1.0);
  const SlowPairs* slow = rule.key_mean == KeyMean::kMixedRope ? &slow_pairs : nullptr;
  const SummaryView& out = p.out;
  for (int h = 0; h < p.shape.kv_heads; ++h) {
    const Bf16* const* cells = p.cells + h * p.cell_stride;
    const Rows keys{cells, p.shape.head_dim, false}, values{cells, p.shape.head_dim, true};
    KeyLevel(p, keys, slow, h, rule.key_span, out.keys, out.key_scales, out.key_means);
    if (rule.tail)
      ValueLevel(p, values, h, rule.value_span, out.values, out.value_scales, out.value_means);
    if (rule.chunk_beam == 0) continue;
    KeyLevel(p, keys, slow, h, rule.chunk_key_span, out.chunk_keys, out.chunk_key_scales,
             out.chunk_key_means);
    if (rule.tail)
      ValueLevel(p, values, h, spec::kChunk, out.chunk_values, out.chunk_value_scales, out.chunks);
  }
}

}  // namespace hga::cpu
