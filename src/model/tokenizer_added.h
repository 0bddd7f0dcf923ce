// SPDX-License-Identifier: Apache-2.0
// Finds added tokens in a text, as Hugging Face `tokenizers` does before anything else happens to
// it.
#ifndef HGA_MODEL_TOKENIZER_ADDED_H_
#define HGA_MODEL_TOKENIZER_ADDED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer_spec.h"

namespace hga {

// Leftmost, then longest match over a sorted list of contents. Immutable.
class AddedTokenFinder {
 public:
  // An added token or a stretch of text between two of them; text is never empty.
  struct Segment {
    std::optional<int32_t> id;
    std::string_view text;
  };

  // Of two tokens with equal content the first in `tokens` counts.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);
  // Segments of `text` in order. Without `match_special` special tokens are left in the text (they
  // still hide shorter tokens inside them, as in `tokenizers` with encode_special_tokens).
  std::vector<Segment> Split(std::string_view text, bool match_special) const;

 private:
  const AddedToken* LongestAt(std::string_view text, size_t at) const;

  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };
  std::vector<AddedToken> tokens_;  // by content
  std::array<Range, 256> by_first_byte_{};
};

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_ADDED_H_
