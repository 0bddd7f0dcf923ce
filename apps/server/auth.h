// SPDX-License-Identifier: Apache-2.0
// Who may ask: API keys, the hosts this server answers as, origins of other pages.
#ifndef HGA_APPS_SERVER_AUTH_H_
#define HGA_APPS_SERVER_AUTH_H_

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/http.h"

namespace hga::server {

// Compared by their SHA-256, all of them, in the same time whatever was sent.
class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);
  bool any() const { return !digests_.empty(); }
  // The owner whose kept K/V the request may use: a name made of the key, "" when there are no keys
  // (then anything is accepted). Nothing for a missing or wrong key.
  std::optional<std::string> Check(const HttpRequest& request) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  std::vector<Digest> digests_;
};

// One key a line; blank lines and those with '#' in front are left out.
std::vector<std::string> KeysOfFile(std::string_view text);

// Whether `host` (a Host header) names this machine's loopback or one of `allowed` ("*": any).
bool IsAllowedHost(std::string_view host, const std::vector<std::string>& allowed);
bool IsLoopback(std::string_view address);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_AUTH_H_
