// SPDX-License-Identifier: Apache-2.0
// Tier invariance, end to end on models/hga-mini: where K/V lives changes no bit of any logit.
// HGA_TIERS_LONG=FIRST runs the figures of record instead of the short ones: of 20 prompts of 16K
// tokens the four from FIRST on.
#include <stdlib.h>

#include <cstdio>
#include <filesystem>

#include "hga/engine.h"
#include "hga/sampler.h"
#include "tests/golden/npy.h"

namespace hga::golden {
namespace {

const std::string kSource = HGA_SOURCE_DIR;

struct Size {
  int first_prompt, prompts, prompt_tokens, answer_tokens;
};
Size TestSize() {
  const char* first = getenv("HGA_TIERS_LONG");
  return first != nullptr ? Size{atoi(first), 4, 16384, 128} : Size{0, 2, 4096, 64};
}

// Ids of prose, mixed reproducibly; another text for every `prompt`.
std::vector<int32_t> Prompt(int prompt, int64_t n) {
  const std::vector<int32_t> prose =
      ReadNpy<int32_t>(kSource + "/tests/golden/data/logits/ids.npy").data;
  std::vector<int32_t> ids;
  uint64_t state = 77 + static_cast<uint64_t>(prompt);
  while (static_cast<int64_t>(ids.size()) < n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const size_t first = (state >> 33) % (prose.size() - 40);
    ids.insert(ids.end(), prose.begin() + static_cast<std::ptrdiff_t>(first),
               prose.begin() + static_cast<std::ptrdiff_t>(first) + 40);
  }
  ids.resize(static_cast<size_t>(n));
  return ids;
}

// A directory of its own, gone afterwards.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = testing::TempDir() + "/hga-tiers-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<Engine> OpenMini(const KvOptions& kv) {
  EngineOptions options;
  options.threads = 2;
  options.kv = kv;
  options.kv.allow_ram_directory = true;  // a machine's temporary folder may be one
  auto engine = Engine::Open(kSource + "/models/hga-mini", options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(engine).value() : nullptr;
}

// Greedy answer: logits of every step, one after another.
std::vector<float> Decode(Engine& engine, Sequence& sequence, std::vector<float> logits, int steps,
                          std::vector<int32_t>* answer) {
  std::vector<float> all;
  Sampler sampler({});
  for (int i = 0; i < steps; ++i) {
    all.insert(all.end(), logits.begin(), logits.end());
    const int32_t token = sampler.Sample(logits, {}, {});
    answer->push_back(token);
    const BatchItem item{&sequence, {&token, 1}, LogitsWanted::kLast, logits};
    const Status status = engine.Forward({&item, 1});
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) break;
  }
  return all;
}

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  friend bool operator==(const Answer&, const Answer&) = default;
};

// Feeds `prompt` as far as the sequence does not hold it and answers.
Answer Ask(Engine& engine, Sequence& sequence, const std::vector<int32_t>& prompt, int steps,
           bool checkpoint) {
  Answer answer;
  std::vector<float> logits(static_cast<size_t>(engine.info().vocab));
  const size_t have = std::min(static_cast<size_t>(sequence.length()), prompt.size() - 1);
  Status status = sequence.Truncate(static_cast<int64_t>(have));
  EXPECT_TRUE(status.ok()) << status.message();
  status = engine.Feed(sequence, std::span(prompt).subspan(have), LogitsWanted::kLast, logits, {});
  EXPECT_TRUE(status.ok()) << status.message();
  if (!status.ok()) return answer;
  if (checkpoint) {
    status = sequence.Checkpoint({});
    EXPECT_TRUE(status.ok()) << status.message();
  }
  answer.logits = Decode(engine, sequence, std::move(logits), steps, &answer.tokens);
  return answer;
}

int64_t RoutedBytes(const ModelInfo& info, const AttentionConfig& rules, int64_t tokens) {
  int64_t layers = 0;
  for (int l = 0; l < info.layers; ++l) layers += rules.KindOf(l) == LayerKind::kRouted;
  return layers * info.kv_heads * info.head_dim * 4 * tokens;
}

class Tiers : public testing::TestWithParam<const char*> {};

TEST_P(Tiers, LogitsAreEqualWhereverKvLives) {
  const Size size = TestSize();
  const AttentionConfig rules = *PresetConfig(GetParam());
  const int64_t capacity = size.prompt_tokens + size.answer_tokens + 1;
  const ScratchDirectory directory;
  const std::unique_ptr<Engine> memory = OpenMini({});
  ASSERT_NE(memory, nullptr);
  KvOptions tenth;
  tenth.directory = directory.path();
  tenth.host_bytes = RoutedBytes(memory->info(), rules, size.prompt_tokens) / 10;
  for (int p = size.first_prompt; p < size.first_prompt + size.prompts; ++p) {
    const std::vector<int32_t> prompt = Prompt(p, size.prompt_tokens);
    const std::string name = "prompt " + std::to_string(p);
    auto plain = memory->NewSequence(rules, capacity);
    ASSERT_TRUE(plain.ok());
    const Answer expected = Ask(*memory, **plain, prompt, size.answer_tokens, false);
    ASSERT_EQ(expected.tokens.size(), static_cast<size_t>(size.answer_tokens));
    {
      const std::unique_ptr<Engine> engine = OpenMini(tenth);
      auto budget = engine->NewSequence(rules, capacity);
      ASSERT_TRUE(budget.ok()) << budget.status().message();
      EXPECT_TRUE(Ask(*engine, **budget, prompt, size.answer_tokens, false) == expected)
          << "a tenth in memory, the rest on disk";
      const KvStats stats = engine->kv_stats();
      EXPECT_GT(stats.evictions, 0);
      EXPECT_GT(stats.reads, 0);
      std::printf("%s: tenth in memory, %s: %lld of %lld cells in memory, %lld reads\n", GetParam(),
                  stats.io.c_str(), static_cast<long long>(stats.cells_in_memory),
                  static_cast<long long>(stats.cells_wanted), static_cast<long long>(stats.reads));
    }
    {
      const std::unique_ptr<Engine> engine = OpenMini(tenth);
      auto saved = engine->OpenSession(name, rules, capacity);
      ASSERT_TRUE(saved.ok()) << saved.status().message();
      EXPECT_TRUE(Ask(*engine, **saved, prompt, size.answer_tokens, true) == expected)
          << "a session while it is written";
    }
    {
      const std::unique_ptr<Engine> engine = OpenMini(tenth);
      auto cold = engine->OpenSession(name, rules, capacity);
      ASSERT_TRUE(cold.ok()) << cold.status().message();
      EXPECT_EQ((*cold)->length(), size.prompt_tokens);
      EXPECT_TRUE(Ask(*engine, **cold, prompt, size.answer_tokens, false) == expected)
          << "from the disk, cold";
      EXPECT_EQ(engine->kv_stats().recomputed_tokens, 0);
    }
    {
      KvOptions sessions;
      sessions.directory = directory.path();
      const std::unique_ptr<Engine> engine = OpenMini(sessions);
      auto resumed = engine->OpenSession(name, rules, capacity);
      ASSERT_TRUE(resumed.ok()) << resumed.status().message();
      EXPECT_EQ((*resumed)->length(), size.prompt_tokens);
      EXPECT_TRUE(Ask(*engine, **resumed, prompt, size.answer_tokens, false) == expected)
          << "resumed into memory";
    }
  }
}

// Read-ahead guesses by the newest plan, which may be of a time before a cut.
TEST(CutSequences, DecodeBehindTheCut) {
  const AttentionConfig rules = *PresetConfig("default");
  constexpr int kLong = 4000, kShort = 2600, kSteps = 8;
  std::vector<int32_t> other = Prompt(1, kShort);
  const std::vector<int32_t> prompt = Prompt(3, kLong);
  std::copy_n(prompt.begin(), 2500, other.begin());
  const ScratchDirectory directory;
  KvOptions kv;
  const std::unique_ptr<Engine> memory = OpenMini(kv);
  ASSERT_NE(memory, nullptr);
  auto plain = memory->NewSequence(rules, kLong + kSteps + 1);
  ASSERT_TRUE(plain.ok());
  const Answer expected = Ask(*memory, **plain, other, kSteps, false);
  kv.directory = directory.path();
  kv.host_bytes = RoutedBytes(memory->info(), rules, kLong) / 10;
  const std::unique_ptr<Engine> engine = OpenMini(kv);
  auto cut = engine->NewSequence(rules, kLong + kSteps + 1);
  ASSERT_TRUE(cut.ok());
  Ask(*engine, **cut, prompt, kSteps, false);
  ASSERT_TRUE((*cut)->Truncate(2500).ok());
  EXPECT_TRUE(Ask(*engine, **cut, other, kSteps, false) == expected);
}

// Rules with a first level, and a bound that sends most of their group level to disk.
TEST(SpilledSummaries, LogitsAreEqual) {
  AttentionConfig rules = *PresetConfig("long");
  rules.name = "long with a small beam";
  rules.routing.chunk_beam = 8;
  rules.sampled_layers[0] = 64;
  constexpr int kPrompt = 6000, kSteps = 32;
  const std::vector<int32_t> prompt = Prompt(3, kPrompt);
  const ScratchDirectory directory;
  const std::unique_ptr<Engine> memory = OpenMini({});
  ASSERT_NE(memory, nullptr);
  auto plain = memory->NewSequence(rules, kPrompt + kSteps + 1);
  ASSERT_TRUE(plain.ok());
  const Answer expected = Ask(*memory, **plain, prompt, kSteps, false);
  KvOptions kv;
  kv.directory = directory.path();
  kv.host_bytes = RoutedBytes(memory->info(), rules, kPrompt) / 10;
  const MemoryPlan whole = memory->Plan(rules, kPrompt + kSteps + 1);
  kv.device_bytes = int64_t{1} << 40;
  {
    const std::unique_ptr<Engine> engine = OpenMini(kv);
    const MemoryPlan plan = engine->Plan(rules, kPrompt + kSteps + 1);
    EXPECT_EQ(plan.spilled_summary_bytes, 0);
    kv.device_bytes = plan.device_bytes - plan.summary_bytes / 2;
  }
  const std::unique_ptr<Engine> engine = OpenMini(kv);
  const MemoryPlan plan = engine->Plan(rules, kPrompt + kSteps + 1);
  EXPECT_GT(plan.spilled_summary_bytes, 0);
  EXPECT_LE(plan.device_bytes, kv.device_bytes);
  auto spilled = engine->NewSequence(rules, kPrompt + kSteps + 1);
  ASSERT_TRUE(spilled.ok()) << spilled.status().message();
  EXPECT_TRUE(Ask(*engine, **spilled, prompt, kSteps, false) == expected);
  EXPECT_GT(engine->kv_stats().summary_pages, 0);
  // Once more behind a cut inside a page.
  EXPECT_TRUE((*spilled)->Truncate(kPrompt - 700).ok());
  EXPECT_TRUE(Ask(*engine, **spilled, prompt, kSteps, false) == expected);
  // A bound that not even one layer fits into is refused.
  kv.device_bytes = plan.device_bytes - plan.summary_bytes;
  const std::unique_ptr<Engine> small = OpenMini(kv);
  const auto refused = small->NewSequence(rules, kPrompt);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(refused.status().message().find("stay in memory"), std::string::npos);
  EXPECT_GT(whole.summary_bytes, plan.summary_bytes);
}

INSTANTIATE_TEST_SUITE_P(Presets, Tiers, testing::Values("default", "fine", "sparse", "paper"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace hga::golden
