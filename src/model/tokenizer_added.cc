// SPDX-License-Identifier: Apache-2.0
// The search narrows a range of the sorted contents byte by byte, so 100,000 tokens with a common
// beginning cost a logarithm each step and no memory beside the contents.
#include "model/tokenizer_added.h"

#include <algorithm>

#include "base/utf8.h"
#include "model/tokenizer_unicode.h"

namespace hga {
namespace {

// The last character of a well-formed, non-empty text.
std::string_view LastCharacter(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return text.substr(begin);
}

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  const std::string_view before = text.substr(0, begin);
  const std::string_view behind = text.substr(end);
  const bool joined_before =
      !before.empty() && IsWordCharacter(FirstUtf8(LastCharacter(before)).code_point);
  return !joined_before && (behind.empty() || !IsWordCharacter(FirstUtf8(behind).code_point));
}

// At least `floor`.
size_t StripLeft(std::string_view text, size_t begin, size_t floor) {
  if (begin < floor) return floor;
  while (begin > floor) {
    const std::string_view last = LastCharacter(text.substr(floor, begin - floor));
    if (!IsWhiteSpace(FirstUtf8(last).code_point)) break;
    begin -= last.size();
  }
  return begin;
}

size_t StripRight(std::string_view text, size_t end) {
  while (end < text.size()) {
    const Utf8Step step = FirstUtf8(text.substr(end));
    if (!IsWhiteSpace(step.code_point)) break;
    end += step.bytes;
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  const auto less = [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; };
  const auto same = [](const AddedToken& a, const AddedToken& b) { return a.content == b.content; };
  std::stable_sort(tokens_.begin(), tokens_.end(), less);
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    Range& range = by_first_byte_[static_cast<unsigned char>(tokens_[i].content[0])];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
    has_special_ |= tokens_[i].special;
  }
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text, size_t at) const {
  const Range first = by_first_byte_[static_cast<unsigned char>(text[at])];
  auto low = tokens_.begin() + static_cast<std::ptrdiff_t>(first.begin);
  auto high = tokens_.begin() + static_cast<std::ptrdiff_t>(first.end);
  const AddedToken* longest = nullptr;
  // All of [low, high) agree with the text in the first `depth` bytes.
  for (size_t depth = 1; low != high; ++depth) {
    if (low->content.size() == depth) longest = &*low++;
    if (at + depth == text.size()) break;
    const unsigned char wanted = static_cast<unsigned char>(text[at + depth]);
    const auto byte = [depth](const AddedToken& token) {
      return static_cast<unsigned char>(token.content[depth]);
    };
    low = std::partition_point(low, high, [&](const AddedToken& t) { return byte(t) < wanted; });
    high = std::partition_point(low, high, [&](const AddedToken& t) { return byte(t) == wanted; });
  }
  return longest;
}

const AddedToken* AddedTokenFinder::TokenAt(std::string_view text, size_t at,
                                            const TextRange* trusted, size_t* next) const {
  const AddedToken* token = LongestAt(text, at);
  if (token == nullptr) {
    *next = at + 1;
    return nullptr;
  }
  *next = at + token->content.size();
  if (!token->special) return token;
  if (trusted == nullptr) return nullptr;
  if (at < trusted->begin) {
    *next = std::min(*next, trusted->begin);
    return nullptr;
  }
  if (*next <= trusted->end) return token;
  // It runs out of the range: a shorter one may lie inside.
  token = LongestAt(text.substr(0, trusted->end), at);
  *next = token == nullptr ? at + 1 : at + token->content.size();
  return token;
}

std::vector<AddedTokenFinder::Segment> AddedTokenFinder::Split(
    std::string_view text, std::span<const TextRange> trusted) const {
  std::vector<Segment> segments;
  size_t emitted = 0;
  size_t range = 0;
  if (tokens_.empty() && !text.empty()) return {{std::nullopt, text}};
  for (size_t at = 0; at < text.size();) {
    while (range < trusted.size() && trusted[range].end <= at) ++range;
    size_t begin = at;
    const AddedToken* token =
        TokenAt(text, begin, range < trusted.size() ? &trusted[range] : nullptr, &at);
    if (token == nullptr) continue;
    size_t end = at;
    if (token->single_word && !StandsAlone(text, begin, end)) continue;
    if (token->lstrip) begin = StripLeft(text, begin, emitted);
    if (token->rstrip) end = StripRight(text, end);
    // White space that the token before has taken stays with it; nothing may be left of this one.
    if (begin >= end) continue;
    if (emitted < begin) segments.push_back({std::nullopt, text.substr(emitted, begin - emitted)});
    segments.push_back({token->id, text.substr(begin, end - begin)});
    emitted = end;
  }
  if (emitted < text.size()) segments.push_back({std::nullopt, text.substr(emitted)});
  return segments;
}

}  // namespace hga
