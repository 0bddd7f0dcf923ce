// SPDX-License-Identifier: Apache-2.0
// Oniguruma to PCRE2: the two read some spellings differently and know different Unicode versions,
// so a pattern is rewritten on load, and refused where no rewriting is known.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/file.h"
#include "base/utf8.h"
#include "model/tokenizer_regex.h"
#include "model/tokenizer_unicode.h"

namespace hga {
namespace {

constexpr size_t kPatternBytesMax = 8192;
constexpr size_t kGroupDepthMax = 32;
constexpr int kCountMax = 1000;
// Per top-level alternative; the patterns of published checkpoints have at most 2 and 4.
constexpr int kUnboundedMax = 4;
constexpr int kVariableMax = 10;

// PCRE2's \s has U+180E in it, Oniguruma's (Unicode White_Space) has not.
constexpr std::string_view kSpace =
    R"(\x{09}-\x{0d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{00}-\x{08}\x{0e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

constexpr std::array<std::string_view, 32> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P",  "Pc",
    "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", ""};

// Ranges that bring PCRE2's category up to the newer Unicode version, neighbours joined.
std::string AdditionsOf(std::string_view category) {
  std::string out;
  const auto ranges = UnicodeAdditions();
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (!std::string_view(ranges[i].category).starts_with(category)) continue;
    const char32_t first = ranges[i].first;
    while (i + 1 < ranges.size() && ranges[i + 1].first == ranges[i].last + 1 &&
           std::string_view(ranges[i + 1].category).starts_with(category)) {
      ++i;
    }
    out += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<uint32_t>(first),
                       static_cast<uint32_t>(ranges[i].last));
  }
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool IsLetterOrDigit(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : source_(pattern), where_(where) {}

  Result<std::string> Run() {
    while (at_ < source_.size()) HGA_RETURN_IF_ERROR(Element());
    if (!groups_.empty()) return Refuse("a group that is not closed", source_.size());
    return std::move(out_);
  }

 private:
  enum class Atom { kNone, kSingle, kGroup, kRepeatingGroup };

  Status Refuse(std::string_view what, size_t offset) const {
    return Unsupported(
        fmt::format("{}: pattern offset {}: {} is not supported", where_, offset, what));
  }

  char Peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }

  Status Element() {
    switch (Peek()) {
      case '\\':
        atom_ = Atom::kSingle;
        return Escape(false);
      case '[':
        atom_ = Atom::kSingle;
        return Class();
      case '(':
        return OpenGroup();
      case ')':
        return CloseGroup();
      case '*':
      case '+':
      case '?':
        return Repeat();
      case '{':
        return CountedRepeat();
      case '|':
        if (groups_.empty()) variable_ = unbounded_ = 0;
        atom_ = Atom::kNone;
        break;
      case '^':
      case '$':
        atom_ = Atom::kNone;
        break;
      default:
        atom_ = Atom::kSingle;
    }
    out_ += source_[at_++];
    return OkStatus();
  }

  Status OpenGroup() {
    static constexpr std::array<std::string_view, 8> kOpeners = {"(?:",  "(?=",  "(?!",  "(?>",
                                                                 "(?<=", "(?<!", "(?i:", "(?-i:"};
    if (groups_.size() >= kGroupDepthMax) return Refuse("a deeper nesting of groups than 32", at_);
    if (at_ == 0 && source_.starts_with("(?i)")) {
      out_ += "(?i)";
      at_ += 4;
      return OkStatus();
    }
    std::string_view opener = "(?:";
    size_t length = 1;
    if (Peek(1) == '?' || Peek(1) == '*') {
      const std::string_view rest = source_.substr(at_);
      const auto known = std::find_if(kOpeners.begin(), kOpeners.end(),
                                      [&](std::string_view o) { return rest.starts_with(o); });
      if (known == kOpeners.end()) return Refuse("the group " + Quoted(rest.substr(0, 4)), at_);
      opener = *known;
      length = opener.size();
    }
    out_ += opener;
    at_ += length;
    groups_.push_back(false);
    atom_ = Atom::kNone;
    return OkStatus();
  }

  Status CloseGroup() {
    if (groups_.empty()) return Refuse("a ) without its (", at_);
    const bool repeats = groups_.back();
    groups_.pop_back();
    if (repeats && !groups_.empty()) groups_.back() = true;
    atom_ = repeats ? Atom::kRepeatingGroup : Atom::kGroup;
    out_ += source_[at_++];
    return OkStatus();
  }

  Status CountVariable(bool unbounded, size_t offset) {
    if (atom_ == Atom::kNone) return Refuse("a repeat of nothing", offset);
    if (unbounded && atom_ == Atom::kRepeatingGroup) {
      return Refuse("a repeat of a group that has a repeat in it", offset);
    }
    variable_ += 1;
    unbounded_ += unbounded ? 1 : 0;
    if (unbounded_ > kUnboundedMax) return Refuse("more than 4 open repeats in a row", offset);
    if (variable_ > kVariableMax) return Refuse("more than 10 repeats in a row", offset);
    if (unbounded && !groups_.empty()) groups_.back() = true;
    return OkStatus();
  }

  Status Repeat() {
    const char kind = Peek();
    HGA_RETURN_IF_ERROR(CountVariable(kind != '?', at_));
    out_ += source_[at_++];
    if (Peek() == '?' || Peek() == '+') out_ += source_[at_++];  // lazy or possessive, in both
    atom_ = Atom::kNone;
    return OkStatus();
  }

  std::optional<int> Number() {
    int value = 0;
    const size_t start = at_;
    while (IsDigit(Peek()) && value <= kCountMax) value = value * 10 + (source_[at_++] - '0');
    if (at_ == start || value > kCountMax) return std::nullopt;
    return value;
  }

  // {n}, {n,} and {n,m}. "{,m}" and a lazy or possessive sign behind mean different things in the
  // two engines.
  Status CountedRepeat() {
    const size_t start = at_++;
    const std::optional<int> low = Number();
    bool unbounded = false;
    std::optional<int> high = low;
    if (low && Peek() == ',') {
      ++at_;
      unbounded = Peek() == '}';
      if (!unbounded) high = Number();
    }
    const bool closed = Peek() == '}';
    if (closed) ++at_;
    const bool signed_behind = Peek() == '?' || Peek() == '+';
    if (!low || !high || !closed || signed_behind || *high < *low) {
      return Refuse("the repeat " + Quoted(source_.substr(start, 12)), start);
    }
    if (atom_ == Atom::kRepeatingGroup && (unbounded || *high > 1)) {
      return Refuse("a repeat of a group that has a repeat in it", start);
    }
    HGA_RETURN_IF_ERROR(CountVariable(unbounded, start));
    out_ += source_.substr(start, at_ - start);
    atom_ = Atom::kNone;
    return OkStatus();
  }

  Status Class() {
    const size_t start = at_;
    out_ += source_[at_++];
    if (Peek() == '^') out_ += source_[at_++];
    if (Peek() == ']') return Refuse("a class that begins with ]", at_);
    while (at_ < source_.size() && Peek() != ']') {
      if (Peek() == '[') return Refuse("a class inside a class", at_);
      if (Peek() == '&' && Peek(1) == '&') return Refuse("&& inside a class", at_);
      if (Peek() == '\\') {
        HGA_RETURN_IF_ERROR(Escape(true));
      } else {
        out_ += source_[at_++];
      }
    }
    if (at_ == source_.size()) return Refuse("a class that is not closed", start);
    out_ += source_[at_++];
    return OkStatus();
  }

  // A set of characters can't be the end of a range; the engines differ in what they make of it.
  Status CheckNoRange(size_t start) const {
    const bool before = start > 0 && source_[start - 1] == '-';
    const bool behind = Peek() == '-' && Peek(1) != ']';
    if (before || behind) return Refuse("a - beside a set of characters", start);
    return OkStatus();
  }

  Status AddSet(std::string_view members, bool negated, bool in_class, size_t start) {
    if (in_class) {
      out_ += members;
      return CheckNoRange(start);
    }
    out_ += negated ? "[^" : "[";
    out_ += members;
    out_ += ']';
    return OkStatus();
  }

  Status Category(size_t start, bool negated, bool in_class, std::string_view name) {
    if (name.empty() ||
        std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
      return Refuse("\\p{" + Quoted(name) + "}", start);
    }
    if (negated && in_class) return Refuse("\\P inside a class", start);
    return AddSet(fmt::format("\\p{{{}}}{}", name, AdditionsOf(name)), negated, in_class, start);
  }

  Status Property(size_t start, bool negated, bool in_class) {
    const size_t close = source_.find('}', at_);
    if (Peek() != '{' || close == std::string_view::npos || close - at_ > 64) {
      return Refuse("\\p without {name}", start);
    }
    const std::string_view name = source_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    return Category(start, negated, in_class, name);
  }

  // \xHH, \x{H...} and \uHHHH, all written as \x{...}.
  Status CodePoint(size_t start, char kind) {
    size_t digits = kind == 'u' ? 4 : 2;
    const bool braces = kind == 'x' && Peek() == '{';
    if (braces) {
      const size_t close = source_.find('}', at_);
      digits = close == std::string_view::npos ? 0 : close - at_ - 1;
      ++at_;
    }
    uint32_t value = 0;
    size_t seen = 0;
    for (; seen < digits && seen < 8 && IsHex(Peek()); ++seen) {
      const char c = source_[at_++];
      value = value * 16 + static_cast<uint32_t>(IsDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (seen == 0 || seen != digits || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000) ||
        (kind == 'x' && !braces && value > 0x7F)) {
      return Refuse("the escape " + Quoted(source_.substr(start, 8)), start);
    }
    if (braces) ++at_;
    out_ += fmt::format("\\x{{{:x}}}", value);
    return OkStatus();
  }

  Status Escape(bool in_class) {
    const size_t start = at_;
    if (at_ + 1 == source_.size()) return Refuse("a \\ at the end", at_);
    const char c = source_[at_ + 1];
    at_ += 2;
    switch (c) {
      case 's':
        return AddSet(kSpace, false, in_class, start);
      case 'S':
        return AddSet(kNotSpace, false, in_class, start);
      case 'd':
      case 'D':
        return Category(start, c == 'D', in_class, "Nd");
      case 'p':
      case 'P':
        return Property(start, c == 'P', in_class);
      case 'x':
      case 'u':
        return CodePoint(start, c);
      case 'v':
        out_ += "\\x{0b}";
        return OkStatus();
      default:
        break;
    }
    if (IsDigit(c))
      return Refuse("the back-reference or octal escape \\" + std::string(1, c), start);
    const std::string_view known = in_class ? "rntfae" : "rntfaeAzZ";
    if (IsLetterOrDigit(c) && known.find(c) == std::string_view::npos) {
      return Refuse("the escape \\" + std::string(1, c), start);
    }
    if (c == 'A' || c == 'z' || c == 'Z') atom_ = Atom::kNone;
    out_ += source_.substr(start, 2);
    return OkStatus();
  }

  std::string_view source_;
  std::string where_;
  std::string out_;
  size_t at_ = 0;
  std::vector<bool> groups_;  // of each open group, whether an open repeat is in it
  Atom atom_ = Atom::kNone;   // what a repeat that comes now would repeat
  int variable_ = 0;
  int unbounded_ = 0;
};

}  // namespace

Result<std::string> TranslatePattern(std::string_view pattern, const std::string& where) {
  if (pattern.size() > kPatternBytesMax) {
    return Unsupported(fmt::format("{}: the pattern has {} bytes, at most {} are supported", where,
                                   pattern.size(), kPatternBytesMax));
  }
  if (const auto bad = FindInvalidUtf8(pattern)) {
    return DataLoss(fmt::format("{}: pattern offset {}: not UTF-8", where, *bad));
  }
  return Translator(pattern, where).Run();
}

}  // namespace hga
