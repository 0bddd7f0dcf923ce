// SPDX-License-Identifier: Apache-2.0
// What `bench --tier` found, beside what the disk can do.
#ifndef HGA_APPS_CLI_BENCH_TIER_REPORT_H_
#define HGA_APPS_CLI_BENCH_TIER_REPORT_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench_tier.h"
#include "hga/engine.h"

namespace hga::cli {

struct TierReport {
  nlohmann::ordered_json head;
  std::optional<DiskLimits> limits;  // empty: not measured
  std::vector<TierResult> results;
};

// As `bench --output` says: md, csv, json, jsonl.
std::string RenderTiers(const TierReport& report, const std::string& format);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_BENCH_TIER_REPORT_H_
