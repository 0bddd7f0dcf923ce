// SPDX-License-Identifier: Apache-2.0
// Chains of SHA-256 over tokens.
#include "store/prefix.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "spec/layout.h"
#include "store/bytes.h"

namespace hga {

std::vector<Digest> PrefixChain(const Digest& identity, std::span<const int32_t> tokens) {
  const std::span<const std::byte> ids = std::as_bytes(tokens);
  constexpr size_t kIdBytes = spec::kChunk * sizeof(int32_t);
  std::vector<Digest> chain;
  chain.reserve(tokens.size() / spec::kChunk);
  std::array<std::byte, sizeof(Digest) + kIdBytes> link;
  std::memcpy(link.data(), identity.data(), sizeof(Digest));
  for (size_t at = 0; at + kIdBytes <= ids.size(); at += kIdBytes) {
    std::memcpy(link.data() + sizeof(Digest), ids.data() + at, kIdBytes);
    chain.push_back(Sha256(link));
    std::memcpy(link.data(), chain.back().data(), sizeof(Digest));
  }
  return chain;
}

int64_t CommonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t most = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(most), b.begin()).first -
         a.begin();
}

}  // namespace hga
