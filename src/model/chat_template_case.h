// SPDX-License-Identifier: Apache-2.0
// Upper and lower case as Python's str has them, for templates that change it.
#ifndef HGA_MODEL_CHAT_TEMPLATE_CASE_H_
#define HGA_MODEL_CHAT_TEMPLATE_CASE_H_

#include <optional>

#include "model/chat_template_text.h"

namespace hga::chat {

enum class Casing {
  kUpper,
  kLower,
  kCapitalize,  // the first character upper, all others lower
  kTitle,       // the first letter of each run of letters upper, all others lower
  kJinjaTitle,  // the first character behind white space, '-' or an opening bracket upper
};

// Nothing when a character becomes several in the other case (a German sharp s, for one), which is
// not done here; `refused` is then where it stands.
std::optional<TrackedText> ChangeCase(const TrackedText& text, Casing casing, size_t* refused);

bool IsUpperLetter(char32_t c);
bool IsLowerLetter(char32_t c);
bool IsLetter(char32_t c);
bool IsDecimalDigit(char32_t c);

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_CASE_H_
