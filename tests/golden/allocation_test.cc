// SPDX-License-Identifier: Apache-2.0
// Once a sequence exists, Forward allocates nothing: every operator new of this program is counted
// while models/hga-mini prefills and decodes under rules that take every path.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "hga/engine.h"

namespace {

std::atomic<int64_t> allocations{0};

void* Counted(size_t bytes, size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const size_t rounded = std::max<size_t>(1, (bytes + alignment - 1) / alignment) * alignment;
  void* p = std::aligned_alloc(alignment, rounded);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// The array and nothrow forms of the standard library end here as well.
void* operator new(size_t bytes) { return Counted(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return Counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace hga {
namespace {

constexpr int64_t kPrompt = 500;
constexpr int64_t kDecoded = 140;  // two chunks close, so that summaries are built while decoding
constexpr int kSpan = 200;

struct NamedRule {
  std::string name;
  AttentionConfig config;
};

// Windows, budgets and beams so small that all of them act within a few hundred tokens.
std::vector<NamedRule> Rules() {
  std::vector<NamedRule> rules;
  for (const char* name : {"dense", "default", "fine", "sparse", "long", "paper", "window"}) {
    AttentionConfig config = *PresetConfig(name);
    RoutingConfig& r = config.routing;
    r.sink_chunks = r.local_chunks = 1;
    r.groups_budget = std::min(r.groups_budget, 8);
    if (r.chunk_beam > 0) r.chunk_beam = 2, r.beam_share = 0;
    for (auto& [layer, cells] : config.sampled_layers) cells = 16;
    rules.push_back({name, config});
  }
  return rules;
}

class Allocations : public testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options;
    options.threads = 2;
    options.span = kSpan;
    auto engine = Engine::Open(std::string(HGA_SOURCE_DIR) + "/models/hga-mini", options);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(engine).value();
    logits_.resize(static_cast<size_t>(2 * engine_->info().vocab));
  }
  std::unique_ptr<Sequence> New(const AttentionConfig& config) {
    auto sequence = engine_->NewSequence(config, kPrompt + kDecoded);
    EXPECT_TRUE(sequence.ok()) << sequence.status().message();
    return sequence.ok() ? std::move(sequence).value() : nullptr;
  }
  // Allocations of one Forward that gives each sequence the next `tokens` tokens.
  int64_t Forward(std::vector<Sequence*> sequences, int64_t tokens) {
    std::vector<int32_t> ids(static_cast<size_t>(tokens));
    std::vector<BatchItem> items;
    const size_t vocab = static_cast<size_t>(engine_->info().vocab);
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] =
          static_cast<int32_t>((sequences[0]->length() + static_cast<int64_t>(i)) * 7919 % 8000);
    }
    for (size_t i = 0; i < sequences.size(); ++i) {
      items.push_back(
          {sequences[i], ids, LogitsWanted::kLast, std::span(logits_).subspan(i * vocab, vocab)});
    }
    const int64_t before = allocations.load();
    const Status status = engine_->Forward(items);
    const int64_t count = allocations.load() - before;
    EXPECT_TRUE(status.ok()) << status.message();
    return count;
  }

  std::unique_ptr<Engine> engine_;
  std::vector<float> logits_;  // [2][vocab]
};

TEST_F(Allocations, AreCounted) {
  const int64_t before = allocations.load();
  const std::vector<int> one(1);
  EXPECT_EQ(allocations.load(), before + 1);
}

TEST_F(Allocations, NoneInForward) {
  for (const NamedRule& rule : Rules()) {
    auto sequence = New(rule.config);
    ASSERT_NE(sequence, nullptr);
    int64_t prefill = 0, decode = 0;
    while (sequence->length() < kPrompt) {
      prefill += Forward({sequence.get()}, std::min<int64_t>(kSpan, kPrompt - sequence->length()));
    }
    for (int64_t i = 0; i < kDecoded; ++i) decode += Forward({sequence.get()}, 1);
    EXPECT_EQ(prefill, 0) << rule.name << ", prefill";
    EXPECT_EQ(decode, 0) << rule.name << ", " << kDecoded << " decoded tokens";
    EXPECT_EQ(sequence->LastPlan(7, 0).empty(), rule.config.dense || rule.name == "window");
  }
}

TEST_F(Allocations, NoneInABatch) {
  const std::vector<NamedRule> rules = Rules();
  for (size_t i = 1; i < rules.size(); ++i) {
    auto one = New(rules[i - 1].config), other = New(rules[i].config);
    ASSERT_TRUE(one && other);
    int64_t count = 0;
    while (one->length() < kPrompt) count += Forward({one.get(), other.get()}, kSpan / 2);
    for (int j = 0; j < 3; ++j) count += Forward({one.get(), other.get()}, 1);
    EXPECT_EQ(count, 0) << rules[i - 1].name << " beside " << rules[i].name;
  }
}

}  // namespace
}  // namespace hga
