// SPDX-License-Identifier: Apache-2.0
// Status codes that clients of OpenAI retry (408, 409, 429, 5xx) are kept for what a retry can
// help.
#include "apps/server/api_error.h"

#include <fmt/core.h>

#include "apps/common/utf8.h"
#include "apps/server/limits.h"

namespace hga::server {
namespace {

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

Json OrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace

Json ErrorBody(const ApiError& error) {
  return {{"error",
           {{"message", error.message},
            {"type", TypeOf(error.status)},
            {"param", OrNull(error.param)},
            {"code", OrNull(error.code)}}}};
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{error.status, "application/json", Dump(ErrorBody(error))};
  if (error.retry_after > 0) {
    response.headers.push_back({"Retry-After", fmt::format("{}", error.retry_after)});
  }
  // openai-python would begin all over, twice.
  if (error.status == 504) response.headers.push_back({"X-Should-Retry", "false"});
  if (error.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

ApiError FromStatus(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kUnsupported:
      return {400, status.message()};
    case StatusCode::kNotFound:
      return {404, status.message()};
    case StatusCode::kResourceExhausted:
      return {429, status.message(), "", "queue_full", 1};
    case StatusCode::kDeadlineExceeded:
      return {504, status.message(), "", "timeout"};
    case StatusCode::kCancelled:
      return {503, "the server is ending", "", "shutting_down", 5};
    default:
      return {500, status.message(), "", "internal_error"};
  }
}

std::string Quoted(std::string_view text) {
  const auto most = static_cast<size_t>(kLimits.error_bytes);
  std::string safe = "'";
  const bool cut = text.size() > most;
  if (cut) text = text.substr(0, most);
  while (!text.empty()) {
    const size_t valid = std::min(apps::FirstInvalidUtf8(text), text.size());
    for (const char c : text.substr(0, valid)) {
      const auto byte = static_cast<unsigned char>(c);
      safe += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
    }
    text.remove_prefix(valid);
    if (text.empty()) break;
    safe += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    text.remove_prefix(1);
  }
  return safe + (cut ? "...'" : "'");
}

}  // namespace hga::server
