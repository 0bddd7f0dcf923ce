// SPDX-License-Identifier: Apache-2.0
// Named places at which a test may have the process killed, as if the power went: nothing is
// flushed, no destructor runs.
#ifndef HGA_BASE_KILL_POINT_H_
#define HGA_BASE_KILL_POINT_H_

namespace hga {

// SIGKILL at the n-th time this place is passed when HGA_KILL_POINT is "name:n" in the environment,
// which is read once; otherwise nothing. Any thread.
void KillPoint(const char* name);

}  // namespace hga

#endif  // HGA_BASE_KILL_POINT_H_
