// SPDX-License-Identifier: Apache-2.0
// Ctrl-C as a flag that loops ask for, with a way out for whoever presses it twice.
#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "common.h"

namespace hga::cli {
namespace {

std::atomic<int> interrupts{0};
static_assert(std::atomic<int>::is_always_lock_free);

void OnInterrupt(int) {
  if (interrupts.fetch_add(1) >= 1) _exit(kExitInterrupted);
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;  // no SA_RESTART: a blocked read must return
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;  // a closed pipe is an error of the write
  sigemptyset(&ignore.sa_mask);
  sigaction(SIGPIPE, &ignore, nullptr);
}

bool Interrupted() { return interrupts.load() > 0; }

void ClearInterrupt() { interrupts.store(0); }

}  // namespace hga::cli
