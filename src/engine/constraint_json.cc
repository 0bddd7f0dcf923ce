// SPDX-License-Identifier: Apache-2.0
// JSON's lexical grammar over bytes: UTF-8, escapes, numbers with a bounded number of digits.
#include "engine/constraint_json.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace hga {
namespace {

constexpr int kMostIndent = 20;  // spaces
constexpr int kMostTabs = 10;

using Range = std::pair<uint8_t, uint8_t>;

// Characters low..high, without surrogates, as UTF-8. Ranges are cut until all their characters
// are products of byte ranges.
void AddUtf8(RuleDraft* draft, int from, char32_t low, char32_t high, int to) {
  for (const char32_t last : {0x7fU, 0x7ffU, 0xffffU}) {
    if (low <= last && last < high) {
      AddUtf8(draft, from, low, last, to);
      AddUtf8(draft, from, last + 1, high, to);
      return;
    }
  }
  if (high < 0x80) {
    draft->AddByte(from, static_cast<uint8_t>(low), static_cast<uint8_t>(high), to);
    return;
  }
  for (int i = 1; i < 4; ++i) {
    const char32_t mask = (char32_t{1} << (6 * i)) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if ((low & mask) != 0) {
      AddUtf8(draft, from, low, low | mask, to);
      AddUtf8(draft, from, (low | mask) + 1, high, to);
      return;
    }
    if ((high & mask) != mask) {
      AddUtf8(draft, from, low, (high & ~mask) - 1, to);
      AddUtf8(draft, from, high & ~mask, high, to);
      return;
    }
  }
  std::string first, last;
  AppendUtf8(low, &first);
  AppendUtf8(high, &last);
  for (size_t i = 0; i < first.size(); ++i) {
    const int next = i + 1 == first.size() ? to : draft->NewState();
    draft->AddByte(from, static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i]), next);
    from = next;
  }
}

void AddBeyondAscii(RuleDraft* draft, int from, int to) {
  AddUtf8(draft, from, 0x80, 0xd7ff, to);
  AddUtf8(draft, from, 0xe000, 0x10ffff, to);
}

// How a character below 0x80 that can't stand for itself is written.
std::string Escaped(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  }
}

bool MustEscape(char32_t c) { return c < 0x20 || c == '"' || c == '\\'; }

void AddHex(RuleDraft* draft, int from, int count, int to) {
  for (int i = 1; i <= count; ++i) {
    const int next = i == count ? to : draft->NewState();
    for (const Range& digits : {Range{'0', '9'}, Range{'a', 'f'}, Range{'A', 'F'}}) {
      draft->AddByte(from, digits.first, digits.second, next);
    }
    from = next;
  }
}

// Any escape; surrogates in pairs only.
void AddAnyEscape(RuleDraft* draft, int from, int to) {
  const int behind = draft->AddText(from, "\\");
  for (const char c : std::string_view("\"\\/bfnrt")) {
    draft->AddByte(behind, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
  }
  const int digits = draft->AddText(behind, "u");
  const int d = draft->NewState();
  for (const Range& not_d :
       {Range{'0', '9'}, Range{'a', 'c'}, Range{'A', 'C'}, Range{'e', 'f'}, Range{'E', 'F'}}) {
    const int rest = draft->NewState();
    draft->AddByte(digits, not_d.first, not_d.second, rest);
    AddHex(draft, rest, 3, to);
  }
  draft->AddByte(digits, 'd', 'd', d);
  draft->AddByte(digits, 'D', 'D', d);
  const int plain = draft->NewState(), high = draft->NewState(), low = draft->NewState();
  draft->AddByte(d, '0', '7', plain);
  AddHex(draft, plain, 2, to);
  for (const Range& pair : {Range{'8', '9'}, Range{'a', 'b'}, Range{'A', 'B'}}) {
    draft->AddByte(d, pair.first, pair.second, high);
  }
  AddHex(draft, high, 2, low);
  const int second = draft->AddText(low, "\\u");
  const int second_d = draft->NewState(), end = draft->NewState();
  draft->AddByte(second, 'd', 'd', second_d);
  draft->AddByte(second, 'D', 'D', second_d);
  draft->AddByte(second_d, 'c', 'f', end);
  draft->AddByte(second_d, 'C', 'F', end);
  AddHex(draft, end, 2, to);
}

void AddPlainAscii(RuleDraft* draft, int from, int to) {
  for (const Range& plain : {Range{0x20, 0x21}, Range{0x23, 0x5b}, Range{0x5d, 0x7f}}) {
    draft->AddByte(from, plain.first, plain.second, to);
  }
}

// `least` to `most` digits.
void AddDigits(RuleDraft* draft, int from, int least, int most, int to) {
  for (int i = 0; i < most; ++i) {
    if (i >= least) draft->AddEmpty(from, to);
    const int next = draft->NewState();
    draft->AddByte(from, '0', '9', next);
    from = next;
  }
  draft->AddEmpty(from, to);
}

// A whole number of at most `digits` digits with an optional sign.
void AddWhole(RuleDraft* draft, int from, int digits, int to) {
  const int first = draft->NewState(), rest = draft->NewState();
  draft->AddByte(from, '-', '-', first);
  draft->AddEmpty(from, first);
  draft->AddByte(first, '0', '0', to);
  draft->AddByte(first, '1', '9', rest);
  AddDigits(draft, rest, 0, digits - 1, to);
}

void FillNumber(RuleDraft* draft, int from, int to) {
  const int whole = draft->NewState(), decimals = draft->NewState(), exponent = draft->NewState();
  AddWhole(draft, from, 15, whole);
  draft->AddEmpty(whole, decimals);
  AddDigits(draft, draft->AddText(whole, "."), 1, 15, decimals);
  draft->AddEmpty(decimals, to);
  draft->AddByte(decimals, 'e', 'e', exponent);
  draft->AddByte(decimals, 'E', 'E', exponent);
  const int digits = draft->NewState();
  draft->AddEmpty(exponent, digits);
  draft->AddByte(exponent, '+', '+', digits);
  draft->AddByte(exponent, '-', '-', digits);
  AddDigits(draft, digits, 1, 2, to);
}

void FillBlanks(RuleDraft* draft, int from, int to) {
  draft->AddByte(from, ' ', ' ', to);
  const int line = draft->AddText(from, "\n");
  draft->AddEmpty(line, to);
  for (const auto& [blank, most] : {std::pair(' ', kMostIndent), std::pair('\t', kMostTabs)}) {
    int at = line;
    for (int i = 0; i < most; ++i) {
      at = draft->AddText(at, std::string_view(&blank, 1));
      draft->AddEmpty(at, to);
    }
  }
}

bool Covers(const CharSet& set, char32_t low, char32_t high) {
  return std::any_of(set.begin(), set.end(), [=](const CharRange& range) {
    return range.low <= low && high <= range.high;
  });
}

int64_t PowerOfTen(int exponent) {
  int64_t power = 1;
  while (exponent-- > 0) power *= 10;
  return power;
}

// The digits of one number of digits before the point, each as far as it is bound from below and
// above by those in front of it.
class DecimalWriter {
 public:
  DecimalWriter(RuleDraft* draft, std::string low, std::string high, size_t point, int to)
      : draft_(*draft), low_(std::move(low)), high_(std::move(high)), point_(point), to_(to) {}

  void Write(int from) { Add(from, 0, true, true); }

 private:
  int State(size_t at, bool low_binds, bool high_binds) {
    const auto [it, is_new] = states_.try_emplace({at, low_binds, high_binds}, 0);
    if (is_new) {
      it->second = draft_.NewState();
      const int state = it->second;
      Add(state, at, low_binds, high_binds);
      return state;
    }
    return it->second;
  }

  // Depth: the number of digits.
  void Add(int state, size_t at, bool low_binds, bool high_binds) {
    const bool zeros_will_do = !low_binds || low_.find_first_not_of('0', at) == low_.npos;
    if (at >= point_ && zeros_will_do) draft_.AddEmpty(state, to_);
    if (at == low_.size()) return;
    if (at == point_) state = draft_.AddText(state, ".");
    const char low = low_binds ? low_[at] : '0', high = high_binds ? high_[at] : '9';
    for (char digit = low; digit <= high; ++digit) {
      const int next = State(at + 1, low_binds && digit == low, high_binds && digit == high);
      draft_.AddByte(state, static_cast<uint8_t>(digit), static_cast<uint8_t>(digit), next);
    }
  }

  RuleDraft& draft_;
  const std::string low_, high_;  // of equal length
  const size_t point_;
  const int to_;
  std::map<std::tuple<size_t, bool, bool>, int> states_;
};

// low and high are not negative.
void AddMagnitudes(RuleDraft* draft, int from, const DecimalRange& range, int to) {
  for (int digits = 1; digits <= range.digits; ++digits) {
    const int all = digits + range.decimals;
    const int64_t least = digits == 1 ? 0 : PowerOfTen(all - 1);
    const int64_t low = std::max(range.low, least);
    const int64_t high = std::min(range.high, PowerOfTen(all) - 1);
    if (low > high) continue;
    DecimalWriter(draft, fmt::format("{:0{}}", low, all), fmt::format("{:0{}}", high, all),
                  static_cast<size_t>(digits), to)
        .Write(from);
  }
}

}  // namespace

int JsonRules::Get(Kind kind) {
  int& rule = rules_[kind];
  if (rule >= 0) return rule;
  rule = machine_.NewRule();
  if (rule < 0) {
    if (status_.ok()) status_ = InvalidArgument("the schema needs too many rules");
    return rule;
  }
  RuleDraft draft;
  Fill(kind, &draft);
  const int made = rule;
  if (Status set = machine_.SetRule(made, draft); status_.ok()) status_ = std::move(set);
  return made;
}

void JsonRules::Fill(Kind kind, RuleDraft* draft) {
  constexpr int kStart = RuleDraft::kStart, kEnd = RuleDraft::kEnd;
  switch (kind) {
    case kBlanks:
      FillBlanks(draft, kStart, kEnd);
      return;
    case kString: {
      const int inside = draft->AddText(kStart, "\"");
      AddPlainAscii(draft, inside, inside);
      AddBeyondAscii(draft, inside, inside);
      AddAnyEscape(draft, inside, inside);
      draft->AddByte(inside, '"', '"', kEnd);
      return;
    }
    case kNumber:
      FillNumber(draft, kStart, kEnd);
      return;
    case kInteger:
      AddWhole(draft, kStart, 18, kEnd);
      return;
    case kBeyondAscii:
      AddBeyondAscii(draft, kStart, kEnd);
      return;
    case kEscape:
      for (char32_t c = 0; c < 0x80; ++c) {
        if (MustEscape(c)) draft->AddTextTo(kStart, Escaped(c), kEnd);
      }
      return;
    case kLongChar:
      AddBeyondAscii(draft, kStart, kEnd);
      AddAnyEscape(draft, kStart, kEnd);
      return;
    case kKinds:
      return;
  }
}

int JsonRules::AddBlanks(RuleDraft* draft, int from) {
  const int to = draft->NewState();
  draft->AddEmpty(from, to);
  draft->AddCall(from, Blanks(), to);
  return to;
}

void JsonRules::AddSized(RuleDraft* draft, int from, int64_t least, int64_t most, int to) {
  from = draft->AddText(from, "\"");
  const int64_t last = most < 0 ? least : most;
  for (int64_t i = 0; i <= last && draft->fits(); ++i) {
    if (i >= least) draft->AddByte(from, '"', '"', to);
    if (i == last && most >= 0) break;
    const int next = i == last ? from : draft->NewState();
    AddPlainAscii(draft, from, next);
    draft->AddCall(from, Get(kLongChar), next);
    from = next;
  }
}

void JsonRules::AddSet(RuleDraft* draft, int from, const CharSet& set, int to) {
  const bool all_beyond = Covers(set, 0x80, 0xd7ff) && Covers(set, 0xe000, 0x10ffff);
  const bool all_escapes = Covers(set, 0, 0x1f) && Covers(set, '"', '"') && Covers(set, '\\', '\\');
  if (all_beyond) draft->AddCall(from, Get(kBeyondAscii), to);
  if (all_escapes) draft->AddCall(from, Get(kEscape), to);
  for (const CharRange& range : set) {
    for (char32_t c = range.low; c <= std::min<char32_t>(range.high, 0x7f); ++c) {
      if (!MustEscape(c)) {
        draft->AddByte(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
      } else if (!all_escapes) {
        draft->AddTextTo(from, Escaped(c), to);
      }
    }
    if (range.high >= 0x80 && !all_beyond) {
      AddUtf8(draft, from, std::max<char32_t>(range.low, 0x80), range.high, to);
    }
  }
}

void JsonRules::AddChars(RuleDraft* draft, int from, const CharDfa& dfa, int to) {
  std::vector<int> states = {from};
  while (states.size() < dfa.states.size()) states.push_back(draft->NewState());
  for (size_t id = 0; id < dfa.states.size() && draft->fits(); ++id) {
    std::map<int, std::vector<CharRange>> sets;
    for (const CharDfa::Edge& edge : dfa.states[id].edges) {
      sets[edge.target].push_back({edge.low, edge.high});
    }
    for (auto& [target, ranges] : sets) {
      AddSet(draft, states[id], MakeCharSet(std::move(ranges)),
             states[static_cast<size_t>(target)]);
    }
    if (dfa.states[id].accepts) draft->AddByte(states[id], '"', '"', to);
  }
}

void AddDecimals(RuleDraft* draft, int from, const DecimalRange& range, int to) {
  DecimalRange part = range;
  if (range.high >= 0) {
    part.low = std::max<int64_t>(range.low, 0);
    AddMagnitudes(draft, from, part, to);
  }
  if (range.low < 0) {
    part.low = std::max<int64_t>(-range.high, 1);
    part.high = -range.low;
    AddMagnitudes(draft, draft->AddText(from, "-"), part, to);
  }
}

std::string QuoteJson(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && MustEscape(byte)) {
      quoted += Escaped(byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace hga
