// SPDX-License-Identifier: Apache-2.0
// How progress is worded and when it is drawn.
#include "progress.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace hga::cli {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 0.2;  // lines closer than this would say nothing new
constexpr int kBarCells = 24;

std::string Amount(Progress::Unit unit, double value) {
  if (unit == Progress::Unit::kBytes) return FormatBytes(value);
  return FormatCount(static_cast<int64_t>(value));
}

std::string Rate(Progress::Unit unit, double per_second) {
  switch (unit) {
    case Progress::Unit::kBytes:
      return fmt::format("{:.2f} GB/s", per_second * 1e-9);
    case Progress::Unit::kTokens:
      return fmt::format("{:.1f} t/s", per_second);
    case Progress::Unit::kItems:
      return fmt::format("{:.2f}/s", per_second);
  }
  return "";
}

}  // namespace

Progress::Progress(const GlobalOptions& global, std::string label, Unit unit)
    : label_(std::move(label)),
      unit_(unit),
      quiet_(global.quiet),
      terminal_(StderrIsTerminal()),
      start_(Now()) {}

Progress::~Progress() { Finish(); }

std::string Progress::Describe(int64_t done, int64_t total, double elapsed) const {
  const double rate = elapsed > 0 ? static_cast<double>(done) / elapsed : 0;
  std::string text = fmt::format("{} of {}", Amount(unit_, static_cast<double>(done)),
                                 Amount(unit_, static_cast<double>(total)));
  if (unit_ == Unit::kTokens) text += " tokens";
  text += ", " + Rate(unit_, rate);
  if (done < total && rate > 0) {
    text += ", ETA " + FormatSeconds(static_cast<double>(total - done) / rate);
  }
  return text;
}

void Progress::Update(int64_t done, int64_t total) {
  if (quiet_ || total <= 0) return;
  done = std::clamp<int64_t>(done, 0, total);
  const double now = Now();
  const double share = static_cast<double>(done) / static_cast<double>(total);
  if (terminal_) {
    if (now - last_ < kRedrawSeconds && done < total) return;
    last_ = now;
    const int full = static_cast<int>(share * kBarCells);
    DrawBar(fmt::format("{} [{:<{}}] {:3.0f} %  {}", label_, std::string(full, '#'), kBarCells,
                        share * 100, Describe(done, total, now - start_)));
    shown_ = true;
    return;
  }
  const auto tenth = static_cast<int64_t>(share * 10);
  if (tenth < next_tenth_ || now - std::max(last_, start_) < kLineSeconds) return;
  next_tenth_ = tenth + 1;
  last_ = now;
  Info(fmt::format("{}: {} %, {}", label_, tenth * 10, Describe(done, total, now - start_)));
}

void Progress::Finish() {
  if (shown_) ClearBar();
  shown_ = false;
}

}  // namespace hga::cli
