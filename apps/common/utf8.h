// SPDX-License-Identifier: Apache-2.0
// UTF-8 checks of what applications read, where the library's own are out of reach.
#ifndef HGA_APPS_COMMON_UTF8_H_
#define HGA_APPS_COMMON_UTF8_H_

#include <cstddef>
#include <string_view>

namespace hga::apps {

// Offset of the first byte that is no part of a well-formed character; npos when all is well.
size_t FirstInvalidUtf8(std::string_view text);

}  // namespace hga::apps

#endif  // HGA_APPS_COMMON_UTF8_H_
