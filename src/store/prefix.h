// SPDX-License-Identifier: Apache-2.0
// Keys of stored chunks: equal keys mean equal identity and equal tokens from the first on.
#ifndef HGA_STORE_PREFIX_H_
#define HGA_STORE_PREFIX_H_

#include <cstdint>
#include <span>
#include <vector>

#include "store/digest.h"

namespace hga {

// One key per closed chunk: SHA-256 of the key before it (of the identity for the first) and of
// its 64 token ids, little-endian.
std::vector<Digest> PrefixChain(const Digest& identity, std::span<const int32_t> tokens);
// Tokens that two sequences begin with in common.
int64_t CommonPrefix(std::span<const int32_t> a, std::span<const int32_t> b);

}  // namespace hga

#endif  // HGA_STORE_PREFIX_H_
