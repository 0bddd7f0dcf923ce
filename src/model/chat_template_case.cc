// SPDX-License-Identifier: Apache-2.0
// One character at a time with utf8proc's simple mappings; what needs more is refused.
#include "model/chat_template_case.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "base/utf8.h"
#include "model/chat_template_value.h"

namespace hga::chat {
namespace {

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

struct CodeRange {
  char32_t first, last;
};

// Characters whose upper or title case is more than one character (SpecialCasing.txt).
constexpr CodeRange kExpanding[] = {
    {0x00DF, 0x00DF}, {0x0149, 0x0149}, {0x01F0, 0x01F0}, {0x0390, 0x0390}, {0x03B0, 0x03B0},
    {0x0587, 0x0587}, {0x1E96, 0x1E9A}, {0x1F50, 0x1F50}, {0x1F52, 0x1F52}, {0x1F54, 0x1F54},
    {0x1F56, 0x1F56}, {0x1F80, 0x1FAF}, {0x1FB2, 0x1FB4}, {0x1FB6, 0x1FB7}, {0x1FBC, 0x1FBC},
    {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FC7}, {0x1FCC, 0x1FCC}, {0x1FD2, 0x1FD3}, {0x1FD6, 0x1FD7},
    {0x1FE2, 0x1FE4}, {0x1FE6, 0x1FE7}, {0x1FF2, 0x1FF4}, {0x1FF6, 0x1FF7}, {0x1FFC, 0x1FFC},
    {0xFB00, 0xFB06}, {0xFB13, 0xFB17}};

bool Expands(char32_t c) {
  return std::any_of(std::begin(kExpanding), std::end(kExpanding),
                     [c](const CodeRange& r) { return c >= r.first && c <= r.last; });
}

bool IsCased(char32_t c) {
  return IsUpperLetter(c) || IsLowerLetter(c) || Category(c) == UTF8PROC_CATEGORY_LT;
}

bool SplitsWords(char32_t c) {
  return IsPythonSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

// A capital sigma at the end of a word, and a dotted capital I, become something of their own.
bool LowersSpecially(char32_t c) { return c == 0x0130 || c == 0x03A3; }

}  // namespace

bool IsUpperLetter(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }
bool IsLowerLetter(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LL; }
bool IsDecimalDigit(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_ND; }

bool IsLetter(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT || category == UTF8PROC_CATEGORY_LM ||
         category == UTF8PROC_CATEGORY_LO;
}

std::optional<TrackedText> ChangeCase(const TrackedText& text, Casing casing, size_t* refused) {
  TrackedText out;
  TrustCursor trust(text);
  bool begins = true;  // the next letter is the first of its word
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstUtf8(std::string_view(text.bytes()).substr(at));
    const char32_t c = step.code_point;
    const bool upper = casing == Casing::kUpper || (casing != Casing::kLower && begins);
    if (upper ? Expands(c) : LowersSpecially(c)) {
      *refused = at;
      return std::nullopt;
    }
    const auto code = static_cast<utf8proc_int32_t>(c);
    const bool title = upper && (casing == Casing::kTitle || casing == Casing::kCapitalize);
    const auto changed = title   ? utf8proc_totitle(code)
                         : upper ? utf8proc_toupper(code)
                                 : utf8proc_tolower(code);
    std::string bytes;
    AppendUtf8(static_cast<char32_t>(changed), &bytes);
    out.Append(bytes, trust.At(at));
    begins = casing == Casing::kTitle        ? !IsCased(c)
             : casing == Casing::kJinjaTitle ? SplitsWords(c)
                                             : false;
    at += step.bytes;
  }
  return out;
}

}  // namespace hga::chat
