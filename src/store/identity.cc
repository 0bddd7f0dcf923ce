// SPDX-License-Identifier: Apache-2.0
// Compares identities and says what differs.
#include "store/identity.h"

#include <fmt/format.h>

#include "base/file.h"
#include "store/bytes.h"
#include "store/io.h"

namespace hga {
namespace {

constexpr size_t kShownDigest = 6;  // bytes: enough to tell two apart by eye

void Add(std::string* differences, std::string_view what, std::string_view stored,
         std::string_view given) {
  if (stored == given) return;
  if (!differences->empty()) *differences += "; ";
  *differences += fmt::format("{}: {} stored, {} now", what, stored, given);
}

void AddDigest(std::string* differences, std::string_view what, const Digest& stored,
               const Digest& given) {
  if (stored == given) return;
  Add(differences, what, "sha256 " + Hex(std::span(stored).first(kShownDigest)),
      "sha256 " + Hex(std::span(given).first(kShownDigest)));
  // Equal in what is shown and different all the same.
  if (!differences->ends_with("now")) *differences += fmt::format("{} differs", what);
}

}  // namespace

Status CompareIdentity(const SessionIdentity& stored, const SessionIdentity& given,
                       std::string_view session) {
  if (stored == given) return OkStatus();
  std::string text;
  AddDigest(&text, "model config", stored.config, given.config);
  AddDigest(&text, "tokenizer", stored.tokenizer, given.tokenizer);
  AddDigest(&text, "weights", stored.weights, given.weights);
  Add(&text, "layers", fmt::to_string(stored.shape.layers), fmt::to_string(given.shape.layers));
  Add(&text, "KV heads", fmt::to_string(stored.shape.kv_heads),
      fmt::to_string(given.shape.kv_heads));
  Add(&text, "head dimension", fmt::to_string(stored.shape.head_dim),
      fmt::to_string(given.shape.head_dim));
  Add(&text, "dtype of K/V", Quoted(stored.dtype), Quoted(given.dtype));
  Add(&text, "format version", fmt::to_string(stored.format), fmt::to_string(given.format));
  return InvalidArgument(
      fmt::format("session {} was saved for something else: {}", Quoted(session), text));
}

Digest IdentityDigest(const SessionIdentity& identity) {
  ByteWriter writer;
  for (const Digest* digest : {&identity.config, &identity.tokenizer, &identity.weights}) {
    writer.PutBytes(std::as_bytes(std::span(*digest)));
  }
  writer.Put(static_cast<uint32_t>(identity.shape.layers));
  writer.Put(static_cast<uint32_t>(identity.shape.kv_heads));
  writer.Put(static_cast<uint32_t>(identity.shape.head_dim));
  writer.Put(identity.format);
  writer.PutBytes(std::as_bytes(std::span(identity.dtype)));
  return Sha256(writer.bytes());
}

Status CheckStoredShape(const HistoryShape& shape) {
  const auto within = [](int value, int limit) { return value >= 1 && value <= limit; };
  if (!within(shape.layers, kMaxStoredLayers) || !within(shape.kv_heads, kMaxStoredKvHeads) ||
      !within(shape.head_dim, kMaxStoredHeadDim)) {
    return InvalidArgument(fmt::format(
        "{} layers, {} KV heads, head dimension {}: what can be stored is 1 to {}, {} and {}",
        shape.layers, shape.kv_heads, shape.head_dim, kMaxStoredLayers, kMaxStoredKvHeads,
        kMaxStoredHeadDim));
  }
  if (RecordBytes(shape) % kIoAlignment != 0) {
    return InvalidArgument(
        fmt::format("a record of {} KV heads with head dimension {} takes {} bytes, no multiple of "
                    "{}",
                    shape.kv_heads, shape.head_dim, RecordBytes(shape), kIoAlignment));
  }
  return OkStatus();
}

}  // namespace hga
