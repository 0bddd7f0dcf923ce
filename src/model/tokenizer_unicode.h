// SPDX-License-Identifier: Apache-2.0
// What Unicode knowledge the tokenizer adds to the libraries': newer characters, word characters,
// NFC.
#ifndef HGA_MODEL_TOKENIZER_UNICODE_H_
#define HGA_MODEL_TOKENIZER_UNICODE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace hga {

struct CategoryRange {
  char32_t first;
  char32_t last;
  char category[3];  // general category, such as "Lu"
};

// Characters that Unicode 16 has and Debian 12's PCRE2 (Unicode 14) does not, ascending.
// Checkpoints are trained with ids made by an engine that knows them.
std::span<const CategoryRange> UnicodeAdditions();

// Whether `code_point` counts as a part of a word beside an added token with "single_word" (Rust's
// \w: alphabetic, marks, decimal digits, connectors and the two joiners).
bool IsWordCharacter(char32_t code_point);
// Unicode White_Space, 25 characters; U+180E is not among them.
bool IsWhiteSpace(char32_t code_point);

// Normalisation form C of well-formed UTF-8. O(n log n) for any input, runs of combining marks
// included.
std::string NormalizeNfc(std::string_view text);
// True when a quick look shows that NormalizeNfc would change nothing.
bool IsSurelyNfc(std::string_view text);

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_UNICODE_H_
