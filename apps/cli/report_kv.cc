// SPDX-License-Identifier: Apache-2.0
// Differences, rates and their wording.
#include "report_kv.h"

#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "common.h"

namespace hga::cli {
namespace {

using nlohmann::json;

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }
double Ratio(int64_t a, double b) { return Ratio(static_cast<double>(a), b); }

// What is counted from the opening of an engine on.
constexpr int64_t KvStats::*kCounts[] = {
    &KvStats::cells_wanted,  &KvStats::cells_in_memory, &KvStats::cells_on_their_way,
    &KvStats::reads,         &KvStats::writes,          &KvStats::read_bytes,
    &KvStats::written_bytes, &KvStats::damaged,         &KvStats::failed_reads,
    &KvStats::failed_writes, &KvStats::evictions,       &KvStats::recomputed_tokens,
    &KvStats::summary_pages};

std::string Bytes(double value) { return FormatBytes(value); }
std::string Bytes(int64_t value) { return FormatBytes(static_cast<double>(value)); }

}  // namespace

double KvWork::hit_rate() const {
  if (stats.cells_wanted == 0) return 1;
  return Ratio(stats.cells_in_memory, static_cast<double>(stats.cells_wanted));
}

double KvWork::prefetch_rate() const {
  return Ratio(stats.cells_on_their_way, static_cast<double>(stats.cells_wanted));
}

double KvWork::reads_per_token() const { return Ratio(stats.reads, static_cast<double>(tokens)); }

double KvWork::read_bytes_per_token() const {
  return Ratio(stats.read_bytes, static_cast<double>(tokens));
}

double KvWork::stall_share() const { return Ratio(stats.stall_seconds, seconds); }

double KvWork::ReadLatency(double quantile) const {
  int64_t all = 0, seen = 0;
  for (const int64_t count : stats.read_latency) all += count;
  if (all == 0) return 0;
  size_t bucket = 0;
  for (; bucket + 1 < stats.read_latency.size(); ++bucket) {
    seen += stats.read_latency[bucket];
    if (static_cast<double>(seen) >= quantile * static_cast<double>(all)) break;
  }
  return std::ldexp(1.0, static_cast<int>(bucket) + 1);
}

KvWork WorkSince(const KvStats& before, const KvStats& now, int64_t tokens, double seconds) {
  KvWork work{now, tokens, seconds};
  KvStats& d = work.stats;
  for (const auto count : kCounts) d.*count -= before.*count;
  d.stall_seconds -= before.stall_seconds;
  for (size_t i = 0; i < d.read_latency.size(); ++i) d.read_latency[i] -= before.read_latency[i];
  return work;
}

void AddWork(const KvWork& more, KvWork* sum) {
  for (const auto count : kCounts) sum->stats.*count += more.stats.*count;
  sum->stats.stall_seconds += more.stats.stall_seconds;
  for (size_t i = 0; i < more.stats.read_latency.size(); ++i) {
    sum->stats.read_latency[i] += more.stats.read_latency[i];
  }
  sum->tokens += more.tokens;
  sum->seconds += more.seconds;
}

json WorkJson(const KvWork& work) {
  if (work.tokens == 0) return nullptr;
  return {{"hit_rate", work.hit_rate()},
          {"prefetch_rate", work.prefetch_rate()},
          {"reads_per_token", work.reads_per_token()},
          {"read_bytes_per_token", work.read_bytes_per_token()},
          {"stall_share", work.stall_share()},
          {"evictions", work.stats.evictions},
          {"read_p50_us", work.ReadLatency(0.5)},
          {"read_p99_us", work.ReadLatency(0.99)}};
}

json KvJson(const KvStats& s) {
  return {{"io", s.io},
          {"io_note", s.io_note},
          {"slots", s.slots},
          {"slots_touched", s.slots_touched},
          {"cells_wanted", s.cells_wanted},
          {"cells_in_memory", s.cells_in_memory},
          {"cells_on_their_way", s.cells_on_their_way},
          {"reads", s.reads},
          {"writes", s.writes},
          {"read_bytes", s.read_bytes},
          {"written_bytes", s.written_bytes},
          {"summary_pages", s.summary_pages},
          {"damaged", s.damaged},
          {"failed_reads", s.failed_reads},
          {"failed_writes", s.failed_writes},
          {"recomputed_tokens", s.recomputed_tokens},
          {"stall_seconds", s.stall_seconds},
          {"evictions", s.evictions},
          {"disk_bytes", s.disk_bytes},
          {"read_p50_us", s.read_p50_us},
          {"read_p99_us", s.read_p99_us},
          {"error", s.error}};
}

json SessionJson(const SessionReport& s) {
  return {{"name", s.name},
          {"stored_tokens", s.stored_tokens},
          {"reused_tokens", s.reused_tokens},
          {"dropped_tokens", s.dropped_tokens},
          {"recomputed_tokens", s.recomputed_tokens},
          {"open_seconds", s.open_seconds},
          {"checkpoints", s.checkpoints},
          {"failed_checkpoints", s.failed_checkpoints},
          {"checkpoint_seconds", s.checkpoint_seconds},
          {"error", s.error}};
}

std::string WorkLine(const std::string& name, const KvWork& work) {
  return fmt::format(
      "{}: {:.1f} % of wanted cells in memory and {:.1f} % on their way, per token {:.1f} reads "
      "and {} from disk, waiting "
      "{:.1f} % of the time, {} evictions",
      name, 100 * work.hit_rate(), 100 * work.prefetch_rate(), work.reads_per_token(),
      Bytes(work.read_bytes_per_token()), 100 * work.stall_share(),
      FormatCount(work.stats.evictions));
}

std::string KvLine(const KvStats& s) {
  std::string line = fmt::format("K/V records: {}, {} written, {} read", s.io,
                                 Bytes(s.written_bytes), Bytes(s.read_bytes));
  if (s.disk_bytes > 0) line += fmt::format(", {} on disk", Bytes(s.disk_bytes));
  if (s.damaged > 0) line += fmt::format(", {} cells damaged", FormatCount(s.damaged));
  if (s.failed_reads + s.failed_writes > 0) {
    line += fmt::format(", {} reads and {} writes failed", FormatCount(s.failed_reads),
                        FormatCount(s.failed_writes));
  }
  if (s.recomputed_tokens > 0) {
    line += fmt::format(", {} tokens computed again", FormatCount(s.recomputed_tokens));
  }
  return line;
}

std::string SessionLine(const SessionReport& s) {
  std::string line = fmt::format(
      "session {}: {} tokens stored, {} reused; opened in {}, {} checkpoints in {}",
      OneLine(s.name), FormatCount(s.stored_tokens), FormatCount(s.reused_tokens),
      FormatSeconds(s.open_seconds), s.checkpoints, FormatSeconds(s.checkpoint_seconds));
  if (s.failed_checkpoints > 0) line += fmt::format(", {} failed", s.failed_checkpoints);
  return line;
}

}  // namespace hga::cli
