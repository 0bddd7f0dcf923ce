// SPDX-License-Identifier: Apache-2.0
// UTF-8, strictly (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
#ifndef HGA_BASE_UTF8_H_
#define HGA_BASE_UTF8_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace hga {

enum class Utf8Kind {
  kCharacter,   // a whole character
  kIncomplete,  // the text ends inside a character that is well formed so far
  kInvalid,     // no character can begin like this
};

struct Utf8Step {
  Utf8Kind kind;
  char32_t code_point;  // of kCharacter, else 0
  size_t bytes;  // at least 1; of kInvalid the part that one U+FFFD stands for (the longest start
                 // of a character, as in the Unicode standard, section 3.9)
};

// The first step through `text`, which must not be empty.
Utf8Step FirstUtf8(std::string_view text);
// Offset of the first byte of the first ill-formed or unfinished sequence; nothing when all is
// well.
std::optional<size_t> FindInvalidUtf8(std::string_view text);
// `code_point` must be a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string* out);
// True when every byte is below 0x80.
bool IsAscii(std::string_view text);

}  // namespace hga

#endif  // HGA_BASE_UTF8_H_
