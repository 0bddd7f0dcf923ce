// SPDX-License-Identifier: Apache-2.0
// The earliest stop string wins; what could still become one waits.
#include "apps/common/stop_filter.h"

#include <algorithm>
#include <cstddef>

namespace hga::apps {
namespace {

// Bytes at the end of `text` that begin `stop`.
size_t Overlap(std::string_view text, std::string_view stop) {
  size_t length = std::min(text.size(), stop.size() - 1);
  while (length > 0 && text.substr(text.size() - length) != stop.substr(0, length)) --length;
  return length;
}

}  // namespace

std::string StopFilter::Push(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, "").substr(0, end);
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, Overlap(held_, stop));
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return shown;
}

std::string StopFilter::Finish() { return stopped_ ? "" : std::exchange(held_, ""); }

}  // namespace hga::apps
