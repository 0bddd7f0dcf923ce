// SPDX-License-Identifier: Apache-2.0
// Rows of tiers as a table and as JSON.
#include "bench_tier_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "common.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Rate(int64_t amount, double seconds) {
  return seconds > 0 ? static_cast<double>(amount) / seconds : 0;
}

Json LimitsJson(const DiskLimits& limits) {
  return {{"io", limits.io},
          {"file_system", limits.file_system},
          {"direct", limits.direct},
          {"depth", limits.depth},
          {"random_reads_per_second", limits.random_reads_per_second},
          {"random_read_us", limits.random_read_us},
          {"read_gb_s", limits.read_bytes_per_second / 1e9},
          {"write_gb_s", limits.write_bytes_per_second / 1e9}};
}

// What only rows of the disk have.
void AddDiskFields(const TierReport& report, const TierResult& result, Json* json) {
  const KvWork& work = result.work;
  const TierResult* memory = MemoryOf(report.results, result);
  Json& row = *json;
  row["ratio_to_memory"] =
      memory == nullptr ? Json() : Json(result.bench.MedianSpeed() / memory->bench.MedianSpeed());
  row["slots_share"] = result.slots_share;
  row["hit_rate"] = work.hit_rate();
  row["prefetch_rate"] = work.prefetch_rate();
  row["reads_per_token"] = work.reads_per_token();
  row["read_bytes_per_token"] = work.read_bytes_per_token();
  row["stall_share"] = work.stall_share();
  row["evictions"] = work.stats.evictions;
  row["damaged"] = work.stats.damaged;
  row["reads_per_second"] = Rate(work.stats.reads, work.seconds);
  row["read_gb_s"] = Rate(work.stats.read_bytes, work.seconds) / 1e9;
  row["read_p50_us"] = work.ReadLatency(0.5);
  row["read_p99_us"] = work.ReadLatency(0.99);
  if (memory == nullptr || !report.limits) return;
  const double limit = TierLimit(result, *memory, *report.limits);
  row["limit_ts"] = limit;
  row["share_of_limit"] = result.bench.MedianSpeed() / limit;
}

Json ResultJson(const TierReport& report, const TierResult& result) {
  const BenchResult& bench = result.bench;
  Json row = {{"test", bench.test.name()},
              {"n_gen", bench.test.generate},
              {"n_depth", bench.test.depth},
              {"attention", bench.attention},
              {"tier", result.on_disk ? "disk" : "memory"},
              {"avg_ts", bench.MeanSpeed()},
              {"stddev_ts", bench.SpeedDeviation()},
              {"median_ts", bench.MedianSpeed()},
              {"samples_s", bench.seconds},
              {"open_s", Mean(result.open_seconds)}};
  if (result.on_disk) AddDiskFields(report, result, &row);
  return row;
}

std::string Percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

// A figure beside what the disk can do at most.
std::string WithLimit(const std::string& figure, double value, double limit) {
  return limit > 0 ? fmt::format("{} ({:.0f} %)", figure, 100 * value / limit) : figure;
}

std::vector<std::string> DiskCells(const TierReport& report, const TierResult& result) {
  const KvWork& work = result.work;
  const TierResult* memory = MemoryOf(report.results, result);
  const DiskLimits limits = report.limits.value_or(DiskLimits());
  const double speed = result.bench.MedianSpeed();
  const double reads = Rate(work.stats.reads, work.seconds);
  const double bytes = Rate(work.stats.read_bytes, work.seconds);
  return {memory == nullptr ? "" : fmt::format("{:.2f}", speed / memory->bench.MedianSpeed()),
          Percent(result.slots_share),
          Percent(work.hit_rate()),
          Percent(work.prefetch_rate()),
          fmt::format("{:.1f}", work.reads_per_token()),
          FormatBytes(work.read_bytes_per_token()),
          Percent(work.stall_share()),
          WithLimit(fmt::format("{:.0f}", reads), reads, limits.random_reads_per_second),
          WithLimit(fmt::format("{:.3f}", bytes / 1e9), bytes, limits.read_bytes_per_second),
          fmt::format("{:.0f}/{:.0f}", work.ReadLatency(0.5), work.ReadLatency(0.99)),
          memory == nullptr || !report.limits
              ? ""
              : fmt::format("{:.2f}", speed / TierLimit(result, *memory, limits))};
}

Table ResultTable(const TierReport& report) {
  Table table;
  table.AddColumn("depth");
  table.AddColumn("test", Table::Align::kLeft);
  table.AddColumn("attention", Table::Align::kLeft);
  table.AddColumn("K/V", Table::Align::kLeft);
  for (const char* title : {"t/s", "+-", "open s", "x memory", "slots", "hits", "ahead", "reads/t",
                            "bytes/t", "stall", "IOPS", "GB/s", "p50/p99 us", "x limit"}) {
    table.AddColumn(title);
  }
  for (const TierResult& result : report.results) {
    const BenchResult& bench = result.bench;
    std::vector<std::string> row = {fmt::format("{}", bench.test.depth),
                                    bench.test.name(),
                                    bench.attention,
                                    result.on_disk ? "disk" : "memory",
                                    fmt::format("{:.1f}", bench.MedianSpeed()),
                                    fmt::format("{:.1f}", bench.SpeedDeviation()),
                                    fmt::format("{:.2f}", Mean(result.open_seconds))};
    if (result.on_disk) {
      for (std::string& cell : DiskCells(report, result)) row.push_back(std::move(cell));
    }
    table.AddRow(std::move(row));
  }
  return table;
}

std::string LimitsLine(const DiskLimits& limits) {
  return fmt::format(
      "disk: {} through {}, page cache {}; random reads of 4 KiB, {} at a time: {:.0f} a second; "
      "one at a time {:.0f} us; 1 MiB in a row: {:.2f} GB/s read, {:.2f} GB/s written\n",
      limits.file_system, limits.io, limits.direct ? "bypassed" : "NOT bypassed", limits.depth,
      limits.random_reads_per_second, limits.random_read_us, limits.read_bytes_per_second / 1e9,
      limits.write_bytes_per_second / 1e9);
}

}  // namespace

std::string RenderTiers(const TierReport& report, const std::string& format) {
  if (format == "csv") return ResultTable(report).Csv();
  constexpr auto kReplace = Json::error_handler_t::replace;
  Json head = report.head;
  head["disk"] = report.limits ? LimitsJson(*report.limits) : Json();
  Json rows = Json::array();
  for (const TierResult& result : report.results) rows.push_back(ResultJson(report, result));
  if (format == "json") {
    head["rows"] = std::move(rows);
    return head.dump(1, ' ', false, kReplace) + "\n";
  }
  if (format == "jsonl") {
    std::string text;
    for (const Json& row : rows) {
      Json line = head;
      line.update(row);
      text += line.dump(-1, ' ', false, kReplace) + "\n";
    }
    return text;
  }
  return fmt::format("{}, {}, {} threads, {}; up to {} of K/V in memory\n{}\n{}",
                     head["model"].get<std::string>(), head["weights"].get<std::string>(),
                     head["threads"].get<int>(), head["isa"].get<std::string>(),
                     FormatBytes(static_cast<double>(head["kv_host_bytes"].get<int64_t>())),
                     report.limits ? LimitsLine(*report.limits) : "",
                     ResultTable(report).Markdown());
}

}  // namespace hga::cli
