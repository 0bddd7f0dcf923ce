// SPDX-License-Identifier: Apache-2.0
// Progress on stderr: a bar with rate and time left on a terminal, else one line per 10 % (fewer
// when that would be more than five a second).
#ifndef HGA_APPS_CLI_PROGRESS_H_
#define HGA_APPS_CLI_PROGRESS_H_

#include <cstdint>
#include <string>

#include "common.h"

namespace hga::cli {

// Silent with --quiet. Not thread-safe.
class Progress {
 public:
  enum class Unit { kBytes, kTokens, kItems };

  Progress(const GlobalOptions& global, std::string label, Unit unit);
  ~Progress();  // clears an unfinished bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Update(int64_t done, int64_t total);
  void Finish();  // clears the bar; lines stay

 private:
  std::string Describe(int64_t done, int64_t total, double elapsed) const;

  std::string label_;
  Unit unit_;
  bool quiet_;
  bool terminal_;
  bool shown_ = false;
  double start_;
  double last_ = 0;  // when a bar or line was last shown
  int64_t next_tenth_ = 1;
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_PROGRESS_H_
