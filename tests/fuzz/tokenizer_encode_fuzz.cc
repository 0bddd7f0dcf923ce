// SPDX-License-Identifier: Apache-2.0
// Any bytes as a prompt: broken UTF-8 is refused, all other text decodes to itself in normal form.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "hga/tokenizer.h"
#include "model/tokenizer_spec.h"
#include "model/tokenizer_unicode.h"

namespace {

// All bytes, some merges, and added tokens of every kind of matching.
std::unique_ptr<hga::Tokenizer> Make() {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelled = hga::SpellingOfByte(static_cast<uint8_t>(byte));
    vocab += (byte ? ",\"" : "\"") + std::string(spelled == "\"" || spelled == "\\" ? "\\" : "") +
             spelled + "\":" + std::to_string(byte);
  }
  vocab += R"(,"aa":256,"aaaa":257,"ab":258,"aab":259,"ba":260)";
  const std::string flags[] = {
      R"("single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true)",
      R"("single_word":true,"lstrip":false,"rstrip":false,"normalized":false,"special":false)",
      R"("single_word":false,"lstrip":true,"rstrip":true,"normalized":true,"special":false)"};
  const std::string contents[] = {"<s>", "b", "<\xC3\xA9>"};
  std::string added;
  for (int i = 0; i < 3; ++i) {
    added += std::string(i ? "," : "") + R"({"id":)" + std::to_string(i == 1 ? 98 : 261 + i) +
             R"(,"content":")" + contents[i] + "\"," + flags[i] + "}";
  }
  const std::string json =
      R"({"added_tokens":[)" + added + R"(],"normalizer":{"type":"NFC"},)" +
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)" +
      R"("(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+)" +
      R"(|\\s+(?!\\S)|\\s+"},"behavior":"Isolated"},{"type":"ByteLevel","add_prefix_space":false,)" +
      R"("use_regex":false}]},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" +
      vocab + R"(},"merges":["a a","aa aa","a b","a ab","b a"]}})";
  auto tokenizer = hga::Tokenizer::Parse(json, "fuzz");
  if (!tokenizer.ok()) std::abort();
  return std::move(*tokenizer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<hga::Tokenizer> tokenizer = Make();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  hga::Utf8Stream stream;
  std::string shown = stream.Push(text.substr(0, size / 2)) + stream.Push(text.substr(size / 2));
  shown += stream.Finish();
  if (hga::FindInvalidUtf8(shown)) std::abort();
  const bool valid = !hga::FindInvalidUtf8(text);
  if (valid != (shown == text)) std::abort();
  const auto plain = tokenizer->Encode(text, false);
  const auto special = tokenizer->Encode(text, true);
  if (plain.ok() != valid || special.ok() != valid) std::abort();
  if (!valid) return 0;
  if (!tokenizer->Decode(*special, true).ok()) std::abort();
  // Added tokens that take white space with them decode without it, so look at texts without any.
  if (text.find('<') == std::string_view::npos) {
    if (tokenizer->Decode(*plain, true).value() != hga::NormalizeNfc(text)) std::abort();
  }
  return 0;
}
