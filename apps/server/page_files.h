// SPDX-License-Identifier: Apache-2.0
// Contents of apps/server/page, compiled in by apps/server/embed_page.cmake.
#ifndef HGA_APPS_SERVER_PAGE_FILES_H_
#define HGA_APPS_SERVER_PAGE_FILES_H_

#include <string_view>

namespace hga::server {

std::string_view PageDocument();
std::string_view PageStyle();
std::string_view PageScript();

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_PAGE_FILES_H_
