// SPDX-License-Identifier: Apache-2.0
// Header values are the server's own; nothing a client sent is written into them unchecked.
#include "apps/server/http_response.h"

#include <fmt/core.h>

#include <ctime>

namespace hga::server {
namespace {

const char* Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return status < 500 ? "Bad Request" : "Internal Server Error";
  }
}

std::string Date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday,
                     kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace

std::string ResponseText(const HttpResponse& response, const HttpRequest& request,
                         const Framing& framing) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\n", response.status,
                                Reason(response.status), Date());
  const bool bodiless = response.status == 204;
  if (!bodiless) out += fmt::format("Content-Type: {}\r\n", response.type);
  if (framing.chunked) out += "Transfer-Encoding: chunked\r\n";
  if (!framing.stream && !bodiless) {
    out += fmt::format("Content-Length: {}\r\n", response.body.size());
  }
  const bool keep = framing.keep_alive && (!framing.stream || framing.chunked);
  out += keep ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
  out += "X-Content-Type-Options: nosniff\r\n";
  for (const Header& header : response.headers) out += header.name + ": " + header.value + "\r\n";
  for (const Header& header : request.reply_headers) {
    out += header.name + ": " + header.value + "\r\n";
  }
  out += "\r\n";
  if (!framing.stream && !bodiless && request.method != "HEAD") out += response.body;
  return out;
}

void AppendPiece(std::string_view bytes, bool chunked, std::string* out) {
  if (bytes.empty()) return;
  if (!chunked) {
    *out += bytes;
    return;
  }
  *out += fmt::format("{:x}\r\n", bytes.size());
  *out += bytes;
  *out += "\r\n";
}

}  // namespace hga::server
