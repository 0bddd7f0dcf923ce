// SPDX-License-Identifier: Apache-2.0
// Manifests to bytes and back.
#include "store/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "spec/layout.h"
#include "store/bytes.h"
#include "store/io.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hga {
namespace {

constexpr std::array<char, 8> kMagic = {'H', 'G', 'A', 'M', 'A', 'N', 'I', 'F'};
constexpr size_t kDtypeBytes = 8;
constexpr size_t kHeaderSumAt = kManifestHeaderBytes - sizeof(uint64_t);
constexpr size_t kChunkKeyBytes = sizeof(Digest) + sizeof(uint64_t);

int64_t RoundUp(int64_t bytes) { return spec::CeilDiv(bytes, kIoAlignment) * kIoAlignment; }

// In the canonical, big-endian form of XXH3-128.
std::array<uint8_t, 16> Sum128(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::array<uint8_t, 16> sum;
  std::memcpy(sum.data(), canonical.digest, sum.size());
  return sum;
}

int64_t TailBytes(const HistoryShape& shape) { return shape.layers * RecordBytes(shape); }

template <typename Container>
void PutRaw(ByteWriter* writer, const Container& values) {
  writer->PutBytes(std::as_bytes(std::span(values)));
}

template <typename Container>
Status TakeRaw(ByteReader* reader, const char* field, Container* out) {
  std::span<const std::byte> bytes;
  HGA_RETURN_IF_ERROR(
      reader->TakeBytes(field, out->size() * sizeof(typename Container::value_type), &bytes));
  // An empty container has no address to copy to.
  if (!bytes.empty()) std::memcpy(out->data(), bytes.data(), bytes.size());
  return OkStatus();
}

// A byte string behind its length.
template <typename Length, typename Container>
Status TakeString(ByteReader* reader, const char* field, int64_t limit, Container* out) {
  int64_t count = 0;
  HGA_RETURN_IF_ERROR(reader->TakeCount<Length>(field, limit, 1, &count));
  out->resize(static_cast<size_t>(count));
  return TakeRaw(reader, field, out);
}

void PutIdentity(ByteWriter* writer, const SessionIdentity& identity) {
  PutRaw(writer, identity.config);
  PutRaw(writer, identity.tokenizer);
  PutRaw(writer, identity.weights);
  writer->Put(static_cast<uint32_t>(identity.shape.layers));
  writer->Put(static_cast<uint32_t>(identity.shape.kv_heads));
  writer->Put(static_cast<uint32_t>(identity.shape.head_dim));
  std::array<char, kDtypeBytes> dtype = {};
  std::copy_n(identity.dtype.begin(), std::min(identity.dtype.size(), dtype.size()), dtype.begin());
  PutRaw(writer, dtype);
}

Status TakeIdentity(ByteReader* reader, SessionIdentity* identity) {
  HGA_RETURN_IF_ERROR(TakeRaw(reader, "config digest", &identity->config));
  HGA_RETURN_IF_ERROR(TakeRaw(reader, "tokenizer digest", &identity->tokenizer));
  HGA_RETURN_IF_ERROR(TakeRaw(reader, "weights digest", &identity->weights));
  std::array<uint32_t, 3> shape;
  HGA_RETURN_IF_ERROR(TakeRaw(reader, "shape", &shape));
  constexpr uint32_t kMost = std::numeric_limits<int>::max();
  if (std::ranges::any_of(shape, [](uint32_t value) { return value > kMost; })) {
    return DataLoss(fmt::format("shape {}, {}, {}", shape[0], shape[1], shape[2]));
  }
  identity->shape = {static_cast<int>(shape[0]), static_cast<int>(shape[1]),
                     static_cast<int>(shape[2])};
  if (Status status = CheckStoredShape(identity->shape); !status.ok()) {
    return DataLoss(status.message());
  }
  std::array<char, kDtypeBytes> dtype;
  HGA_RETURN_IF_ERROR(TakeRaw(reader, "dtype", &dtype));
  const auto end = std::ranges::find(dtype, '\0');
  if (std::any_of(end, dtype.end(), [](char c) { return c != '\0'; })) {
    return DataLoss("bytes behind the end of 'dtype'");
  }
  identity->dtype.assign(dtype.begin(), end);
  return OkStatus();
}

void PutTokens(ByteWriter* writer, const ManifestHead& head, const SessionState& state) {
  writer->Put(static_cast<uint64_t>(state.tokens.size()));
  PutRaw(writer, state.tokens);
  for (const ChunkKey& key : head.chunks) {
    PutRaw(writer, key.chain);
    writer->Put(key.records);
  }
}

Status TakeTokens(ByteReader* reader, Manifest* manifest) {
  int64_t count = 0;
  HGA_RETURN_IF_ERROR(
      reader->TakeCount<uint64_t>("tokens", kMaxSessionTokens, sizeof(int32_t), &count));
  manifest->state.tokens.resize(static_cast<size_t>(count));
  HGA_RETURN_IF_ERROR(TakeRaw(reader, "tokens", &manifest->state.tokens));
  const size_t chunks = static_cast<size_t>(count / spec::kChunk);
  if (chunks > reader->left() / kChunkKeyBytes) {
    return DataLoss(
        fmt::format("{} chunks, but only {} bytes for their keys", chunks, reader->left()));
  }
  manifest->head.chunks.resize(chunks);
  for (ChunkKey& key : manifest->head.chunks) {
    HGA_RETURN_IF_ERROR(TakeRaw(reader, "chain", &key.chain));
    HGA_RETURN_IF_ERROR(reader->Take("sum of records", &key.records));
  }
  return OkStatus();
}

void PutRuns(ByteWriter* writer, const SessionState& state) {
  writer->Put(static_cast<uint32_t>(state.spans.size()));
  for (const SpanRun& run : state.spans) {
    writer->Put(static_cast<uint32_t>(run.rows));
    writer->Put(static_cast<uint32_t>(run.count));
  }
  writer->Put(static_cast<uint32_t>(state.rules.size()));
  for (const RuleRun& run : state.rules) {
    writer->Put(static_cast<uint32_t>(run.tokens));
    writer->Put(static_cast<uint32_t>(run.text.size()));
    PutRaw(writer, run.text);
  }
}

Status TakeRuns(ByteReader* reader, SessionState* state) {
  constexpr size_t kRunBytes = 2 * sizeof(uint32_t);
  int64_t count = 0;
  HGA_RETURN_IF_ERROR(reader->TakeCount<uint32_t>("spans", kMaxSpanRuns, kRunBytes, &count));
  state->spans.resize(static_cast<size_t>(count));
  for (SpanRun& run : state->spans) {
    std::array<uint32_t, 2> fields;
    HGA_RETURN_IF_ERROR(TakeRaw(reader, "span", &fields));
    run = {fields[0], fields[1]};
  }
  HGA_RETURN_IF_ERROR(reader->TakeCount<uint32_t>("rules", kMaxRuleRuns, kRunBytes, &count));
  state->rules.resize(static_cast<size_t>(count));
  for (RuleRun& run : state->rules) {
    uint32_t tokens = 0;
    HGA_RETURN_IF_ERROR(reader->Take("rule", &tokens));
    run.tokens = tokens;
    HGA_RETURN_IF_ERROR(TakeString<uint32_t>(reader, "rule text", kMaxRuleText, &run.text));
  }
  return OkStatus();
}

Status CheckSpans(const SessionState& state) {
  int64_t left = static_cast<int64_t>(state.tokens.size());
  if (static_cast<int64_t>(state.spans.size()) > kMaxSpanRuns) {
    return InvalidArgument(fmt::format("{} runs of spans", state.spans.size()));
  }
  for (const SpanRun& run : state.spans) {
    if (run.rows < 1 || run.count < 1 || run.count > left / run.rows) {
      return InvalidArgument(
          fmt::format("{} spans of {} tokens where {} tokens are left", run.count, run.rows, left));
    }
    left -= run.rows * run.count;
  }
  if (left != 0) return InvalidArgument(fmt::format("no span covers the last {} tokens", left));
  return OkStatus();
}

Status CheckRules(const SessionState& state) {
  int64_t left = static_cast<int64_t>(state.tokens.size());
  if (static_cast<int64_t>(state.rules.size()) > kMaxRuleRuns) {
    return InvalidArgument(
        fmt::format("{} runs of rules, the limit is {}", state.rules.size(), kMaxRuleRuns));
  }
  for (const RuleRun& run : state.rules) {
    if (run.tokens < 1 || run.tokens > left) {
      return InvalidArgument(
          fmt::format("a rule for {} tokens where {} are left", run.tokens, left));
    }
    if (static_cast<int64_t>(run.text.size()) > kMaxRuleText) {
      return InvalidArgument(
          fmt::format("a rule of {} bytes, the limit is {}", run.text.size(), kMaxRuleText));
    }
    left -= run.tokens;
  }
  if (left != 0) return InvalidArgument(fmt::format("no rule covers the last {} tokens", left));
  return OkStatus();
}

Status CheckBytes(const char* what, size_t bytes, int64_t limit) {
  if (static_cast<int64_t>(bytes) <= limit) return OkStatus();
  return InvalidArgument(fmt::format("{} of {} bytes, the limit is {}", what, bytes, limit));
}

void PutHeader(const ManifestHeader& header, std::span<std::byte> out) {
  ByteWriter writer;
  PutRaw(&writer, kMagic);
  writer.Put(header.format);
  writer.Put(uint32_t{0});
  writer.Put(header.generation);
  writer.Put(header.payload_bytes);
  writer.Put(header.tail_bytes);
  PutRaw(&writer, header.payload_sum);
  PutRaw(&writer, header.tail_sum);
  writer.Put(static_cast<uint64_t>(XXH3_64bits(writer.bytes().data(), writer.bytes().size())));
  std::ranges::copy(writer.bytes(), out.begin());
}

}  // namespace

int64_t ManifestHeader::TailOffset() const { return RoundUp(kManifestHeaderBytes + payload_bytes); }

int64_t ManifestHeader::FileBytes() const { return TailOffset() + RoundUp(tail_bytes); }

Status CheckState(const SessionState& state, const HistoryShape& shape) {
  const int64_t tokens = static_cast<int64_t>(state.tokens.size());
  if (tokens > kMaxSessionTokens) {
    return InvalidArgument(fmt::format("{} tokens, the limit is {}", tokens, kMaxSessionTokens));
  }
  const auto negative = std::ranges::find_if(state.tokens, [](int32_t id) { return id < 0; });
  if (negative != state.tokens.end()) {
    return InvalidArgument(
        fmt::format("token {} is {}", negative - state.tokens.begin(), *negative));
  }
  HGA_RETURN_IF_ERROR(CheckSpans(state));
  HGA_RETURN_IF_ERROR(CheckRules(state));
  HGA_RETURN_IF_ERROR(CheckBytes("sampler state", state.sampler.size(), kMaxSamplerBytes));
  HGA_RETURN_IF_ERROR(CheckBytes("application data", state.extra.size(), kMaxExtraBytes));
  const int64_t tail = static_cast<int64_t>(state.tail.size());
  if (tail != 0 && (tokens % spec::kChunk == 0 || tail != TailBytes(shape))) {
    return InvalidArgument(fmt::format("{} bytes of K/V for the {} tokens of the unfinished chunk",
                                       tail, tokens % spec::kChunk));
  }
  return OkStatus();
}

std::vector<std::byte> EncodeManifest(const ManifestHead& head, const SessionState& state) {
  ByteWriter writer;
  writer.bytes().resize(kManifestHeaderBytes);
  writer.Put(static_cast<uint32_t>(head.name.size()));
  PutRaw(&writer, head.name);
  PutRaw(&writer, head.store_id);
  PutIdentity(&writer, head.identity);
  writer.Put(state.saved_at);
  PutTokens(&writer, head, state);
  PutRuns(&writer, state);
  writer.Put(static_cast<uint32_t>(state.sampler.size()));
  PutRaw(&writer, state.sampler);
  writer.Put(static_cast<uint64_t>(state.extra.size()));
  PutRaw(&writer, state.extra);

  std::vector<std::byte>& bytes = writer.bytes();
  ManifestHeader header;
  header.format = head.identity.format;
  header.generation = head.generation;
  header.payload_bytes = static_cast<int64_t>(bytes.size()) - kManifestHeaderBytes;
  header.tail_bytes = static_cast<int64_t>(state.tail.size());
  header.payload_sum = Sum128(std::span(bytes).subspan(kManifestHeaderBytes));
  header.tail_sum = Sum128(state.tail);
  bytes.resize(static_cast<size_t>(header.FileBytes()));
  std::ranges::copy(state.tail, bytes.begin() + header.TailOffset());
  PutHeader(header, bytes);
  return std::move(bytes);
}

Result<ManifestHeader> ParseManifestHeader(std::span<const std::byte> bytes, int64_t file_bytes) {
  ByteReader reader(bytes);
  std::array<char, 8> magic;
  HGA_RETURN_IF_ERROR(TakeRaw(&reader, "magic", &magic));
  if (magic != kMagic) return DataLoss("it does not begin as a manifest does");
  ManifestHeader header;
  uint32_t zero = 0;
  uint64_t sum = 0;
  HGA_RETURN_IF_ERROR(reader.Take("format version", &header.format));
  HGA_RETURN_IF_ERROR(reader.Take("zero", &zero));
  HGA_RETURN_IF_ERROR(reader.Take("generation", &header.generation));
  HGA_RETURN_IF_ERROR(reader.Take("payload bytes", &header.payload_bytes));
  HGA_RETURN_IF_ERROR(reader.Take("tail bytes", &header.tail_bytes));
  HGA_RETURN_IF_ERROR(TakeRaw(&reader, "payload sum", &header.payload_sum));
  HGA_RETURN_IF_ERROR(TakeRaw(&reader, "tail sum", &header.tail_sum));
  HGA_RETURN_IF_ERROR(reader.Take("header sum", &sum));
  if (sum != XXH3_64bits(bytes.data(), kHeaderSumAt)) {
    return DataLoss("the checksum of its header is wrong");
  }
  if (header.format != kStoreFormat) {
    return InvalidArgument(
        fmt::format("format version: {} stored, this build reads {}", header.format, kStoreFormat));
  }
  // Bounded one by one, so that the sum cannot overflow.
  const bool bounded = header.payload_bytes >= 0 && header.payload_bytes <= file_bytes &&
                       header.tail_bytes >= 0 && header.tail_bytes <= file_bytes;
  if (zero != 0 || header.generation == 0 || !bounded || header.FileBytes() > file_bytes) {
    return DataLoss(fmt::format("generation {}, {} bytes and {} of K/V in a file of {}",
                                header.generation, header.payload_bytes, header.tail_bytes,
                                file_bytes));
  }
  return header;
}

Result<Manifest> ParseManifest(const ManifestHeader& header, std::span<const std::byte> payload) {
  if (static_cast<int64_t>(payload.size()) != header.payload_bytes ||
      Sum128(payload) != header.payload_sum) {
    return DataLoss("its checksum is wrong");
  }
  Manifest manifest;
  manifest.head.generation = header.generation;
  manifest.head.identity.format = header.format;
  ByteReader reader(payload);
  HGA_RETURN_IF_ERROR(TakeString<uint32_t>(&reader, "name", kMaxSessionName, &manifest.head.name));
  if (manifest.head.name.empty()) return DataLoss("the name is empty");
  HGA_RETURN_IF_ERROR(TakeRaw(&reader, "store id", &manifest.head.store_id));
  HGA_RETURN_IF_ERROR(TakeIdentity(&reader, &manifest.head.identity));
  HGA_RETURN_IF_ERROR(reader.Take("time", &manifest.state.saved_at));
  HGA_RETURN_IF_ERROR(TakeTokens(&reader, &manifest));
  HGA_RETURN_IF_ERROR(TakeRuns(&reader, &manifest.state));
  HGA_RETURN_IF_ERROR(
      TakeString<uint32_t>(&reader, "sampler state", kMaxSamplerBytes, &manifest.state.sampler));
  HGA_RETURN_IF_ERROR(
      TakeString<uint64_t>(&reader, "application data", kMaxExtraBytes, &manifest.state.extra));
  if (reader.left() != 0) return DataLoss(fmt::format("{} bytes too many", reader.left()));
  if (Status status = CheckState(manifest.state, manifest.head.identity.shape); !status.ok()) {
    return DataLoss(status.message());
  }
  const bool unfinished = manifest.state.tokens.size() % spec::kChunk != 0;
  if (header.tail_bytes != 0 &&
      (!unfinished || header.tail_bytes != TailBytes(manifest.head.identity.shape))) {
    return DataLoss(fmt::format("{} bytes of K/V of the unfinished chunk", header.tail_bytes));
  }
  return manifest;
}

bool TailMatches(const ManifestHeader& header, std::span<const std::byte> tail) {
  return static_cast<int64_t>(tail.size()) == header.tail_bytes && Sum128(tail) == header.tail_sum;
}

}  // namespace hga
