// SPDX-License-Identifier: Apache-2.0
// Validation and decoding of UTF-8, one character at a time with an ASCII fast path.
#include "base/utf8.h"

#include <cstdint>
#include <cstring>

namespace hga {
namespace {

// Number of leading ASCII bytes, found eight at a time.
size_t AsciiPrefix(std::string_view text) {
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

struct LeadByte {
  int length;                // 0: cannot start a character
  unsigned char second_min;  // the second byte's range rules out overlong forms, surrogates
  unsigned char second_max;  // and code points beyond U+10FFFF
  char32_t bits;
};

LeadByte Classify(unsigned char b) {
  if (b < 0x80) return {1, 0, 0, b};
  if (b < 0xC2) return {0, 0, 0, 0};
  if (b < 0xE0) return {2, 0x80, 0xBF, b & 0x1Fu};
  if (b < 0xF0) {
    const unsigned char low = b == 0xE0 ? 0xA0 : 0x80;
    const unsigned char high = b == 0xED ? 0x9F : 0xBF;
    return {3, low, high, b & 0x0Fu};
  }
  if (b > 0xF4) return {0, 0, 0, 0};
  const unsigned char low = b == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = b == 0xF4 ? 0x8F : 0xBF;
  return {4, low, high, b & 0x07u};
}

}  // namespace

Utf8Step FirstUtf8(std::string_view text) {
  const LeadByte lead = Classify(static_cast<unsigned char>(text[0]));
  if (lead.length == 0) return {Utf8Kind::kInvalid, 0, 1};
  char32_t code_point = lead.bits;
  for (int i = 1; i < lead.length; ++i) {
    const size_t index = static_cast<size_t>(i);
    if (index == text.size()) return {Utf8Kind::kIncomplete, 0, index};
    const unsigned char b = static_cast<unsigned char>(text[index]);
    const unsigned char low = i == 1 ? lead.second_min : 0x80;
    const unsigned char high = i == 1 ? lead.second_max : 0xBF;
    if (b < low || b > high) return {Utf8Kind::kInvalid, 0, index};
    code_point = code_point << 6 | (b & 0x3Fu);
  }
  return {Utf8Kind::kCharacter, code_point, static_cast<size_t>(lead.length)};
}

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (true) {
    at += AsciiPrefix(text.substr(at));
    if (at == text.size()) return std::nullopt;
    while (at < text.size() && static_cast<unsigned char>(text[at]) >= 0x80) {
      const Utf8Step step = FirstUtf8(text.substr(at));
      if (step.kind != Utf8Kind::kCharacter) return at;
      at += step.bytes;
    }
  }
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const uint32_t c = code_point;
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | c >> 12));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | c >> 18));
    out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

bool IsAscii(std::string_view text) { return AsciiPrefix(text) == text.size(); }

}  // namespace hga
