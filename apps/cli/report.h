// SPDX-License-Identifier: Apache-2.0
// The end report of a run: the same figures as text and as JSON.
#ifndef HGA_APPS_CLI_REPORT_H_
#define HGA_APPS_CLI_REPORT_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common.h"
#include "hga/engine.h"
#include "hga/sampler.h"
#include "run_generate.h"
#include "session_keeper.h"

namespace hga::cli {

struct RunReport {
  std::string model;  // directory
  std::string attention;
  int threads = 0;
  std::string isa;
  int64_t context = 0;  // tokens the sequence can hold
  double load_seconds = 0;
  int64_t weight_bytes = 0;
  int64_t cached_tokens = 0;  // of the prompt, in the sequence already
  SamplingOptions sampling;
  Generated generated;
  KvStats kv;             // since the engine was opened; no io: all K/V in memory
  SessionReport session;  // no name: none
};

// --stats none|text|json|json:FILE
void AddStatsOption(CLI::App& verb, std::string* stats);

nlohmann::json ReportJson(const RunReport& report);
std::vector<std::string> ReportLines(const RunReport& report);
// As --stats says; text is silent with --quiet.
Status PrintReport(const std::string& stats, const RunReport& report);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_REPORT_H_
