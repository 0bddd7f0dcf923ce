// SPDX-License-Identifier: Apache-2.0
// Finds added tokens in a text, as Hugging Face `tokenizers` does before anything else happens to
// it.
#ifndef HGA_MODEL_TOKENIZER_ADDED_H_
#define HGA_MODEL_TOKENIZER_ADDED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/tokenizer.h"
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
  // Segments of `text` in order. Special tokens are matched wholly inside one range of `trusted`
  // (ascending, disjoint) and left in the text elsewhere. There they still hide shorter tokens
  // inside them, as in `tokenizers` with encode_special_tokens, but nothing in a trusted range.
  std::vector<Segment> Split(std::string_view text, std::span<const TextRange> trusted) const;
  bool has_special() const { return has_special_; }

 private:
  // The token that counts at `at`, or null; `*next` is where to look on if it is not taken.
  // `trusted`: the first range that ends behind `at`, or null.
  const AddedToken* TokenAt(std::string_view text, size_t at, const TextRange* trusted,
                            size_t* next) const;
  const AddedToken* LongestAt(std::string_view text, size_t at) const;

  struct Range {
    size_t begin = 0;
    size_t end = 0;
  };
  std::vector<AddedToken> tokens_;  // by content
  bool has_special_ = false;
  std::array<Range, 256> by_first_byte_{};
};

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_ADDED_H_
