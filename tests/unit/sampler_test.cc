// SPDX-License-Identifier: Apache-2.0
// The sampler against hand-worked cases, a plain full-sort implementation and recorded draws.
#include "hga/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

namespace hga {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

const std::vector<float> kLogits = {0.0F, 1.0F, 2.0F, 1.5F, -1.0F, 0.5F, 1.25F, -3.0F};

std::vector<int32_t> Draws(const SamplingOptions& options, const std::vector<float>& logits,
                           int count) {
  Sampler sampler(options);
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back(sampler.Sample(logits, {}, {}));
  return ids;
}

std::set<int32_t> Support(const SamplingOptions& options, const std::vector<float>& logits) {
  const std::vector<int32_t> ids = Draws(options, logits, 4000);
  return {ids.begin(), ids.end()};
}

TEST(Sampler, GreedyTakesTheHighestAndTheLowerIdOfATie) {
  EXPECT_EQ(Draws({}, kLogits, 1), std::vector<int32_t>{2});
  EXPECT_EQ(Draws({}, {1.0F, 7.0F, 7.0F}, 1), std::vector<int32_t>{1});
  EXPECT_EQ(Draws({}, {-0.0F, 0.0F}, 1), std::vector<int32_t>{0});
}

TEST(Sampler, NeverChoosesNan) {
  EXPECT_EQ(Draws({}, {kNan, 1.0F, kNan, 3.0F}, 1), std::vector<int32_t>{3});
  EXPECT_EQ(Draws({}, {kNan, kNan}, 1), std::vector<int32_t>{-1});
  EXPECT_EQ(Draws({}, {}, 1), std::vector<int32_t>{-1});
  const SamplingOptions options{.temperature = 5, .seed = 7};
  EXPECT_EQ(Support(options, {kNan, 0.0F, kNan, 0.5F, -kInf}), (std::set<int32_t>{1, 3}));
  EXPECT_EQ(Draws(options, {0.0F, kInf, kInf}, 1), std::vector<int32_t>{1});
}

// From a second implementation of SplitMix64 and softmax (Python floats, libm's exp).
TEST(Sampler, DrawsAreRecorded) {
  const SamplingOptions options{.temperature = 0.8, .seed = 1234};
  const std::vector<int32_t> expected = {3, 3, 2, 2, 3, 3, 2, 2, 2, 5, 1, 2,
                                         5, 3, 6, 6, 3, 6, 2, 2, 2, 2, 0, 1};
  EXPECT_EQ(Draws(options, kLogits, 24), expected);
}

TEST(Sampler, ChoosesAmongTheAllowed) {
  const std::vector<uint64_t> two = {0b10000010};  // ids 1 and 7
  Sampler greedy({});
  EXPECT_EQ(greedy.Sample(kLogits, {}, {}, two), 1);
  EXPECT_EQ(greedy.Sample({{kNan, kNan}}, {}, {}, two), -1);
  EXPECT_EQ(greedy.Sample({{5.0F}}, {}, {}, two), -1);
  EXPECT_EQ(greedy.Sample({{kInf, -kInf}}, {}, {}, two), 1);
  // Ids beyond the words are not allowed; the filters see what is left.
  std::vector<float> many(200, 1.0F);
  many[1] = 0.5F;
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 3, .seed = 5},
        SamplingOptions{.temperature = 3, .top_k = 2, .top_p = 0.99, .min_p = 0.01, .seed = 5},
        SamplingOptions{.temperature = 3, .logit_bias = {{100, 100.0}}, .seed = 5}}) {
    Sampler sampler(options);
    std::set<int32_t> seen;
    for (int i = 0; i < 500; ++i) seen.insert(sampler.Sample(many, {}, {}, two));
    EXPECT_EQ(seen, (std::set<int32_t>{1, 7}));
  }
  // Allowing everything changes nothing.
  const std::vector<uint64_t> all = {~uint64_t{0}};
  Sampler bound({.temperature = 0.8, .seed = 1234}), free({.temperature = 0.8, .seed = 1234});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(bound.Sample(kLogits, {}, {}, all), free.Sample(kLogits, {}, {}));
  }
}

TEST(Sampler, EqualSeedsRepeatAndOthersDiffer) {
  SamplingOptions options{.temperature = 1, .top_k = 5, .top_p = 0.95, .seed = 42};
  const std::vector<int32_t> first = Draws(options, kLogits, 200);
  EXPECT_EQ(Draws(options, kLogits, 200), first);
  options.seed = 43;
  EXPECT_NE(Draws(options, kLogits, 200), first);
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  constexpr int kDraws = 200000;
  const SamplingOptions options{.temperature = 1.3, .seed = 99};
  std::vector<double> observed(kLogits.size(), 0);
  for (int32_t id : Draws(options, kLogits, kDraws)) ++observed[id];
  double total = 0;
  for (float logit : kLogits) total += std::exp(logit / 1.3);
  double chi_square = 0;
  for (size_t id = 0; id < kLogits.size(); ++id) {
    const double expected = kDraws * std::exp(kLogits[id] / 1.3) / total;
    chi_square += (observed[id] - expected) * (observed[id] - expected) / expected;
  }
  EXPECT_LT(chi_square, 24.3) << "7 degrees of freedom, 0.1 % level; seed 99";
}

TEST(Sampler, TopKKeepsTheBestK) {
  const SamplingOptions options{.temperature = 3, .top_k = 3, .seed = 1};
  EXPECT_EQ(Support(options, kLogits), (std::set<int32_t>{2, 3, 6}));
  EXPECT_EQ(Support({.temperature = 9, .top_k = 2, .seed = 1}, {4.0F, 4.0F, 4.0F}),
            (std::set<int32_t>{0, 1}));
}

TEST(Sampler, TopPKeepsTheFewestThatReachTheShare) {
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  const std::vector<float> logits = {std::log(0.15F), std::log(0.5F), std::log(0.05F),
                                     std::log(0.3F)};
  EXPECT_EQ(Support({.temperature = 1, .top_p = 0.4, .seed = 3}, logits), (std::set<int32_t>{1}));
  EXPECT_EQ(Support({.temperature = 1, .top_p = 0.7, .seed = 3}, logits),
            (std::set<int32_t>{1, 3}));
  EXPECT_EQ(Support({.temperature = 1, .top_p = 0.9, .seed = 3}, logits),
            (std::set<int32_t>{0, 1, 3}));
}

TEST(Sampler, TopPSeesWhatTopKLeft) {
  // Of 0.5, 0.3, 0.2 the first two are 0.8; once top-k has left two of them, 0.5 is 0.625.
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.2F)};
  EXPECT_EQ(Support({.temperature = 1, .top_p = 0.6, .seed = 3}, logits),
            (std::set<int32_t>{0, 1}));
  EXPECT_EQ(Support({.temperature = 1, .top_k = 2, .top_p = 0.6, .seed = 3}, logits),
            (std::set<int32_t>{0}));
}

TEST(Sampler, MinPIsRelativeToTheBest) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F),
                                     std::log(0.05F)};
  EXPECT_EQ(Support({.temperature = 1, .min_p = 0.25, .seed = 3}, logits),
            (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(Support({.temperature = 1, .min_p = 1, .seed = 3}, logits), (std::set<int32_t>{0}));
}

// What KeepTopP computes with a growing head, by sorting everything.
std::set<int32_t> PlainNucleus(const std::vector<float>& logits, double top_p) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double total = 0;
  for (float logit : logits) total += std::exp(static_cast<double>(logit));
  std::set<int32_t> kept;
  double sum = 0;
  for (int32_t id : order) {
    if (sum >= top_p * total) break;
    sum += std::exp(static_cast<double>(logits[id]));
    kept.insert(id);
  }
  return kept;
}

TEST(Sampler, LongNucleusEqualsAFullSort) {
  std::mt19937 random(2024);
  std::normal_distribution<float> normal;
  for (double top_p : {0.05, 0.2, 0.5}) {
    std::vector<float> logits(2048);
    for (float& logit : logits) logit = normal(random);
    const std::set<int32_t> nucleus = PlainNucleus(logits, top_p);
    std::set<int32_t> seen;
    for (int32_t id : Draws({.temperature = 1, .top_p = top_p, .seed = 5}, logits, 6000)) {
      ASSERT_TRUE(nucleus.contains(id)) << id << " top_p " << top_p << " seed 5";
      seen.insert(id);
    }
    EXPECT_GT(seen.size(), nucleus.size() * 3 / 4) << "of " << nucleus.size();
  }
}

TEST(Sampler, RepetitionPenaltyCountsPromptAndAnswerOnce) {
  SamplingOptions options{.repetition_penalty = 2};
  Sampler sampler(options);
  const std::vector<float> logits = {4.0F, 3.0F, -1.0F, -1.5F};
  const std::vector<int32_t> zero = {0, 0, 0};
  EXPECT_EQ(sampler.Sample(logits, zero, {}), 1);                       // 4 / 2 = 2 < 3
  EXPECT_EQ(sampler.Sample(logits, {}, zero), 1);                       // the same from the answer
  EXPECT_EQ(sampler.Sample(logits, zero, std::vector<int32_t>{1}), 0);  // 2 against 1.5
  const std::vector<float> negative = {-1.0F, -1.5F};
  EXPECT_EQ(sampler.Sample(negative, zero, {}), 1);  // -1 * 2 < -1.5
}

TEST(Sampler, PresenceAndFrequencyCountTheAnswerOnly) {
  const std::vector<float> logits = {4.0F, 3.0F};
  const std::vector<int32_t> once = {0};
  const std::vector<int32_t> thrice = {0, 0, 0};
  Sampler presence({.presence_penalty = 1.5});
  EXPECT_EQ(presence.Sample(logits, thrice, {}), 0);
  EXPECT_EQ(presence.Sample(logits, {}, once), 1);
  Sampler frequency({.frequency_penalty = 0.4});
  EXPECT_EQ(frequency.Sample(logits, {}, once), 0);    // 3.6 against 3
  EXPECT_EQ(frequency.Sample(logits, {}, thrice), 1);  // 2.8 against 3
}

TEST(Sampler, BiasComesBeforeThePenalties) {
  SamplingOptions options{.repetition_penalty = 2};
  options.logit_bias = {{1, 4.0}, {900, 5.0}};
  Sampler sampler(options);
  const std::vector<float> logits = {3.0F, 1.0F};
  EXPECT_EQ(sampler.Sample(logits, {}, {}), 1);                       // 5 against 3
  EXPECT_EQ(sampler.Sample(logits, std::vector<int32_t>{1}, {}), 0);  // 2.5 against 3
}

TEST(Sampler, IdsOutsideTheVocabularyAreNoHistory) {
  Sampler sampler({.repetition_penalty = 2, .presence_penalty = 1});
  const std::vector<int32_t> strange = {-1, 2, 2147483647};
  EXPECT_EQ(sampler.Sample(std::vector<float>{2.0F, 1.5F}, strange, strange), 0);
}

TEST(Sampler, AStateGoesOnWhereItWasTaken) {
  const SamplingOptions options{.temperature = 1, .seed = 77};
  const std::vector<float> logits(50, 0.0F);
  Sampler whole(options);
  for (int i = 0; i < 9; ++i) whole.Sample(logits, {}, {});
  Sampler other({.temperature = 1, .seed = 78});
  ASSERT_TRUE(other.set_state(whole.state()).ok());
  EXPECT_EQ(other.state(), whole.state());
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(other.Sample(logits, {}, {}), whole.Sample(logits, {}, {})) << i;
  }
  const std::vector<std::byte> before = other.state();
  for (const size_t bytes : {0, 7, 9}) {
    EXPECT_EQ(other.set_state(std::vector<std::byte>(bytes)).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(other.state(), before);
}

TEST(Sampler, ValidateNamesTheOptionAndItsRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(Validate(SamplingOptions{}).ok());
  const std::vector<std::pair<SamplingOptions, std::string>> bad = {
      {{.temperature = -0.1}, "temperature"},
      {{.temperature = nan}, "temperature"},
      {{.top_k = -1}, "top_k"},
      {{.top_p = 0}, "top_p"},
      {{.top_p = 1.01}, "top_p"},
      {{.min_p = -0.01}, "min_p"},
      {{.repetition_penalty = 0}, "repetition_penalty"},
      {{.presence_penalty = 2.5}, "presence_penalty"},
      {{.frequency_penalty = nan}, "frequency_penalty"},
      {{.logit_bias = {{-3, 1.0}}}, "logit_bias"},
      {{.logit_bias = {{3, nan}}}, "logit_bias"},
      {{.logit_bias = {{3, 101.0}}}, "logit_bias"},
  };
  for (const auto& [options, name] : bad) {
    const Status status = Validate(options);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << name;
    EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace hga
