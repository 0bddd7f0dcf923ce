// SPDX-License-Identifier: Apache-2.0
// What a tokenizer.json says, checked and resolved to ids.
#ifndef HGA_MODEL_TOKENIZER_SPEC_H_
#define HGA_MODEL_TOKENIZER_SPEC_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "hga/status.h"
#include "model/tokenizer_bpe.h"

namespace hga {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
  bool in_model = false;  // the model's vocabulary has it too
};

struct SplitSpec {
  std::string pattern;
  bool literal = false;
};

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

struct TokenizerSpec {
  Vocabulary vocab;               // spelled in the byte-level alphabet
  std::vector<MergeRule> merges;  // by rank
  std::array<int32_t, 256> byte_ids{};
  bool ignore_merges = false;  // a piece that is a token as a whole is not merged
  bool nfc = false;
  std::vector<SplitSpec> splits;  // applied one after the other
  bool add_prefix_space = false;
  std::vector<AddedToken> added;  // by id
  std::vector<int32_t> prefix_ids;
  int vocab_size = 0;  // highest id + 1
};

// kDataLoss: `json` is not JSON, or values contradict each other. kUnsupported: a kind, field or
// setting that this build does not know. Messages begin with `name`.
Result<TokenizerSpec> ParseTokenizerSpec(std::string_view json, const std::string& name);

// GPT-2's alphabet: each byte has one printable character. Bytes spelled by `text`; nothing when a
// character is not of the alphabet.
std::optional<std::string> BytesOfSpelling(std::string_view text);
std::string SpellingOfByte(uint8_t byte);

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_SPEC_H_
