// SPDX-License-Identifier: Apache-2.0
// The replaceable end of a failed check.
#include "base/check.h"

#include <atomic>

namespace hga {
namespace {
std::atomic<CheckHandler> g_handler{nullptr};  // the one process-wide setting: how to die
}

void SetCheckHandler(CheckHandler handler) { g_handler = handler; }

void CheckFailed(const char* file, int line, const char* text) {
  if (CheckHandler handler = g_handler.load()) handler(file, line, text);
  std::abort();
}

}  // namespace hga
