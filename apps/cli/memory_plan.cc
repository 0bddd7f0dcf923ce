// SPDX-License-Identifier: Apache-2.0
// One place that knows the parts of a plan, for `run`, `chat`, `bench` and `info`.
#include "memory_plan.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "common.h"

namespace hga::cli {
namespace {

std::string Bytes(int64_t value) { return FormatBytes(static_cast<double>(value)); }

}  // namespace

std::vector<std::pair<std::string, int64_t>> MemoryShares(const MemoryPlan& p) {
  const bool tiered = p.host_bytes > 0;
  const std::pair<std::string, int64_t> all[] = {
      {"program", p.program_bytes},
      {"weights", p.weight_bytes},
      {tiered ? "K/V of dense layers" : "K/V", p.dense_bytes},
      {"windows and samples", p.window_bytes},
      {"summaries", p.summary_bytes},
      {"opened cells", p.host_bytes},
      {"tables", p.table_bytes},
      {"staging", p.staging_bytes},
      {"scratch", p.scratch_bytes}};
  std::vector<std::pair<std::string, int64_t>> shares;
  for (const auto& share : all) {
    if (share.second > 0) shares.push_back(share);
  }
  return shares;
}

std::vector<std::string> PlanLines(const MemoryPlan& p) {
  std::vector<std::string> lines = {
      fmt::format("memory for {} tokens of {} K/V each, {} in all:", FormatCount(p.context),
                  Bytes(p.kv_bytes_per_token), Bytes(p.kv_bytes))};
  const char* separator = " ";
  for (const auto& [name, bytes] : MemoryShares(p)) {
    lines.front() += fmt::format("{}{} {}", separator, name, Bytes(bytes));
    separator = ", ";
  }
  lines.push_back(
      fmt::format("{} of {} available memory", Bytes(p.total_bytes), Bytes(p.available_bytes)));
  if (p.disk_bytes > 0) {
    lines.back() += fmt::format(", {} on disk", Bytes(p.disk_bytes));
    if (p.spilled_summary_bytes > 0) {
      lines.back() += fmt::format(" with {} of summaries", Bytes(p.spilled_summary_bytes));
    }
    if (p.disk_available_bytes > 0) {
      lines.back() += fmt::format(" of {} available there", Bytes(p.disk_available_bytes));
    }
  }
  lines.back() += p.fits ? ": fits" : ": does not fit: " + p.why;
  return lines;
}

nlohmann::json PlanJson(const MemoryPlan& p) {
  return {{"context", p.context},
          {"program_bytes", p.program_bytes},
          {"weight_bytes", p.weight_bytes},
          {"kv_bytes_per_token", p.kv_bytes_per_token},
          {"kv_bytes", p.kv_bytes},
          {"dense_bytes", p.dense_bytes},
          {"window_bytes", p.window_bytes},
          {"summary_bytes", p.summary_bytes},
          {"spilled_summary_bytes", p.spilled_summary_bytes},
          {"device_bytes", p.device_bytes},
          {"table_bytes", p.table_bytes},
          {"host_bytes", p.host_bytes},
          {"disk_bytes", p.disk_bytes},
          {"staging_bytes", p.staging_bytes},
          {"scratch_bytes", p.scratch_bytes},
          {"total_bytes", p.total_bytes},
          {"available_bytes", p.available_bytes},
          {"disk_available_bytes", p.disk_available_bytes},
          {"fits", p.fits},
          {"why", p.why}};
}

}  // namespace hga::cli
