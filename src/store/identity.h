// SPDX-License-Identifier: Apache-2.0
// What stored K/V depends on: a session is resumed only under the identity it was saved with.
#ifndef HGA_STORE_IDENTITY_H_
#define HGA_STORE_IDENTITY_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "hga/status.h"
#include "store/digest.h"
#include "store/record.h"

namespace hga {

// Of everything a session directory holds; docs/format/store.md describes this one.
inline constexpr uint32_t kStoreFormat = 1;
inline constexpr std::string_view kStoredDtype = "bf16";

// Bounds on shapes that come from a disk.
inline constexpr int kMaxStoredLayers = 1024;
inline constexpr int kMaxStoredKvHeads = 256;
inline constexpr int kMaxStoredHeadDim = 1024;

struct SessionIdentity {
  Digest config = {};  // of the values of config.json that change what is computed
  Digest tokenizer = {};
  Digest weights = {};
  HistoryShape shape;
  std::string dtype = std::string(kStoredDtype);  // at most 8 bytes
  uint32_t format = kStoreFormat;
  friend bool operator==(const SessionIdentity&, const SessionIdentity&) = default;
};

// kOk when equal; else kInvalidArgument with every field that differs and both of its values.
Status CompareIdentity(const SessionIdentity& stored, const SessionIdentity& given,
                       std::string_view session);
// One digest of all fields: the "model hash" of index entries and of prefix chains.
Digest IdentityDigest(const SessionIdentity& identity);
// Whether records of the shape can be stored: bounds, and whole sectors per record.
Status CheckStoredShape(const HistoryShape& shape);

}  // namespace hga

#endif  // HGA_STORE_IDENTITY_H_
