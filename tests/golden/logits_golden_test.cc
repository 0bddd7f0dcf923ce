// SPDX-License-Identifier: Apache-2.0
// Logits of models/hga-mini recorded by an independent NumPy forward pass
// (tools/golden_forward.py), dense and with routing, through the public engine.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "hga/engine.h"
#include "tests/golden/npy.h"

namespace hga::golden {
namespace {

using nlohmann::json;

const std::string kFolder = std::string(HGA_SOURCE_DIR) + "/tests/golden/data/logits/";
const std::string kModel = std::string(HGA_SOURCE_DIR) + "/models/hga-mini";

// By device.
class LogitsGolden : public testing::TestWithParam<const char*> {
 protected:
  LogitsGolden() : manifest_(ReadManifest(kFolder)) {
    ids_ = ReadNpy<int32_t>(kFolder + "ids.npy").data;
  }
  void SetUp() override {
    EngineOptions options;
    options.threads = 2;
    options.device = GetParam();
    auto engine = Engine::Open(kModel, options);
    if (engine.status().code() == StatusCode::kNotFound && options.device != "cpu") {
      GTEST_SKIP() << "skipped: no GPU: " << engine.status().message();
    }
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(engine).value();
  }
  const json& CaseOf(const std::string& name) const {
    for (const json& entry : manifest_.at("cases")) {
      if (entry.at("name") == name) return entry;
    }
    ADD_FAILURE() << "no case " << name;
    return manifest_;
  }
  void Compare(const json& entry, const AttentionConfig& attention);

  json manifest_;
  std::vector<int32_t> ids_;
  std::unique_ptr<Engine> engine_;
};

int Largest(const float* x, int64_t n) { return static_cast<int>(std::max_element(x, x + n) - x); }

double Median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + static_cast<int64_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

// How far the two sets of logits are apart, relative to what roundings alone may do. The recorded
// spread of a position is the distance between a float64 and a float32 run of the generator: all of
// it comes from roundings, mostly of q, k and v to bf16 on the other side of a tie, and now and
// then a plan or an expert that they tip. The engine's float32 sums round in yet another order, so
// it may tip others: its worst position is held to four times the worst spread, and its median
// position to four times the median spread.
void LogitsGolden::Compare(const json& entry, const AttentionConfig& attention) {
  ASSERT_NE(engine_, nullptr);
  const auto positions = entry.at("positions").get<std::vector<int64_t>>();
  const auto spread = entry.at("spread").get<std::vector<double>>();
  const auto want = ReadNpy<float>(kFolder + entry.at("logits").get<std::string>());
  const int64_t vocab = engine_->info().vocab;
  ASSERT_EQ(want.shape, (std::vector<int64_t>{static_cast<int64_t>(positions.size()), vocab}));
  const double bound = 4 * *std::max_element(spread.begin(), spread.end());
  const double median_bound = 4 * Median(spread);
  auto sequence = engine_->NewSequence(attention, entry.at("tokens"));
  ASSERT_TRUE(sequence.ok()) << sequence.status().message();
  std::vector<float> got(static_cast<size_t>(vocab));
  std::vector<double> per_position;
  double worst = 0, mean = 0;
  int64_t worst_at = 0, fed = 0;
  int agree = 0, clear_disagree = 0;
  for (size_t i = 0; i < positions.size(); ++i) {
    const std::span<const int32_t> next(ids_.data() + fed,
                                        static_cast<size_t>(positions[i] + 1 - fed));
    const Status status = (*engine_).Feed(**sequence, next, LogitsWanted::kLast, got, {});
    ASSERT_TRUE(status.ok()) << status.message();
    fed = positions[i] + 1;
    per_position.push_back(0);
    const float* row = want.data.data() + static_cast<int64_t>(i) * vocab;
    for (int64_t j = 0; j < vocab; ++j) {
      ASSERT_TRUE(std::isfinite(got[static_cast<size_t>(j)])) << "position " << positions[i];
      const double error = std::fabs(static_cast<double>(got[static_cast<size_t>(j)]) - row[j]);
      mean += error;
      per_position.back() = std::max(per_position.back(), error);
      if (error > worst) worst = error, worst_at = static_cast<int64_t>(i) * vocab + j;
    }
    const int mine = Largest(got.data(), vocab), theirs = Largest(row, vocab);
    agree += mine == theirs;
    // The golden best may lose its place only to a token within twice the bound.
    clear_disagree += mine != theirs && row[theirs] - row[mine] > 2 * bound;
  }
  std::printf(
      "  %s: worst |difference| %.4g at position %lld token %lld, mean %.3g, bound %.4g; "
      "top-1 agrees at %d of %zu positions\n",
      entry.at("name").get<std::string>().c_str(), worst,
      static_cast<long long>(positions[static_cast<size_t>(worst_at / vocab)]),
      static_cast<long long>(worst_at % vocab), mean / static_cast<double>(want.data.size()), bound,
      agree, positions.size());
  std::printf("  median position %.4g, bound %.4g\n", Median(per_position), median_bound);
  EXPECT_LE(worst, bound);
  EXPECT_LE(Median(per_position), median_bound);
  EXPECT_EQ(clear_disagree, 0);
  EXPECT_GE(agree * 10, static_cast<int>(positions.size()) * 9);
}

TEST_P(LogitsGolden, TokenIds) {
  ASSERT_NE(engine_, nullptr);
  const auto ids = engine_->tokenizer().Encode(ReadAll(kFolder + "passage.txt"), false);
  ASSERT_TRUE(ids.ok()) << ids.status().message();
  ASSERT_GE(ids->size(), ids_.size());
  EXPECT_TRUE(std::equal(ids_.begin(), ids_.end(), ids->begin()));
}

TEST_P(LogitsGolden, Dense) {
  const auto attention = PresetConfig("dense");
  ASSERT_TRUE(attention.ok());
  Compare(CaseOf("dense"), *attention);
}

TEST_P(LogitsGolden, DefaultWithSmallWindows) {
  const json& entry = CaseOf("routed");
  auto attention = PresetConfig("default");
  ASSERT_TRUE(attention.ok());
  attention->routing.sink_chunks = entry.at("rule").at("sink_chunks");
  attention->routing.local_chunks = entry.at("rule").at("local_chunks");
  attention->routing.groups_budget = entry.at("rule").at("groups_budget");
  ASSERT_EQ(attention->dense_layers, entry.at("dense_layers").get<std::vector<int>>());
  Compare(entry, *attention);
}

INSTANTIATE_TEST_SUITE_P(Cpu, LogitsGolden, testing::Values("cpu"),
                         [](const auto&) { return std::string("0"); });
#if HGA_WITH_CUDA
INSTANTIATE_TEST_SUITE_P(Cuda, LogitsGolden, testing::Values("cuda:0"),
                         [](const auto&) { return std::string("0"); });
#endif

}  // namespace
}  // namespace hga::golden
