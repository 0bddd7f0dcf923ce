// SPDX-License-Identifier: Apache-2.0
// Any bytes as the head of a request: what is taken has one meaning only.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "apps/server/http_head.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hga::server;  // NOLINT
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  HeadError error;
  const size_t length = FindHead(bytes, kLimits, &error);
  if (length > size || (length > 0 && error.status != 0)) std::abort();
  if (error.status != 0 && (error.status < 400 || error.status > 499)) std::abort();
  if (length == 0) return 0;
  RequestHead head;
  error = ParseHead(bytes.substr(0, length), kLimits, &head);
  if (error.status != 0) {
    if (error.status < 400 || error.status > 499) std::abort();
    return 0;
  }
  int lengths = 0, codings = 0;
  for (const Header& header : head.request.headers) {
    lengths += header.name == "content-length";
    codings += header.name == "transfer-encoding";
    for (const char c : header.name + header.value) {
      if (c == '\r' || c == '\n' || c == '\0') std::abort();
    }
  }
  if (lengths + codings > 1 || head.body.length < 0) std::abort();
  if (head.body.chunked != (codings == 1)) std::abort();
  if (head.request.method.empty() || head.request.path.empty()) std::abort();
  return 0;
}
