// SPDX-License-Identifier: Apache-2.0
// Figures for Prometheus, named as vLLM names its own.
#ifndef HGA_APPS_SERVER_METRICS_H_
#define HGA_APPS_SERVER_METRICS_H_

#include <memory>
#include <string>

#include "hga/scheduler.h"

namespace hga::server {

// Of one choice that ended.
struct ChoiceFigures {
  std::string finish_reason;  // "stop", "length", "tool_calls", "abort", "error"
  GenerationEnd end;
  double first_token_seconds = 0;  // since the request came; 0: there was none
  double seconds = 0;              // since the request came
};

// Thread-safe.
class Metrics {
 public:
  static std::unique_ptr<Metrics> Make(const std::string& model_name);
  virtual ~Metrics() = default;
  virtual void CountChoice(const ChoiceFigures& figures) = 0;
  virtual void CountTokenGap(double seconds) = 0;  // between two tokens of an answer
  virtual void CountResponse(int status) = 0;
  // Text format 0.0.4. `stats` may be null (nothing loaded yet); `capacity`: tokens of all slots.
  virtual std::string Text(const SchedulerStats* stats, int64_t capacity) = 0;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_METRICS_H_
