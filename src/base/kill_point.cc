// SPDX-License-Identifier: Apache-2.0
// Counts how often the chosen place was passed.
#include "base/kill_point.h"

#include <signal.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace hga {
namespace {

struct Chosen {
  std::string name;  // empty: none
  std::atomic<int64_t> left = 0;
};

// Made once, before the first place is passed.
Chosen& Choice() {
  static Chosen chosen;
  static const bool read = [] {
    const char* text = std::getenv("HGA_KILL_POINT");
    const std::string_view given = text == nullptr ? "" : text;
    const size_t colon = given.rfind(':');
    if (colon == given.npos) return false;
    chosen.name = given.substr(0, colon);
    chosen.left = std::atoll(given.substr(colon + 1).data());
    return true;
  }();
  static_cast<void>(read);
  return chosen;
}

}  // namespace

void KillPoint(const char* name) {
  Chosen& chosen = Choice();
  if (chosen.name.empty() || chosen.name != name) return;
  if (--chosen.left == 0) raise(SIGKILL);
}

}  // namespace hga
