// SPDX-License-Identifier: Apache-2.0
// What the machine offers, for the stand-in of TBB in the thread-sanitizer build.
#ifndef HGA_TESTS_TSAN_TBB_INFO_H_
#define HGA_TESTS_TSAN_TBB_INFO_H_

#include "tbb/task_arena.h"

#endif  // HGA_TESTS_TSAN_TBB_INFO_H_
