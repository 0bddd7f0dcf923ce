// SPDX-License-Identifier: Apache-2.0
// Keys are never kept as text beyond the start, never logged, never compared byte by byte.
#include "apps/server/auth.h"

#include <fmt/core.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>

namespace hga::server {
namespace {

std::array<unsigned char, 32> Sha256(std::string_view text) {
  std::array<unsigned char, 32> digest = {};
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

bool EqualFold(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, [&](char x, char y) { return lower(x) == lower(y); });
}

// What the request offers: Authorization: Bearer, else x-api-key.
std::string_view Offered(const HttpRequest& request) {
  constexpr std::string_view kBearer = "Bearer ";
  if (const std::string* value = request.Find("authorization")) {
    const std::string_view text = *value;
    if (EqualFold(text.substr(0, kBearer.size()), kBearer)) return text.substr(kBearer.size());
  }
  const std::string* key = request.Find("x-api-key");
  return key != nullptr ? std::string_view(*key) : std::string_view();
}

// "host:80" to "host", "[::1]:80" to "[::1]".
std::string_view WithoutPort(std::string_view host) {
  const size_t bracket = host.rfind(']');
  const size_t colon = host.rfind(':');
  if (colon == std::string_view::npos) return host;
  if (bracket != std::string_view::npos && colon < bracket) return host;
  return host.substr(0, colon);
}

}  // namespace

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(Sha256(key));
}

std::optional<std::string> ApiKeys::Check(const HttpRequest& request) const {
  if (!any()) return "";
  const Digest offered = Sha256(Offered(request));
  bool found = false;
  for (const Digest& digest : digests_) {
    const bool equal = CRYPTO_memcmp(digest.data(), offered.data(), digest.size()) == 0;
    found = found | equal;
  }
  if (!found) return std::nullopt;
  std::string owner = "key-";
  for (size_t i = 0; i < 8; ++i) owner += fmt::format("{:02x}", offered[i]);
  return owner;
}

std::vector<std::string> KeysOfFile(std::string_view text) {
  std::vector<std::string> keys;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t first = line.find_first_not_of(" \t\r");
    if (first == std::string_view::npos || line[first] == '#') continue;
    keys.emplace_back(line.substr(first, line.find_last_not_of(" \t\r") - first + 1));
  }
  return keys;
}

bool IsLoopback(std::string_view address) {
  return address == "::1" || address == "[::1]" || address == "localhost" ||
         (address.starts_with("127.") &&
          address.find_first_not_of("0123456789.") == std::string_view::npos);
}

bool IsAllowedHost(std::string_view host, const std::vector<std::string>& allowed) {
  const std::string_view name = WithoutPort(host);
  if (EqualFold(name, "localhost") || IsLoopback(name)) return true;
  return std::ranges::any_of(
      allowed, [&](const std::string& one) { return one == "*" || EqualFold(one, name); });
}

}  // namespace hga::server
