// SPDX-License-Identifier: Apache-2.0
// SHA-256 by libcrypto.
#include "store/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include "base/check.h"

namespace hga {

Digest Sha256(std::span<const std::byte> bytes) {
  Digest digest;
  unsigned length = 0;
  // Fails only when the library has no SHA-256 or no memory for its context.
  HGA_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) ==
            1);
  HGA_CHECK(length == digest.size());
  return digest;
}

Digest Sha256(std::string_view text) { return Sha256(std::as_bytes(std::span(text))); }

std::string Hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

StoreId RandomStoreId() {
  StoreId id;
  // Up to 256 bytes come at once, and the call is not interrupted.
  HGA_CHECK(getrandom(id.data(), id.size(), 0) == static_cast<ssize_t>(id.size()));
  return id;
}

}  // namespace hga
