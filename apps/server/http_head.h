// SPDX-License-Identifier: Apache-2.0
// The head of an HTTP/1 request, read strictly: what two servers could read in two ways is refused.
#ifndef HGA_APPS_SERVER_HTTP_HEAD_H_
#define HGA_APPS_SERVER_HTTP_HEAD_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "apps/server/http.h"
#include "apps/server/limits.h"

namespace hga::server {

struct HeadError {
  int status = 0;  // 0: none
  std::string message;
};

struct RequestHead {
  HttpRequest request;  // without a body
  BodyHead body;
  bool http_1_0 = false;
  bool keep_alive = true;
  bool expect_continue = false;
};

// How many bytes the first head in `bytes` has, its empty line included; 0 while it is not whole.
// Looks for what is wrong already: a bare LF, a NUL, more than the limits.
size_t FindHead(std::string_view bytes, const Limits& limits, HeadError* error);

// `head` as FindHead measured it.
HeadError ParseHead(std::string_view head, const Limits& limits, RequestHead* out);

// "%41" to "A"; false for what is no such code.
bool PercentDecode(std::string_view text, std::string* out);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_HTTP_HEAD_H_
