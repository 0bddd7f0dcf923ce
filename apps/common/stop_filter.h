// SPDX-License-Identifier: Apache-2.0
// Stop strings over text that comes in pieces; what verbs and the server share.
#ifndef HGA_APPS_COMMON_STOP_FILTER_H_
#define HGA_APPS_COMMON_STOP_FILTER_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hga::apps {

// Holds back text that could be the beginning of a stop string.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // What may be shown after `text`; nothing more once stopped().
  std::string Push(std::string_view text);
  std::string Finish();  // what was held back
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace hga::apps

#endif  // HGA_APPS_COMMON_STOP_FILTER_H_
