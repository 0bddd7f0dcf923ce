// SPDX-License-Identifier: Apache-2.0
// The bytes of an answer.
#ifndef HGA_APPS_SERVER_HTTP_RESPONSE_H_
#define HGA_APPS_SERVER_HTTP_RESPONSE_H_

#include <string>
#include <string_view>

#include "apps/server/http.h"

namespace hga::server {

struct Framing {
  bool keep_alive = true;
  bool stream = false;   // the body comes later
  bool chunked = false;  // and in chunks; else it ends with the connection
};

// Status line, headers and, unless it is a stream or an answer to HEAD, the body.
std::string ResponseText(const HttpResponse& response, const HttpRequest& request,
                         const Framing& framing);
// A piece of a stream. Nothing for no bytes.
void AppendPiece(std::string_view bytes, bool chunked, std::string* out);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_HTTP_RESPONSE_H_
