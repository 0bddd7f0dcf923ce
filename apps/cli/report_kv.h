// SPDX-License-Identifier: Apache-2.0
// What the disk tier did during a stretch of work, in words and as JSON.
#ifndef HGA_APPS_CLI_REPORT_KV_H_
#define HGA_APPS_CLI_REPORT_KV_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "hga/engine.h"
#include "session_keeper.h"

namespace hga::cli {

// A stretch of `tokens` tokens and `seconds`, of which the counts are `stats`.
struct KvWork {
  KvStats stats;
  int64_t tokens = 0;
  double seconds = 0;

  double hit_rate() const;       // of the cells wanted, in memory already; 1 when none was
  double prefetch_rate() const;  // of them, on their way already
  double reads_per_token() const;
  double read_bytes_per_token() const;
  double stall_share() const;  // of the time
  // Upper end of the bucket that holds the quantile, microseconds; 0 without reads.
  double ReadLatency(double quantile) const;
};

// Counts of `now` without those of `before`, both of one engine.
KvWork WorkSince(const KvStats& before, const KvStats& now, int64_t tokens, double seconds);

// Counts, tokens and seconds of `more` on top.
void AddWork(const KvWork& more, KvWork* sum);

nlohmann::json WorkJson(const KvWork& work);
nlohmann::json KvJson(const KvStats& stats);  // since the engine was opened
nlohmann::json SessionJson(const SessionReport& session);

std::string WorkLine(const std::string& name, const KvWork& work);
std::string KvLine(const KvStats& stats);
std::string SessionLine(const SessionReport& session);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_REPORT_KV_H_
