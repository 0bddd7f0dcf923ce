// SPDX-License-Identifier: Apache-2.0
// The promises of docs/spec/routing.md, end to end on models/hga-mini through the public engine:
// causal, span-, batch- and thread-invariant, deterministic, and dense where everything is opened.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "hga/engine.h"
#include "tests/golden/npy.h"

namespace hga::golden {
namespace {

const std::string kSource = HGA_SOURCE_DIR;
constexpr uint64_t kSeed = 5;

// Ids of prose, then of a reproducible mixture of them, `n` in all.
std::vector<int32_t> Tokens(int64_t n) {
  std::vector<int32_t> ids = ReadNpy<int32_t>(kSource + "/tests/golden/data/logits/ids.npy").data;
  uint64_t state = kSeed;
  while (static_cast<int64_t>(ids.size()) < n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(ids[(state >> 33) % 1000]);
  }
  ids.resize(static_cast<size_t>(n));
  return ids;
}

// Rules with windows so small that routing acts from a few hundred tokens on.
struct NamedAttention {
  std::string name;
  AttentionConfig config;
};

std::vector<NamedAttention> SmallRules() {
  std::vector<NamedAttention> rules;
  const auto add = [&](const char* preset, const char* name, auto change) {
    AttentionConfig config = *PresetConfig(preset);
    config.routing.sink_chunks = config.routing.local_chunks = 1;
    change(config);
    rules.push_back({name, config});
  };
  add("default", "default", [](AttentionConfig& c) { c.routing.groups_budget = 8; });
  add("paper", "paper",
      [](AttentionConfig& c) { c.routing.groups_budget = 4, c.routing.chunk_beam = 3; });
  add("long", "beam, sampled layer 0", [](AttentionConfig& c) {
    c.routing.groups_budget = 8, c.routing.chunk_beam = 2, c.sampled_layers[0] = 16;
  });
  add("fine", "fine, bf16 summaries, query heads", [](AttentionConfig& c) {
    c.routing.groups_budget = 12;
    c.routing.summary_dtype = SummaryDtype::kBf16;
    c.routing.scope = SelectionScope::kQueryHead;
  });
  return rules;
}

std::unique_ptr<Engine> OpenMini(int threads) {
  EngineOptions options;
  options.threads = threads;
  auto engine = Engine::Open(kSource + "/models/hga-mini", options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(engine).value() : nullptr;
}

class Promises : public testing::Test {
 protected:
  static void SetUpTestSuite() { engine_ = OpenMini(2).release(); }
  static void TearDownTestSuite() { delete engine_, engine_ = nullptr; }
  void SetUp() override { ASSERT_NE(engine_, nullptr); }

  static std::unique_ptr<Sequence> New(Engine& engine, const AttentionConfig& attention,
                                       int64_t capacity) {
    auto sequence = engine.NewSequence(attention, capacity);
    EXPECT_TRUE(sequence.ok()) << sequence.status().message();
    return sequence.ok() ? std::move(sequence).value() : nullptr;
  }

  // Logits of tokens [from, tokens.size()), fed in calls of `span` tokens: [..][vocab].
  static std::vector<float> LogitsOf(Engine& engine, const AttentionConfig& attention,
                                     const std::vector<int32_t>& tokens, int64_t from,
                                     int64_t span) {
    const auto n = static_cast<int64_t>(tokens.size()), vocab = int64_t{engine.info().vocab};
    auto sequence = New(engine, attention, n);
    if (sequence == nullptr) return {};
    std::vector<float> logits(static_cast<size_t>((n - from) * vocab));
    for (int64_t at = 0; at < n;) {
      // Before `from` nothing is wanted: the head costs more than it tells.
      const int64_t end = std::min({at + span, n, at < from ? from : n});
      BatchItem item;
      item.sequence = sequence.get();
      item.tokens = {tokens.data() + at, static_cast<size_t>(end - at)};
      if (at >= from) {
        item.wanted = LogitsWanted::kAll;
        item.logits = {logits.data() + (at - from) * vocab,
                       static_cast<size_t>((end - at) * vocab)};
      }
      const Status status = engine.Forward({&item, 1});
      EXPECT_TRUE(status.ok()) << status.message();
      if (!status.ok()) return {};
      at = end;
    }
    EXPECT_EQ(sequence->length(), n);
    return logits;
  }

  // Index of the first row whose bits differ, or -1.
  static int64_t FirstDifference(const std::vector<float>& a, const std::vector<float>& b,
                                 int64_t vocab, int64_t rows) {
    if (a.size() != b.size() || a.empty()) return 0;
    for (int64_t row = 0; row < rows; ++row) {
      if (std::memcmp(a.data() + row * vocab, b.data() + row * vocab,
                      static_cast<size_t>(vocab) * sizeof(float)) != 0) {
        return row;
      }
    }
    return -1;
  }

  static Engine* engine_;
};

Engine* Promises::engine_ = nullptr;

TEST_F(Promises, StrictlyCausal) {
  constexpr int64_t kTokens = 1100, kFrom = 950, kChanged = 1030;
  const int64_t vocab = engine_->info().vocab;
  for (const NamedAttention& rule : SmallRules()) {
    std::vector<int32_t> tokens = Tokens(kTokens);
    const auto before = LogitsOf(*engine_, rule.config, tokens, kFrom, engine_->span());
    for (int64_t t = kChanged; t < kTokens; ++t) tokens[t] = static_cast<int32_t>((t * 37) % 8000);
    const auto after = LogitsOf(*engine_, rule.config, tokens, kFrom, engine_->span());
    EXPECT_EQ(FirstDifference(before, after, vocab, kChanged - kFrom), -1) << rule.name;
    EXPECT_NE(FirstDifference(before, after, vocab, kTokens - kFrom), -1)
        << rule.name << ": the change itself must be seen";
  }
}

TEST_F(Promises, SpanInvariant) {
  constexpr int64_t kTokens = 1000, kFrom = 900;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  for (const NamedAttention& rule : SmallRules()) {
    const auto want = LogitsOf(*engine_, rule.config, tokens, kFrom, 256);
    for (int64_t span : {64, 100, 7}) {
      const auto got = LogitsOf(*engine_, rule.config, tokens, kFrom, span);
      EXPECT_EQ(FirstDifference(want, got, vocab, kTokens - kFrom), -1)
          << rule.name << ", spans of " << span << ": first row that differs, from " << kFrom;
    }
  }
}

// One token at a time is what decoding does; shorter, for it is slow.
TEST_F(Promises, PrefillEqualsDecoding) {
  constexpr int64_t kTokens = 460, kFrom = 330;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  std::vector<NamedAttention> rules = SmallRules();
  rules.push_back({"dense", *PresetConfig("dense")});
  for (const NamedAttention& rule : rules) {
    const auto want = LogitsOf(*engine_, rule.config, tokens, kFrom, 256);
    const auto got = LogitsOf(*engine_, rule.config, tokens, kFrom, 1);
    EXPECT_EQ(FirstDifference(want, got, vocab, kTokens - kFrom), -1) << rule.name;
  }
}

// A second sequence of another length and rule, first or second in the batch, changes nothing.
TEST_F(Promises, BatchInvariant) {
  constexpr int64_t kTokens = 800, kFrom = 720, kStep = 80, kOther = 37;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  std::vector<int32_t> others = Tokens(kTokens);
  std::reverse(others.begin(), others.end());
  const std::vector<NamedAttention> rules = SmallRules();
  for (size_t r = 0; r < rules.size(); ++r) {
    const auto want = LogitsOf(*engine_, rules[r].config, tokens, kFrom, kStep);
    for (bool first : {true, false}) {
      auto sequence = New(*engine_, rules[r].config, kTokens);
      auto other = New(*engine_, rules[(r + 1) % rules.size()].config, kTokens);
      ASSERT_TRUE(sequence && other);
      std::vector<float> got(static_cast<size_t>((kTokens - kFrom) * vocab));
      for (int64_t at = 0, o = 0; at < kTokens; at += kStep, o += kOther) {
        BatchItem mine{sequence.get(), {tokens.data() + at, kStep}, LogitsWanted::kNone, {}};
        if (at >= kFrom) mine.wanted = LogitsWanted::kAll, mine.logits = got;
        const BatchItem theirs{other.get(), {others.data() + o, kOther}, LogitsWanted::kNone, {}};
        const BatchItem batch[2] = {first ? mine : theirs, first ? theirs : mine};
        const Status status = engine_->Forward(batch);
        ASSERT_TRUE(status.ok()) << status.message();
      }
      EXPECT_EQ(FirstDifference(want, got, vocab, kTokens - kFrom), -1)
          << rules[r].name << (first ? ", first" : ", second") << " in the batch";
    }
  }
}

TEST_F(Promises, ThreadCountInvariant) {
  constexpr int64_t kTokens = 700, kFrom = 600;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  auto single = OpenMini(1), triple = OpenMini(3);
  ASSERT_TRUE(single && triple);
  for (const NamedAttention& rule : SmallRules()) {
    const auto want = LogitsOf(*engine_, rule.config, tokens, kFrom, 128);
    for (Engine* engine : {single.get(), triple.get()}) {
      const auto got = LogitsOf(*engine, rule.config, tokens, kFrom, 128);
      EXPECT_EQ(FirstDifference(want, got, vocab, kTokens - kFrom), -1)
          << rule.name << ", " << engine->threads() << " threads";
    }
  }
}

TEST_F(Promises, Deterministic) {
  constexpr int64_t kTokens = 700, kFrom = 600;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  for (const NamedAttention& rule : SmallRules()) {
    const auto once = LogitsOf(*engine_, rule.config, tokens, kFrom, 256);
    const auto again = LogitsOf(*engine_, rule.config, tokens, kFrom, 256);
    EXPECT_EQ(FirstDifference(once, again, vocab, kTokens - kFrom), -1) << rule.name;
  }
}

// Forgetting tokens and feeding others is as if the forgotten ones had never been.
TEST_F(Promises, TruncateLeavesNoTrace) {
  constexpr int64_t kTokens = 640, kKept = 433;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  for (const NamedAttention& rule : SmallRules()) {
    const auto want = LogitsOf(*engine_, rule.config, tokens, kTokens - 1, 256);
    auto sequence = New(*engine_, rule.config, kTokens);
    ASSERT_NE(sequence, nullptr);
    std::vector<int32_t> wrong = tokens;
    std::fill(wrong.begin() + kKept, wrong.end(), 17);
    std::vector<float> got(static_cast<size_t>(vocab));
    ASSERT_TRUE(engine_->Feed(*sequence, wrong, LogitsWanted::kNone, {}, {}).ok());
    ASSERT_TRUE(sequence->Truncate(kKept).ok());
    const std::span<const int32_t> rest(tokens.data() + kKept, kTokens - kKept);
    ASSERT_TRUE(engine_->Feed(*sequence, rest, LogitsWanted::kLast, got, {}).ok());
    EXPECT_EQ(FirstDifference(want, got, vocab, 1), -1) << rule.name;
  }
}

// What roundings alone do to dense logits and to those of a small rule, from the golden manifest.
struct Spread {
  double median = 0;  // over the positions of the dense case
  double worst = 0;   // over all: somewhere a rounding tips an expert or a plan
};

Spread RecordedSpread() {
  const auto manifest = ReadManifest(kSource + "/tests/golden/data/logits");
  Spread spread;
  for (const auto& entry : manifest.at("cases")) {
    auto all = entry.at("spread").get<std::vector<double>>();
    std::sort(all.begin(), all.end());
    spread.worst = std::max(spread.worst, all.back());
    if (entry.at("name") == "dense") spread.median = all[all.size() / 2];
  }
  return spread;
}

// A budget of everything is dense attention up to rounding: four times what roundings were seen to
// do, in the median row and in the worst.
TEST_F(Promises, DenseLimit) {
  constexpr int64_t kTokens = 900, kFrom = 800;
  const int64_t vocab = engine_->info().vocab;
  const std::vector<int32_t> tokens = Tokens(kTokens);
  const Spread spread = RecordedSpread();
  const auto dense = LogitsOf(*engine_, *PresetConfig("dense"), tokens, kFrom, 256);
  for (NamedAttention rule : SmallRules()) {
    rule.config.routing.groups_budget = 1024;
    rule.config.routing.beam_share = 1;
    for (auto& [layer, cells] : rule.config.sampled_layers) cells = 4096;
    const auto routed = LogitsOf(*engine_, rule.config, tokens, kFrom, 256);
    ASSERT_EQ(routed.size(), dense.size());
    std::vector<double> rows;
    int agree = 0;
    for (int64_t row = 0; row < kTokens - kFrom; ++row) {
      const float *a = dense.data() + row * vocab, *b = routed.data() + row * vocab;
      rows.push_back(0);
      for (int64_t i = 0; i < vocab; ++i) {
        rows.back() = std::max(rows.back(), std::fabs(static_cast<double>(a[i]) - b[i]));
      }
      agree += std::max_element(a, a + vocab) - a == std::max_element(b, b + vocab) - b;
    }
    std::sort(rows.begin(), rows.end());
    const double median = rows[rows.size() / 2];
    std::printf(
        "  %s: |difference| to dense, median row %.4g (bound %.4g), nine of ten rows below "
        "%.4g, worst %.4g (bound %.4g); top-1 agrees at %d of %zu\n",
        rule.name.c_str(), median, 4 * spread.median, rows[rows.size() * 9 / 10], rows.back(),
        4 * spread.worst, agree, rows.size());
    EXPECT_LE(median, 4 * spread.median) << rule.name;
    EXPECT_LE(rows.back(), 4 * spread.worst) << rule.name;
    EXPECT_GE(agree, (kTokens - kFrom) * 97 / 100) << rule.name;
  }
}

}  // namespace
}  // namespace hga::golden
