// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.json: refused with a message or good for encoding a short text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "hga/tokenizer.h"
#include "model/tokenizer_regex.h"
#include "model/tokenizer_spec.h"

namespace {

constexpr std::string_view kSample =
    "The 3 caf\xC3\xA9s' e\xCC\x81, <|end|>\n\n  x\xF0\x9F\x98\x80 aaaaaaaaaaaa";

// A file that is valid but for the part that `part` puts in: random bytes alone hardly ever get
// past the 256 entries that a vocabulary must have.
std::string Document(std::string_view part, uint8_t where) {
  std::string vocab, pattern = R"("\\p{L}+|.")", merges = R"("a b")", added, normalizer = "null";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelled = hga::SpellingOfByte(static_cast<uint8_t>(byte));
    vocab += (byte ? ",\"" : "\"") + std::string(spelled == "\"" || spelled == "\\" ? "\\" : "") +
             spelled + "\":" + std::to_string(byte);
  }
  vocab += R"(,"ab":256)";
  std::string* const places[] = {&pattern, &merges, &added, &normalizer, &vocab};
  std::string* const place = places[where % 5];
  *place = place == &vocab ? vocab + "," + std::string(part) : std::string(part);
  return R"({"added_tokens":[)" + added + R"(],"normalizer":)" + normalizer +
         R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)" +
         pattern + R"(},"behavior":"Isolated"},{"type":"ByteLevel","add_prefix_space":false}]},)" +
         R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" + vocab +
         R"(},"merges":[)" + merges + "]}}";
}

void Try(const std::string& json) {
  const auto tokenizer = hga::Tokenizer::Parse(json, "fuzz");
  if (!tokenizer.ok()) {
    const std::string& message = tokenizer.status().message();
    if (message.empty() || hga::FindInvalidUtf8(message)) std::abort();
    return;
  }
  const auto ids = (*tokenizer)->Encode(kSample, true);
  if (!ids.ok()) return;
  for (const int32_t id : *ids) {
    if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
  }
  if (!(*tokenizer)->Decode(*ids, true).ok()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] < 32) {
    Try(std::string(rest));
  } else {
    Try(Document(rest, data[0]));
  }
  return 0;
}
