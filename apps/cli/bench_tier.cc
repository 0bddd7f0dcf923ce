// SPDX-License-Identifier: Apache-2.0
// Fills a session and decodes behind it from every tier in turn.
#include "bench_tier.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>

#include "common.h"

namespace hga::cli {
namespace {

class TierRunner {
 public:
  TierRunner(Engine& memory, Engine& disk, const TierPlan& plan, const BenchProgress& progress)
      : memory_(memory),
        disk_(disk),
        plan_(plan),
        progress_(progress),
        logits_(static_cast<size_t>(memory.info().vocab)) {}

  Result<std::vector<TierResult>> Run() {
    std::vector<BenchTest> tests = plan_.tests;
    std::stable_sort(tests.begin(), tests.end(),
                     [](const BenchTest& a, const BenchTest& b) { return a.depth < b.depth; });
    total_ = static_cast<int64_t>(tests.size()) * plan_.repeats;
    std::vector<TierResult> results;
    for (const BenchTest& test : tests) {
      HGA_RETURN_IF_ERROR(Fill(test.depth));
      HGA_RETURN_IF_ERROR(Measure(test, &results));
    }
    return results;
  }

 private:
  // The session then ends at `depth`.
  Status Fill(int64_t depth) {
    HGA_ASSIGN_OR_RETURN(auto sequence, memory_.OpenSession(plan_.session, plan_.filler,
                                                            std::max<int64_t>(depth, 1)));
    const int64_t held = sequence->length();
    if (held < depth) {
      const std::string text = fmt::format("filling {} tokens", depth);
      const auto rest = std::span(plan_.tokens)
                            .subspan(static_cast<size_t>(held), static_cast<size_t>(depth - held));
      HGA_RETURN_IF_ERROR(
          memory_.Feed(*sequence, rest, LogitsWanted::kNone, {},
                       [&](int64_t done, int64_t) { return progress_(text, held + done, depth); }));
    }
    return sequence->Checkpoint({});
  }

  // Appends one result per rule and tier.
  Status Measure(const BenchTest& test, std::vector<TierResult>* results) {
    const size_t first = results->size();
    std::vector<const AttentionConfig*> rules;  // of each new result
    for (const AttentionConfig& rule : plan_.rules) {
      for (const bool on_disk : {false, true}) {
        if (on_disk ? !plan_.disk || rule.dense : !plan_.memory) continue;
        TierResult result;
        result.bench.test = test;
        result.bench.attention = rule.name;
        result.on_disk = on_disk;
        results->push_back(std::move(result));
        rules.push_back(&rule);
      }
    }
    for (int repeat = 0; repeat < plan_.repeats; ++repeat) {
      if (!progress_("measuring", done_++, total_)) return Cancelled("interrupted");
      for (size_t i = 0; i < rules.size(); ++i) {
        HGA_RETURN_IF_ERROR(Once(test, *rules[i], &(*results)[first + i]));
      }
    }
    return OkStatus();
  }

  Status Once(const BenchTest& test, const AttentionConfig& rule, TierResult* result) {
    Engine& engine = result->on_disk ? disk_ : memory_;
    double start = Now();
    HGA_ASSIGN_OR_RETURN(auto sequence,
                         engine.OpenSession(plan_.session, rule, test.depth + test.generate));
    result->open_seconds.push_back(Now() - start);
    engine.EvictAll();
    const KvStats before = engine.kv_stats();
    start = Now();
    for (int64_t i = 0; i < test.generate; ++i) {
      const auto token = std::span(plan_.tokens).subspan(static_cast<size_t>(test.depth + i), 1);
      const BatchItem item{sequence.get(), token, LogitsWanted::kLast, logits_};
      HGA_RETURN_IF_ERROR(engine.Forward({&item, 1}));
      if (Interrupted()) return Cancelled("interrupted");
    }
    const double seconds = Now() - start;
    result->bench.seconds.push_back(seconds);
    AddWork(WorkSince(before, engine.kv_stats(), test.generate, seconds), &result->work);
    if (result->on_disk) {
      const MemoryPlan room = engine.Plan(rule, test.depth);
      result->slots_share = room.disk_bytes > 0 ? static_cast<double>(room.host_bytes) /
                                                      static_cast<double>(room.disk_bytes)
                                                : 1;
    }
    return OkStatus();
  }

  Engine& memory_;
  Engine& disk_;
  const TierPlan& plan_;
  const BenchProgress& progress_;
  std::vector<float> logits_;  // [vocab]
  int64_t done_ = 0;           // repeats
  int64_t total_ = 0;
};

}  // namespace

const TierResult* MemoryOf(const std::vector<TierResult>& results, const TierResult& result) {
  for (const TierResult& other : results) {
    if (!other.on_disk && other.bench.attention == result.bench.attention &&
        other.bench.test.name() == result.bench.test.name() &&
        other.bench.test.depth == result.bench.test.depth) {
      return &other;
    }
  }
  return nullptr;
}

double TierLimit(const TierResult& result, const TierResult& memory, const DiskLimits& limits) {
  const double reads = result.work.reads_per_token();
  const double in_memory = memory.bench.MedianSpeed();
  return reads > 0 ? std::min(in_memory, limits.random_reads_per_second / reads) : in_memory;
}

Result<std::vector<TierResult>> RunTiers(Engine& memory, Engine& disk, const TierPlan& plan,
                                         const BenchProgress& progress) {
  return TierRunner(memory, disk, plan, progress).Run();
}

}  // namespace hga::cli
