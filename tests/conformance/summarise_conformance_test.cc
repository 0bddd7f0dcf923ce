// SPDX-License-Identifier: Apache-2.0
// Summaries: bit-equal to the reference under every rule, and nothing written beside them.
#include "tests/conformance/attention_fixture.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 61;

constexpr HeadShape kShapes[] = {{8, 2, 128}, {4, 4, 64}, {5, 1, 128}};

template <typename T>
void ExpectSameBits(const Guarded<T>& got, const Guarded<T>& want, const std::string& label) {
  ASSERT_EQ(got.size(), want.size());
  int64_t differ = 0, first = -1;
  for (int64_t i = 0; i < got.size(); ++i) {
    if (SameBits(got.data() + i, want.data() + i, 1)) continue;
    if (differ++ == 0) first = i;
  }
  EXPECT_EQ(differ, 0) << label << ": first at " << first << " of " << got.size();
}

void ExpectEqual(const Summaries& got, const Summaries& want, const std::string& label) {
  EXPECT_TRUE(got.Intact()) << label;
  ExpectSameBits(got.keys, want.keys, label + " keys");
  ExpectSameBits(got.key_scales, want.key_scales, label + " key scales");
  ExpectSameBits(got.values, want.values, label + " values");
  ExpectSameBits(got.value_scales, want.value_scales, label + " value scales");
  ExpectSameBits(got.chunk_keys, want.chunk_keys, label + " chunk keys");
  ExpectSameBits(got.chunk_key_scales, want.chunk_key_scales, label + " chunk key scales");
  ExpectSameBits(got.chunk_values, want.chunk_values, label + " chunk values");
  ExpectSameBits(got.chunk_value_scales, want.chunk_value_scales, label + " chunk value scales");
}

using SummariseConformance = ConformanceTest;

TEST_P(SummariseConformance, BitEqualToReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  for (const HeadShape& shape : kShapes) {
    History history(shape, 3 * spec::kChunk + 5, kSeed);
    auto ops = Open(AttentionLimits(shape, 64, history.tokens()));
    ASSERT_NE(ops, nullptr);
    for (const NamedRule& named : AllRules()) {
      if (!spec::NeedsSummaries(named.rule)) continue;
      // What lies beyond the closed chunks stays as it was: both start from the same canaries.
      const Summaries got(*ops, history, named.rule);
      const Summaries want(*reference_, history, named.rule);
      ExpectEqual(got, want, named.name);
    }
  }
}

// Sizes from the smallest bf16 to the largest, powers of two beside 448, zeros and ties of the
// rounding to E4M3.
TEST_P(SummariseConformance, ExtremeMagnitudes) {
  const HeadShape shape{2, 1, 64};
  History history(shape, spec::kChunk, kSeed + 1);
  Random random(kSeed + 2);
  for (int64_t t = 0; t < spec::kChunk; ++t) {
    const int exponent = static_cast<int>(random.Below(250)) - 130;
    for (int i = 0; i < shape.head_dim; ++i) {
      const float x = std::ldexp(static_cast<float>(random.Below(33)) - 16.f, exponent - 4);
      history.Key(0, t)[i] = t < 8 ? 0 : FloatToBf16(x);
      history.Value(0, t)[i] = t < 16 ? 0 : FloatToBf16(std::ldexp(448.f + i - 32, exponent / 4));
    }
  }
  auto ops = Open(AttentionLimits(shape, 64, history.tokens()));
  ASSERT_NE(ops, nullptr);
  for (int span : {1, 4, 16}) {
    for (SummaryDtype dtype : {SummaryDtype::kFp8, SummaryDtype::kBf16}) {
      RoutingConfig rule;
      rule.group = rule.key_span = rule.value_span = span;
      rule.summary_dtype = dtype;
      const Summaries got(*ops, history, rule), want(*reference_, history, rule);
      ExpectEqual(got, want, "extremes, span " + std::to_string(span));
    }
  }
}

TEST_P(SummariseConformance, RebuildGivesTheSameBits) {
  const HeadShape shape{8, 2, 64};
  History history(shape, 4 * spec::kChunk, kSeed + 3);
  auto ops = Open(AttentionLimits(shape, 64, history.tokens()));
  ASSERT_NE(ops, nullptr);
  for (const NamedRule& named : AllRules()) {
    if (!spec::NeedsSummaries(named.rule)) continue;
    Summaries once(*ops, history, named.rule), again(*ops, history, named.rule);
    for (int64_t c = 3; c >= 0; --c) again.Build(*ops, history, c);
    ExpectEqual(again, once, named.name);
  }
}

HGA_EVERY_BACKEND(SummariseConformance);

}  // namespace
}  // namespace hga::conformance
