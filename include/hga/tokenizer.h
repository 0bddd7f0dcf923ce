// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as the checkpoint's tokenizer.json says.
#ifndef HGA_TOKENIZER_H_
#define HGA_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

// Immutable after Load, thread-safe.
class Tokenizer {
 public:
  // Reads DIR/tokenizer.json (at most 256 MiB). Kinds this build does not know (model, normaliser,
  // pre-tokenizer, decoder) are refused by name, never skipped.
  static Result<std::unique_ptr<Tokenizer>> Load(const std::string& directory);
  // The same from bytes; `name` is used in messages.
  static Result<std::unique_ptr<Tokenizer>> Parse(std::string_view json, const std::string& name);
  virtual ~Tokenizer() = default;

  // `text` must be UTF-8 (kInvalidArgument with the byte offset). With `parse_special` added
  // tokens are matched in the text, as Hugging Face `tokenizers` does; without, text that looks
  // like a special token stays text.
  virtual Result<std::vector<int32_t>> Encode(std::string_view text, bool parse_special) const = 0;
  // The same with special tokens matched only where they lie wholly inside one range of `trusted`
  // (ascending, disjoint); nothing outside can hide them. Splits and merges still run over all text
  // between special tokens.
  virtual Result<std::vector<int32_t>> EncodeTrusted(std::string_view text,
                                                     std::span<const TextRange> trusted) const = 0;
  // Concatenated bytes of the tokens; may end inside a UTF-8 character. Unknown ids:
  // kInvalidArgument. Special tokens are left out unless `keep_special`.
  virtual Result<std::string> Decode(std::span<const int32_t> ids, bool keep_special) const = 0;
  // Id of an exact token text, added tokens included.
  virtual std::optional<int32_t> TokenId(std::string_view text) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;
  virtual int vocab_size() const = 0;  // highest id + 1
  // Ids that belong in front of a whole prompt (a TemplateProcessing post-processor says so, Llama
  // 3 for one); Encode never adds them. Valid as long as the tokenizer.
  virtual std::span<const int32_t> prefix_ids() const = 0;
};

// Cuts a byte stream at complete UTF-8 characters for streaming: returns what can be shown now and
// keeps the rest. Bytes that can't become a character are replaced by U+FFFD.
class Utf8Stream {
 public:
  std::string Push(std::string_view bytes);
  std::string Finish();

 private:
  std::string pending_;
};

}  // namespace hga

#endif  // HGA_TOKENIZER_H_
