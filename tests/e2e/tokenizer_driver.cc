// SPDX-License-Identifier: Apache-2.0
// Runs a tokenizer over requests from stdin, for comparison with another implementation.
//
//   tokenizer_driver FILE.json
//
// Request: one byte ('s' encode with special tokens, 't' encode as plain text, 'd' decode without
// special tokens, 'k' decode with them), a 32-bit length in bytes, the UTF-8 text or the 32-bit
// ids. Answer: one byte ('+' or '-'), a 32-bit length, the ids, the text or the error message. All
// numbers little-endian. The time spent inside the tokenizer is printed on stderr at the end.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "hga/tokenizer.h"

namespace {

bool ReadAll(void* out, size_t bytes) { return std::fread(out, 1, bytes, stdin) == bytes; }

bool Answer(bool ok, const void* data, size_t bytes) {
  const char sign = ok ? '+' : '-';
  const uint32_t length = static_cast<uint32_t>(bytes);
  return std::fwrite(&sign, 1, 1, stdout) == 1 && std::fwrite(&length, 4, 1, stdout) == 1 &&
         std::fwrite(data, 1, bytes, stdout) == bytes;
}

struct Clock {
  double seconds = 0;
  size_t bytes = 0;
};

bool Serve(const hga::Tokenizer& tokenizer, char kind, const std::string& payload, Clock* clock) {
  const auto start = std::chrono::steady_clock::now();
  if (kind == 's' || kind == 't') {
    const auto ids = tokenizer.Encode(payload, kind == 's');
    clock->seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    clock->bytes += payload.size();
    if (!ids.ok())
      return Answer(false, ids.status().message().data(), ids.status().message().size());
    return Answer(true, ids->data(), ids->size() * sizeof(int32_t));
  }
  std::vector<int32_t> ids(payload.size() / sizeof(int32_t));
  std::memcpy(ids.data(), payload.data(), ids.size() * sizeof(int32_t));
  const auto text = tokenizer.Decode(ids, kind == 'k');
  if (!text.ok())
    return Answer(false, text.status().message().data(), text.status().message().size());
  return Answer(true, text->data(), text->size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  const std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto tokenizer = hga::Tokenizer::Parse(json, argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().message().c_str());
    return 1;
  }
  Clock clock;
  char kind = 0;
  while (ReadAll(&kind, 1)) {
    uint32_t length = 0;
    if (!ReadAll(&length, 4)) return 2;
    std::string payload(length, '\0');
    if (!ReadAll(payload.data(), length) || !Serve(**tokenizer, kind, payload, &clock)) return 2;
  }
  std::fprintf(stderr, "%zu bytes in %.3f s\n", clock.bytes, clock.seconds);
  return 0;
}
