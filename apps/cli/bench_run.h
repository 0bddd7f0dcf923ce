// SPDX-License-Identifier: Apache-2.0
// Timing of prefill and decode: every rule over the same K/V, repeats of all rules in turn.
#ifndef HGA_APPS_CLI_BENCH_RUN_H_
#define HGA_APPS_CLI_BENCH_RUN_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "hga/config.h"
#include "hga/engine.h"
#include "hga/status.h"

namespace hga::cli {

// One figure of the grid: feed `prompt` tokens in spans, then `generate` one by one, behind `depth`
// tokens that are already there.
struct BenchTest {
  int64_t prompt = 0;
  int64_t generate = 0;
  int64_t depth = 0;

  int64_t tokens() const { return prompt + generate; }
  std::string name() const;  // "pp512", "tg64", "pp512+tg64"
};

// What a (test, rule) took; sums are over all repeats.
struct BenchResult {
  BenchTest test;
  std::string attention;
  std::vector<double> seconds;            // [repeats]
  std::vector<Engine::StageTime> stages;  // sums
  AttentionStats stats;                   // sums

  double MeanSpeed() const;       // tokens/s
  double SpeedDeviation() const;  // of the sample; 0 with one repeat
  double MedianSpeed() const;
  double TotalSeconds() const;
  double BytesPerSecond() const;  // least traffic of all stages
  double FlopsPerSecond() const;
  // Of the stage "attention" alone; 0 if it did not run.
  double AttentionBytesPerSecond() const;
  double AttentionFlopsPerSecond() const;
};

struct BenchPlan {
  std::vector<BenchTest> tests;
  std::vector<AttentionConfig> rules;
  AttentionConfig filler;       // fills depths: the same K/V for every rule
  std::vector<int32_t> tokens;  // [most tokens of a test with its depth]
  int repeats = 5;
  bool warm_up = true;
};

// `progress(text, done, total)` is called between pieces of work; false stops with kCancelled.
using BenchProgress = std::function<bool(const std::string&, int64_t, int64_t)>;

// Results in the order of tests (depths ascending), rules inside.
Result<std::vector<BenchResult>> RunBench(Engine& engine, const BenchPlan& plan,
                                          const BenchProgress& progress);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_BENCH_RUN_H_
