// SPDX-License-Identifier: Apache-2.0
// The stand-alone attention of the library: cuts into steps change no bit, bad calls are refused.
#include "hga/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace hga {
namespace {

using testing::HasSubstr;

struct Inputs {
  std::vector<float> q, k, v;
};

// Tokens of one layer: 4 heads over 2 KV heads of 64.
Inputs RandomInputs(int tokens, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  Inputs in;
  in.q.resize(static_cast<size_t>(tokens) * 4 * 64);
  in.k.resize(static_cast<size_t>(tokens) * 2 * 64);
  in.v.resize(in.k.size());
  for (auto* x : {&in.q, &in.k, &in.v}) {
    for (float& f : *x) f = normal(generator);
  }
  return in;
}

std::vector<float> StepAll(const AttentionConfig& config, const Inputs& in, int tokens, int step) {
  auto attention = Attention::Create({1, 4, 2, 64, 1e7}, config, tokens, {2, "", 256});
  EXPECT_TRUE(attention.ok()) << attention.status().message();
  std::vector<float> out(in.q.size());
  for (int first = 0; first < tokens; first += step) {
    const int rows = std::min(step, tokens - first);
    const auto part = [&](auto& x, int heads) {
      return std::span(x).subspan(static_cast<size_t>(first) * heads * 64,
                                  static_cast<size_t>(rows) * heads * 64);
    };
    const Status status =
        attention.value()->Step(0, rows, part(in.q, 4), part(in.k, 2), part(in.v, 2), part(out, 4));
    EXPECT_TRUE(status.ok()) << status.message();
  }
  return out;
}

AttentionConfig SmallRule() {
  AttentionConfig config = PresetConfig("default").value();
  config.dense_layers.clear();
  config.routing.local_chunks = 1;
  config.routing.sink_chunks = 1;
  config.routing.groups_budget = 16;
  return config;
}

TEST(AttentionTest, StepsChangeNoBit) {
  constexpr int kTokens = 900;
  const Inputs in = RandomInputs(kTokens, 11);
  const std::vector<float> whole = StepAll(SmallRule(), in, kTokens, 256);
  for (int step : {1, 7, 64, 100}) {
    EXPECT_EQ(StepAll(SmallRule(), in, kTokens, step), whole) << "step " << step;
  }
}

TEST(AttentionTest, FullBudgetIsDense) {
  constexpr int kTokens = 700;
  const Inputs in = RandomInputs(kTokens, 12);
  AttentionConfig full = SmallRule();
  full.routing.groups_budget = 1024;
  const std::vector<float> routed = StepAll(full, in, kTokens, 128);
  const std::vector<float> dense = StepAll(PresetConfig("dense").value(), in, kTokens, 128);
  double worst = 0;
  for (size_t i = 0; i < dense.size(); ++i) {
    worst = std::max(worst, std::fabs(double{routed[i]} - dense[i]));
  }
  // Values are near 1; both sum the same at most 700 products in another order.
  EXPECT_LE(worst, 700 * 6e-8 * 4);
  const std::vector<float> sparse = StepAll(SmallRule(), in, kTokens, 128);
  EXPECT_NE(sparse, dense);
}

TEST(AttentionTest, BadCallsAreRefused) {
  const AttentionConfig config = PresetConfig("dense").value();
  EXPECT_THAT(Attention::Create({1, 4, 2, 96, 1e7}, config, 10, {}).status().message(),
              HasSubstr("head_dim is 96"));
  EXPECT_THAT(Attention::Create({1, 5, 2, 64, 1e7}, config, 10, {}).status().message(),
              HasSubstr("5 heads over 2"));
  EXPECT_THAT(Attention::Create({1, 4, 2, 64, 1e7}, config, 0, {}).status().message(),
              HasSubstr("capacity is 0"));
  AttentionConfig bad = PresetConfig("default").value();
  bad.routing.group = 7;
  EXPECT_THAT(Attention::Create({1, 4, 2, 64, 1e7}, bad, 10, {}).status().message(),
              HasSubstr("group (7) must divide chunk (64)"));

  auto attention = Attention::Create({1, 4, 2, 64, 1e7}, config, 2, {});
  ASSERT_TRUE(attention.ok());
  std::vector<float> q(3 * 256), kv(3 * 128), out(3 * 256);
  EXPECT_EQ(attention.value()->Step(0, 3, q, kv, kv, out).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(attention.value()->Step(1, 3, q, kv, kv, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(attention.value()->Step(0, 2, q, kv, kv, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(attention.value()->length(0), 0);
}

}  // namespace
}  // namespace hga
