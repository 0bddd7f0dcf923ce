// SPDX-License-Identifier: Apache-2.0
// Decoding with all K/V in memory beside decoding with it on disk: the same K/V, the same tokens,
// in turn.
#ifndef HGA_APPS_CLI_BENCH_TIER_H_
#define HGA_APPS_CLI_BENCH_TIER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench_run.h"
#include "hga/config.h"
#include "hga/engine.h"
#include "hga/status.h"
#include "report_kv.h"

namespace hga::cli {

// One (test, rule, tier).
struct TierResult {
  BenchResult bench;
  bool on_disk = false;
  std::vector<double> open_seconds;  // [repeats] taking the session up, summaries included
  KvWork work;                       // of all repeats
  double slots_share = 0;            // most of the K/V on disk that memory can hold; on disk only
};

struct TierPlan {
  std::vector<BenchTest> tests;  // without prompts
  std::vector<AttentionConfig> rules;
  AttentionConfig filler;
  std::vector<int32_t> tokens;  // [most tokens of a test with its depth]
  int repeats = 5;
  bool memory = false;  // which tiers
  bool disk = false;
  std::string session;  // kept in the directory of both engines while it runs
};

// `memory` keeps all K/V in memory, `disk` what its KvOptions allow; both have the same model and
// directory. The depth is filled once, into a session of `memory`; each run takes that session up,
// so a run of `disk` has nothing in memory but windows, and sees nothing of the runs before. Dense
// rules have no row on disk: all of their K/V stays in memory.
Result<std::vector<TierResult>> RunTiers(Engine& memory, Engine& disk, const TierPlan& plan,
                                         const BenchProgress& progress);

// What the random reads of a disk allow: tokens/s of `result` at its reads per token, and at most
// what memory gives. 0 where that is not known.
double TierLimit(const TierResult& result, const TierResult& memory, const DiskLimits& limits);
// The same test and rule with all K/V in memory; nullptr if it was not measured.
const TierResult* MemoryOf(const std::vector<TierResult>& results, const TierResult& result);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_BENCH_TIER_H_
