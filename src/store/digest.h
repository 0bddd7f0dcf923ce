// SPDX-License-Identifier: Apache-2.0
// SHA-256: names of directories, identities, chains over tokens. Everything that must not be
// guessable or forged into a clash; bytes on a disk are checked by XXH3.
#ifndef HGA_STORE_DIGEST_H_
#define HGA_STORE_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace hga {

using Digest = std::array<uint8_t, 32>;
// Of a session, made when it was created: tells files of one session from those of another.
using StoreId = std::array<uint8_t, 16>;

Digest Sha256(std::span<const std::byte> bytes);
Digest Sha256(std::string_view text);
std::string Hex(std::span<const uint8_t> bytes);
// From the operating system's generator.
StoreId RandomStoreId();

}  // namespace hga

#endif  // HGA_STORE_DIGEST_H_
