// SPDX-License-Identifier: Apache-2.0
// Errors as OpenAI's clients read them.
#ifndef HGA_APPS_SERVER_API_ERROR_H_
#define HGA_APPS_SERVER_API_ERROR_H_

#include <string>
#include <string_view>

#include "apps/server/http.h"
#include "apps/server/json.h"
#include "hga/status.h"

namespace hga::server {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param = "";  // "": null
  std::string code = "";   // "": null
  int retry_after = 0;     // seconds; 0: no such header
};

// `type` follows from the status.
Json ErrorBody(const ApiError& error);  // {"error": {...}}
HttpResponse ErrorResponse(const ApiError& error);
// What a failed call of the library means to a client: kInvalidArgument, kUnsupported and kNotFound
// are its own doing, the rest is not.
ApiError FromStatus(const Status& status);

// A client's text inside a message: control characters as \xNN, cut after some bytes, and valid
// UTF-8 whatever it was.
std::string Quoted(std::string_view text);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_API_ERROR_H_
