// SPDX-License-Identifier: Apache-2.0
// HGA_CHECK: a broken precondition of our own code, never of data.
#ifndef HGA_BASE_CHECK_H_
#define HGA_BASE_CHECK_H_

#include <cstdlib>

namespace hga {

// Called with the place and the text of a failed check; must not return. Replaceable so that an
// embedding program can log before it dies.
using CheckHandler = void (*)(const char* file, int line, const char* text);
void SetCheckHandler(CheckHandler handler);
[[noreturn]] void CheckFailed(const char* file, int line, const char* text);

}  // namespace hga

#define HGA_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::hga::CheckFailed(__FILE__, __LINE__, #condition))
#ifdef NDEBUG
#define HGA_DCHECK(condition) static_cast<void>(0)
#else
#define HGA_DCHECK(condition) HGA_CHECK(condition)
#endif

#endif  // HGA_BASE_CHECK_H_
