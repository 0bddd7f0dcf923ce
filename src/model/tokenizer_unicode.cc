// SPDX-License-Identifier: Apache-2.0
// NFC through utf8proc's tables, with a sort of our own: utf8proc_map orders marks by repeated
// swaps, which takes quadratic time on a long run of alternating marks.
#include "model/tokenizer_unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "base/utf8.h"

namespace hga {
namespace {

constexpr CategoryRange kAdditions[] = {
#include "model/tokenizer_unicode.inc"
};

// The code point before the first Hangul trailing consonant composes with nothing, but utf8proc 2.8
// lets a syllable swallow it.
constexpr utf8proc_int32_t kBeforeTrailing = 0x11A7;

// Characters newer than the tables (Unicode 9) by which the ids of checkpoints are made: they keep
// their place, and compose with nothing.
constexpr CategoryRange kLeftAlone[] = {
#include "model/tokenizer_nfc.inc"
};

bool IsLeftAlone(utf8proc_int32_t code_point) {
  const char32_t c = static_cast<char32_t>(code_point);
  const auto range =
      std::upper_bound(std::begin(kLeftAlone), std::end(kLeftAlone), c,
                       [](char32_t value, const CategoryRange& r) { return value < r.first; });
  return range != std::begin(kLeftAlone) && c <= std::prev(range)->last;
}

int CombiningClass(utf8proc_int32_t code_point) {
  if (code_point < 0x300 || IsLeftAlone(code_point)) return 0;
  return utf8proc_get_property(code_point)->combining_class;
}

void Decompose(char32_t code_point, std::vector<utf8proc_int32_t>* out) {
  // The longest canonical decomposition of one character has 4 code points.
  if (IsLeftAlone(static_cast<utf8proc_int32_t>(code_point))) {
    out->push_back(static_cast<utf8proc_int32_t>(code_point));
    return;
  }
  utf8proc_int32_t parts[32];
  int boundary = 0;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE);
  const utf8proc_ssize_t count = utf8proc_decompose_char(
      static_cast<utf8proc_int32_t>(code_point), parts, std::size(parts), options, &boundary);
  if (count < 1 || count > static_cast<utf8proc_ssize_t>(std::size(parts))) {
    out->push_back(static_cast<utf8proc_int32_t>(code_point));
    return;
  }
  out->insert(out->end(), parts, parts + count);
}

// Canonical ordering: each run of marks by combining class, equal classes keep their order.
void OrderMarks(std::vector<utf8proc_int32_t>* text) {
  auto run = text->begin();
  while (run != text->end()) {
    if (CombiningClass(*run) == 0) {
      ++run;
      continue;
    }
    auto end = run;
    while (end != text->end() && CombiningClass(*end) != 0) ++end;
    std::stable_sort(run, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    run = end;
  }
}

bool ComposesWithNothing(utf8proc_int32_t code_point) {
  return code_point == kBeforeTrailing || IsLeftAlone(code_point);
}

// Composes ordered text [count] in place and appends it.
void Compose(utf8proc_int32_t* points, utf8proc_ssize_t count, std::string* out) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  const utf8proc_ssize_t length = utf8proc_normalize_utf32(points, count, options);
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    AppendUtf8(static_cast<char32_t>(points[i]), out);
  }
}

}  // namespace

std::span<const CategoryRange> UnicodeAdditions() { return kAdditions; }

bool IsWordCharacter(char32_t code_point) {
  if (code_point == 0x200C || code_point == 0x200D) return true;
  // Circled and squared Latin letters: symbols by category, alphabetic by property.
  if ((code_point >= 0x24B6 && code_point <= 0x24E9) ||
      (code_point >= 0x1F130 && code_point <= 0x1F149) ||
      (code_point >= 0x1F150 && code_point <= 0x1F169) ||
      (code_point >= 0x1F170 && code_point <= 0x1F189)) {
    return true;
  }
  const std::string_view category =
      utf8proc_category_string(static_cast<utf8proc_int32_t>(code_point));
  return category[0] == 'L' || category[0] == 'M' || category == "Nd" || category == "Nl" ||
         category == "Pc";
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsSurelyNfc(std::string_view text) {
  // Below U+0300 no character is a mark, and each is its own composed form; U+0300 begins with
  // 0xCC.
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

std::string NormalizeNfc(std::string_view text) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstUtf8(text.substr(at));
    Decompose(step.code_point, &points);
    at += step.bytes;
  }
  OrderMarks(&points);
  std::string out;
  out.reserve(text.size());
  // Composed in stretches that begin with a character that composes with nothing.
  for (auto begin = points.begin(); begin != points.end();) {
    const auto end = std::find_if(begin + 1, points.end(), ComposesWithNothing);
    Compose(&*begin, end - begin, &out);
    begin = end;
  }
  return out;
}

}  // namespace hga
