// SPDX-License-Identifier: Apache-2.0
// The memory plan of a run in words and as JSON.
#ifndef HGA_APPS_CLI_MEMORY_PLAN_H_
#define HGA_APPS_CLI_MEMORY_PLAN_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "hga/engine.h"

namespace hga::cli {

// What a share is, and its bytes: all that stands in memory, then what is on disk. Shares of no
// bytes are left out.
std::vector<std::pair<std::string, int64_t>> MemoryShares(const MemoryPlan& plan);
// Lines for messages; the last one says whether it fits.
std::vector<std::string> PlanLines(const MemoryPlan& plan);
nlohmann::json PlanJson(const MemoryPlan& plan);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_MEMORY_PLAN_H_
