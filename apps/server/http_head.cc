// SPDX-License-Identifier: Apache-2.0
// RFC 9112 without its leniencies: no folded lines, no bare LF, one Content-Length or chunked.
#include "apps/server/http_head.h"

#include <fmt/core.h>

#include <algorithm>

namespace hga::server {
namespace {

bool IsTokenByte(char c) {
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return letter || (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string::npos);
}

bool IsToken(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, IsTokenByte);
}

bool IsDigits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

HeadError Bad(std::string message) { return {400, std::move(message)}; }

// "http://host/path" is for proxies, but servers must take it.
HeadError SplitTarget(std::string_view target, HttpRequest* request, std::string* authority) {
  const auto visible = [](char c) { return c > 0x20 && c < 0x7f; };
  if (!std::ranges::all_of(target, visible)) {
    return Bad("the request target has bytes that do not belong in one");
  }
  if (Lower(target.substr(0, 7)) == "http://") {
    target.remove_prefix(7);
    const size_t slash = std::min(target.find_first_of("/?"), target.size());
    *authority = std::string(target.substr(0, slash));
    target.remove_prefix(slash);
    if (authority->empty()) return Bad("the request target names no host");
    if (target.empty()) target = "/";
  }
  const bool asterisk = target == "*" && request->method == "OPTIONS";
  if (target.front() != '/' && !asterisk) return Bad("the request target is no path");
  if (target.find('#') != std::string_view::npos) {
    return Bad("the request target has a fragment");
  }
  const size_t query = std::min(target.find('?'), target.size());
  request->path = std::string(target.substr(0, query));
  if (query < target.size()) request->query = std::string(target.substr(query + 1));
  return {};
}

HeadError ParseRequestLine(std::string_view line, RequestHead* out, std::string* authority) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return Bad("the request line is not METHOD TARGET VERSION");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!IsToken(method)) return Bad("the method is no token");
  if (target.empty()) return Bad("the request target is empty");
  if (version != "HTTP/1.1" && version != "HTTP/1.0")
    return Bad("only HTTP/1.1 and 1.0 are spoken");
  out->http_1_0 = version == "HTTP/1.0";
  out->request.method = std::string(method);
  return SplitTarget(target, &out->request, authority);
}

HeadError ParseField(std::string_view line, HttpRequest* request) {
  if (line.front() == ' ' || line.front() == '\t') return Bad("a header line is folded");
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return Bad("a header line has no colon");
  const std::string_view name = line.substr(0, colon);
  if (!IsToken(name)) return Bad("the name of a header is no token");
  const std::string_view value = Trim(line.substr(colon + 1));
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) {
      return Bad("the value of a header has a control character");
    }
  }
  request->headers.push_back({Lower(name), std::string(value)});
  return {};
}

// The one value of a header; `twice` when there are more.
const std::string* Only(const HttpRequest& request, std::string_view name, bool* twice) {
  const std::string* found = nullptr;
  for (const Header& header : request.headers) {
    if (header.name != name) continue;
    *twice = *twice || found != nullptr;
    found = &header.value;
  }
  return found;
}

HeadError ReadBodyHead(RequestHead* out) {
  bool twice = false;
  const std::string* length = Only(out->request, "content-length", &twice);
  const std::string* coding = Only(out->request, "transfer-encoding", &twice);
  if (twice) return Bad("Content-Length or Transfer-Encoding is there twice");
  if (length != nullptr && coding != nullptr) {
    return Bad("Content-Length and Transfer-Encoding contradict each other");
  }
  if (coding != nullptr) {
    if (out->http_1_0) return Bad("HTTP/1.0 has no Transfer-Encoding");
    if (Lower(*coding) != "chunked") return Bad("Transfer-Encoding must be chunked");
    out->body.chunked = true;
  }
  if (length != nullptr) {
    constexpr size_t kMostDigits = 18;  // fit 63 bits
    if (!IsDigits(*length)) return Bad("Content-Length is no number");
    if (length->size() > kMostDigits) return {413, "Content-Length is too large"};
    for (const char c : *length) out->body.length = out->body.length * 10 + (c - '0');
  }
  return {};
}

bool IsHost(std::string_view host) {
  const auto fits = [](char c) {
    return IsTokenByte(c) || std::string_view(":[]()=;,").find(c) != std::string_view::npos;
  };
  return !host.empty() && std::ranges::all_of(host, fits) &&
         host.find('@') == std::string_view::npos;
}

HeadError ReadConnection(const std::string& authority, RequestHead* out) {
  bool twice = false;
  const std::string* host = Only(out->request, "host", &twice);
  if (twice) return Bad("Host is there twice");
  if (host == nullptr && !out->http_1_0) return Bad("there is no Host");
  if (host != nullptr && !IsHost(*host)) return Bad("Host is no host");
  if (!authority.empty()) {
    if (!IsHost(authority)) return Bad("the request target names no host");
    std::erase_if(out->request.headers, [](const Header& h) { return h.name == "host"; });
    out->request.headers.push_back({"host", authority});
  }
  out->keep_alive = !out->http_1_0;
  for (const Header& header : out->request.headers) {
    if (header.name == "connection" && Lower(header.value).find("close") != std::string::npos) {
      out->keep_alive = false;
    }
    if (header.name != "expect") continue;
    if (Lower(header.value) != "100-continue") return {417, "only 100-continue can be expected"};
    out->expect_continue = !out->http_1_0;
  }
  return {};
}

}  // namespace

const std::string* HttpRequest::Find(std::string_view name) const {
  for (const Header& header : headers) {
    if (header.name == name) return &header.value;
  }
  return nullptr;
}

size_t FindHead(std::string_view bytes, const Limits& limits, HeadError* error) {
  // An empty line in front, left by careless clients behind a body.
  const size_t skip = bytes.starts_with("\r\n") ? 2 : 0;
  size_t line = skip;
  int64_t lines = 0;
  const auto most = static_cast<size_t>(limits.head_bytes);
  const auto most_line = static_cast<size_t>(limits.request_line_bytes);
  for (size_t at = skip; at < std::min(bytes.size(), most); ++at) {
    if (lines == 0 && at - skip >= most_line) {
      *error = {414, fmt::format("the request line has more than {} bytes", most_line)};
      return 0;
    }
    if (bytes[at] == '\0') {
      *error = Bad("there is a NUL in the head");
      return 0;
    }
    if (bytes[at] == '\r' && at + 1 < bytes.size() && bytes[at + 1] != '\n') {
      *error = Bad("there is a CR without LF");
      return 0;
    }
    if (bytes[at] != '\n') continue;
    if (at == 0 || bytes[at - 1] != '\r') {
      *error = Bad("there is a LF without CR");
      return 0;
    }
    if (at == line + 1) return at + 1;
    line = at + 1;
    if (++lines > limits.headers + 1) {
      *error = {431, fmt::format("there are more than {} headers", limits.headers)};
      return 0;
    }
  }
  if (bytes.size() >= most) *error = {431, fmt::format("the head has more than {} bytes", most)};
  return 0;
}

HeadError ParseHead(std::string_view head, const Limits& limits, RequestHead* out) {
  if (head.starts_with("\r\n")) head.remove_prefix(2);
  std::string authority;
  bool first = true;
  while (head.size() > 2) {
    const size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    if (line.empty()) return Bad("the request line is empty");
    HeadError error =
        first ? ParseRequestLine(line, out, &authority) : ParseField(line, &out->request);
    if (error.status != 0) return error;
    first = false;
    head.remove_prefix(end + 2);
  }
  if (first) return Bad("the request line is empty");
  if (HeadError error = ReadBodyHead(out); error.status != 0) return error;
  return ReadConnection(authority, out);
}

bool PercentDecode(std::string_view text, std::string* out) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  out->clear();
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      *out += text[at];
      continue;
    }
    if (at + 2 >= text.size()) return false;
    const int high = digit(text[at + 1]);
    const int low = digit(text[at + 2]);
    if (high < 0 || low < 0) return false;
    *out += static_cast<char>(high * 16 + low);
    at += 2;
  }
  return true;
}

}  // namespace hga::server
