// SPDX-License-Identifier: Apache-2.0
// Fuzzes the manifest reader: no crash, and whatever it accepts holds its own rules and is written
// again as the same bytes. Payloads are sealed with the checksum they need, or none would get far.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "spec/layout.h"
#include "store/manifest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr size_t kPrefix = 1;  // chooses the target

void Require(bool condition) {
  if (!condition) std::abort();
}

hga::ManifestHeader Seal(std::span<const std::byte> payload) {
  hga::ManifestHeader header;
  header.format = hga::kStoreFormat;
  header.generation = 1;
  header.payload_bytes = static_cast<int64_t>(payload.size());
  XXH128_canonical_t sum;
  XXH128_canonicalFromHash(&sum, XXH3_128bits(payload.data(), payload.size()));
  std::memcpy(header.payload_sum.data(), sum.digest, sizeof(sum.digest));
  return header;
}

void CheckPayload(const hga::ManifestHeader& header, std::span<const std::byte> payload) {
  const auto manifest = hga::ParseManifest(header, payload);
  if (!manifest.ok()) return Require(!manifest.status().message().empty());
  const hga::SessionState& state = manifest->state;
  Require(hga::CheckState(state, manifest->head.identity.shape).ok());
  Require(manifest->head.chunks.size() == state.tokens.size() / hga::spec::kChunk);
  const std::vector<std::byte> again = hga::EncodeManifest(manifest->head, state);
  Require(std::ranges::equal(payload,
                             std::span(again).subspan(hga::kManifestHeaderBytes, payload.size())));
}

void CheckSlot(std::span<const std::byte> slot) {
  const auto header = hga::ParseManifestHeader(slot, static_cast<int64_t>(slot.size()));
  if (!header.ok()) return Require(!header.status().message().empty());
  Require(header->FileBytes() <= static_cast<int64_t>(slot.size()));
  CheckPayload(*header,
               slot.subspan(hga::kManifestHeaderBytes, static_cast<size_t>(header->payload_bytes)));
  hga::TailMatches(*header, slot.subspan(static_cast<size_t>(header->TailOffset()),
                                         static_cast<size_t>(header->tail_bytes)));
}

// A sound slot to start from; its payload begins behind the header.
std::vector<std::byte> SoundSlot(std::mt19937& random) {
  hga::SessionState state;
  state.tokens.assign(random() % 200, static_cast<int32_t>(random() % 1000));
  const int64_t tokens = static_cast<int64_t>(state.tokens.size());
  if (tokens > 0) {
    state.spans = {{1, tokens}};
    state.rules = {{tokens, "preset=default"}};
  }
  state.sampler.resize(random() % 50);
  state.extra.assign(random() % 50, 'x');
  hga::ManifestHead head;
  head.generation = 1;
  head.name = "name";
  head.identity.shape = {.layers = 1, .kv_heads = 1, .head_dim = 16};
  head.chunks.resize(state.tokens.size() / hga::spec::kChunk);
  return hga::EncodeManifest(head, state);
}

constexpr uint64_t kNumbers[] = {
    0,       1,       63,         64,         255,        256,        4096,       4097,
    1 << 20, 1 << 26, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ull << 32, 1ull << 62, ~uint64_t{0}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kPrefix) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(kPrefix);
  if (data[0] % 4 == 0) {
    CheckSlot(bytes);
  } else {
    CheckPayload(Seal(bytes), bytes);
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  std::mt19937 random(seed);
  const unsigned choice = random() % 8;
  if (size < kPrefix + 8 || choice == 0) {
    const std::vector<std::byte> slot = SoundSlot(random);
    const bool raw = random() % 4 == 0;
    const size_t from = raw ? 0 : hga::kManifestHeaderBytes;
    const auto header = hga::ParseManifestHeader(slot, static_cast<int64_t>(slot.size()));
    const size_t bytes = raw ? slot.size() : static_cast<size_t>(header->payload_bytes);
    if (kPrefix + bytes > max_size) return LLVMFuzzerMutate(data, size, max_size);
    data[0] = raw ? 0 : 1;
    std::memcpy(data + kPrefix, slot.data() + from, bytes);
    return kPrefix + bytes;
  }
  if (choice < 4) {
    const size_t width = random() % 2 == 0 ? 4 : 8;
    const uint64_t number = kNumbers[random() % std::size(kNumbers)];
    std::memcpy(data + kPrefix + random() % (size - kPrefix - width + 1), &number, width);
    return size;
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
