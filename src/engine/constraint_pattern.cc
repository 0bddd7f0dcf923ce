// SPDX-License-Identifier: Apache-2.0
// Parses patterns into trees and trees into automata: time and memory are bounded whatever the
// pattern, since nothing backtracks.
#include "engine/constraint_pattern.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "base/utf8.h"

namespace hga {
namespace {

constexpr int kMostRepeats = 1000;
constexpr int kDeepestGroup = 50;
constexpr int kWithoutEnd = -1;

struct Node {
  enum Kind { kChars, kSequence, kChoice, kRepeat } kind;
  CharSet set;                 // kChars
  std::vector<Node> children;  // of kRepeat one
  int least = 0, most = 0;     // kRepeat
};

// What every engine holds to be in a class, and what some do.
struct ClassSet {
  std::vector<CharRange> sure, perhaps;
};

const CharRange kBeyondAscii = {0x80, 0x10ffff};

ClassSet NamedClass(char name) {
  switch (name) {
    case 'd':
      return {{{'0', '9'}}, {kBeyondAscii}};
    case 'w':
      return {{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}, {kBeyondAscii}};
    default:
      return {{{'\t', '\r'}, {' ', ' '}},
              {{0x1c, 0x1f},
               {0x85, 0x85},
               {0xa0, 0xa0},
               {0x1680, 0x1680},
               {0x180e, 0x180e},
               {0x2000, 0x200b},
               {0x2028, 0x2029},
               {0x202f, 0x202f},
               {0x205f, 0x2060},
               {0x3000, 0x3000},
               {0xfeff, 0xfeff}}};
  }
}

CharSet SureComplement(const ClassSet& set) {
  std::vector<CharRange> all = set.sure;
  all.insert(all.end(), set.perhaps.begin(), set.perhaps.end());
  return Complement(MakeCharSet(std::move(all)));
}

class Parser {
 public:
  Parser(std::u32string text, std::string_view where) : text_(std::move(text)), where_(where) {}

  // Branches of the whole pattern, with what stands around an unanchored one.
  Result<Node> Whole() {
    Node whole{Node::kChoice, {}, {}};
    do {
      const bool at_start = Take('^');
      HGA_ASSIGN_OR_RETURN(Node branch, Sequence());
      const bool at_end = Take('$');
      if (!AtEnd() && Peek() != '|') return Unknown("this place");
      Node around{Node::kSequence, {}, {}};
      if (!at_start) around.children.push_back(Anything());
      around.children.push_back(std::move(branch));
      if (!at_end) around.children.push_back(Anything());
      whole.children.push_back(std::move(around));
    } while (Take('|'));
    return whole;
  }

 private:
  static Node Anything() {
    return {Node::kRepeat, {}, {{Node::kChars, Complement({}), {}}}, 0, kWithoutEnd};
  }
  bool AtEnd() const { return at_ >= text_.size(); }
  char32_t Peek() const { return text_[at_]; }
  bool Take(char32_t c) {
    if (AtEnd() || Peek() != c) return false;
    ++at_;
    return true;
  }
  Status Unknown(std::string_view what) const {
    std::string rest;
    for (size_t i = at_; i < text_.size() && i < at_ + 8; ++i) AppendUtf8(text_[i], &rest);
    return Unsupported(fmt::format("{}: pattern, character {}: {} is not understood, before \"{}\"",
                                   where_, at_, what, rest));
  }
  Status Bad(std::string_view what) const {
    return InvalidArgument(fmt::format("{}: pattern, character {}: {}", where_, at_, what));
  }

  Result<Node> Choice() {
    Node choice{Node::kChoice, {}, {}};
    do {
      HGA_ASSIGN_OR_RETURN(Node branch, Sequence());
      choice.children.push_back(std::move(branch));
    } while (Take('|'));
    return choice;
  }

  Result<Node> Sequence() {
    Node sequence{Node::kSequence, {}, {}};
    while (!AtEnd() && Peek() != '|' && Peek() != ')' && Peek() != '$') {
      HGA_ASSIGN_OR_RETURN(Node atom, Atom());
      HGA_ASSIGN_OR_RETURN(Node repeated, Repeated(std::move(atom)));
      sequence.children.push_back(std::move(repeated));
    }
    return sequence;
  }

  Result<Node> Repeated(Node atom) {
    int least = 1, most = 1;
    if (Take('*')) {
      least = 0, most = kWithoutEnd;
    } else if (Take('+')) {
      most = kWithoutEnd;
    } else if (Take('?')) {
      least = 0;
    } else if (Take('{')) {
      HGA_RETURN_IF_ERROR(Bounds(&least, &most));
    } else {
      return atom;
    }
    Take('?');  // which match is found first makes no difference here
    if (!AtEnd() && (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{')) {
      return Unknown("a quantifier of a quantifier");
    }
    Node repeat{Node::kRepeat, {}, {}, least, most};
    repeat.children.push_back(std::move(atom));
    return repeat;
  }

  // Behind `{`.
  Status Bounds(int* least, int* most) {
    HGA_RETURN_IF_ERROR(Number(least));
    *most = *least;
    if (Take(',')) {
      *most = kWithoutEnd;
      if (!AtEnd() && Peek() != '}') HGA_RETURN_IF_ERROR(Number(most));
    }
    if (!Take('}')) return Unknown("a brace that is no quantifier");
    if (*most != kWithoutEnd && *most < *least) return Bad("a quantifier's bounds are reversed");
    return OkStatus();
  }

  Status Number(int* value) {
    if (AtEnd() || Peek() < '0' || Peek() > '9') return Unknown("a brace that is no quantifier");
    *value = 0;
    while (!AtEnd() && Peek() >= '0' && Peek() <= '9') {
      *value = *value * 10 + static_cast<int>(text_[at_++] - '0');
      if (*value > kMostRepeats) {
        return Bad(fmt::format("more than {} repeats", kMostRepeats));
      }
    }
    return OkStatus();
  }

  Result<Node> Atom() {
    if (Take('(')) return Group();
    if (Take('[')) return Class();
    if (Take('.')) {
      return Node{Node::kChars, Complement({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}), {}};
    }
    if (Peek() == '^') return Unknown("an anchor inside a branch");
    if (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{') {
      return Unknown("a quantifier without anything to repeat");
    }
    if (Take('\\')) {
      HGA_ASSIGN_OR_RETURN(ClassSet set, Escape());
      return Node{Node::kChars, MakeCharSet(std::move(set.sure)), {}};
    }
    const char32_t c = text_[at_++];
    return Node{Node::kChars, {{c, c}}, {}};
  }

  Result<Node> Group() {
    if (Take('?') && !Take(':')) return Unknown("a group that begins with ?");
    if (++depth_ > kDeepestGroup) return Bad(fmt::format("more than {} groups", kDeepestGroup));
    HGA_ASSIGN_OR_RETURN(Node inside, Choice());
    if (!AtEnd() && Peek() == '$') return Unknown("an anchor inside a group");
    if (!Take(')')) return Bad("a group does not end");
    --depth_;
    return inside;
  }

  // Behind `[`.
  Result<Node> Class() {
    const bool negated = Take('^');
    if (!AtEnd() && Peek() == ']') return Unknown("an empty class");
    ClassSet set;
    while (!Take(']')) {
      if (AtEnd()) return Bad("a class does not end");
      HGA_ASSIGN_OR_RETURN(const ClassSet low, ClassItem());
      ClassSet item = low;
      if (at_ + 1 < text_.size() && Peek() == '-' && text_[at_ + 1] != ']') {
        ++at_;
        HGA_ASSIGN_OR_RETURN(const ClassSet high, ClassItem());
        if (!IsOne(low) || !IsOne(high)) return Unknown("a range between classes");
        if (low.sure[0].low > high.sure[0].low) return Bad("a range is reversed");
        item.sure[0].high = high.sure[0].low;
      }
      set.sure.insert(set.sure.end(), item.sure.begin(), item.sure.end());
      set.perhaps.insert(set.perhaps.end(), item.perhaps.begin(), item.perhaps.end());
    }
    CharSet chars = negated ? SureComplement(set) : MakeCharSet(std::move(set.sure));
    return Node{Node::kChars, std::move(chars), {}};
  }

  static bool IsOne(const ClassSet& set) {
    return set.perhaps.empty() && set.sure.size() == 1 && set.sure[0].low == set.sure[0].high;
  }

  Result<ClassSet> ClassItem() {
    if (AtEnd()) return Bad("a class does not end");
    if (Take('\\')) return Escape();
    if (Peek() == '[') return Unknown("[ inside a class");
    const char32_t c = text_[at_++];
    return ClassSet{{{c, c}}, {}};
  }

  // Behind a backslash.
  Result<ClassSet> Escape() {
    if (AtEnd()) return Bad("the pattern ends in a backslash");
    const char32_t c = text_[at_];
    static constexpr std::u32string_view kLetters = U"tnvfr";
    if (const size_t i = kLetters.find(c); i != kLetters.npos) {
      ++at_;
      const char32_t meant = U"\t\n\v\f\r"[i];
      return ClassSet{{{meant, meant}}, {}};
    }
    if (c == 'd' || c == 'w' || c == 's') {
      ++at_;
      return NamedClass(static_cast<char>(c));
    }
    if (c == 'D' || c == 'W' || c == 'S') {
      ++at_;
      const ClassSet named = NamedClass(static_cast<char>(c - 'A' + 'a'));
      return ClassSet{SureComplement(named), named.perhaps};
    }
    if (c == 'x' || c == 'u') {
      ++at_;
      return Hex(c == 'x' ? 2 : 4);
    }
    const bool is_word =
        c > 0x7f || c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    if (is_word) return Unknown("this escape");
    ++at_;
    return ClassSet{{{c, c}}, {}};
  }

  Result<ClassSet> Hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = AtEnd() ? U'?' : text_[at_];
      const char32_t lower = c | 0x20;
      if (c >= '0' && c <= '9') {
        value = value * 16 + (c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = value * 16 + (lower - 'a' + 10);
      } else {
        return Unknown(fmt::format("an escape without {} hexadecimal digits", digits));
      }
      ++at_;
    }
    if (value >= 0xd800 && value <= 0xdfff) return Unknown("half of a surrogate pair");
    return ClassSet{{{value, value}}, {}};
  }

  const std::u32string text_;
  const std::string_view where_;
  size_t at_ = 0;
  int depth_ = 0;
};

// Adds `node` between two states. Depth: that of groups.
void Build(const Node& node, int from, int to, CharNfa* nfa);

void BuildRepeat(const Node& node, int from, int to, CharNfa* nfa) {
  const Node& child = node.children[0];
  for (int i = 0; i < node.least && nfa->fits(); ++i) {
    const int next = nfa->NewState();
    Build(child, from, next, nfa);
    from = next;
  }
  if (node.most == kWithoutEnd) {
    const int loop = nfa->NewState();
    nfa->AddEmpty(from, loop);
    Build(child, loop, loop, nfa);
    nfa->AddEmpty(loop, to);
    return;
  }
  for (int i = node.least; i < node.most && nfa->fits(); ++i) {
    const int next = nfa->NewState();
    nfa->AddEmpty(from, to);
    Build(child, from, next, nfa);
    from = next;
  }
  nfa->AddEmpty(from, to);
}

void Build(const Node& node, int from, int to, CharNfa* nfa) {
  if (!nfa->fits()) return;
  switch (node.kind) {
    case Node::kChars:
      nfa->Add(from, node.set, to);
      return;
    case Node::kRepeat:
      BuildRepeat(node, from, to, nfa);
      return;
    case Node::kChoice:
      for (const Node& child : node.children) {
        const int start = nfa->NewState();  // of its own: loops at `from` stay outside
        nfa->AddEmpty(from, start);
        Build(child, start, to, nfa);
      }
      return;
    case Node::kSequence:
      for (const Node& child : node.children) {
        const int next = nfa->NewState();
        Build(child, from, next, nfa);
        from = next;
      }
      nfa->AddEmpty(from, to);
  }
}

#define HGA_DATE_PART                                                               \
  "((?:[1-9]\\d{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|"                 \
  "(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8])))|"                \
  "(?:(?:[1-9]\\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-" \
  "02-29))"
#define HGA_TIME_PART \
  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"

}  // namespace

Result<CharDfa> CompilePattern(std::string_view pattern, std::string_view where, int64_t* work) {
  Parser parser(Characters(pattern), where);
  HGA_ASSIGN_OR_RETURN(const Node whole, parser.Whole());
  CharNfa nfa;
  Build(whole, CharNfa::kStart, CharNfa::kEnd, &nfa);
  return Determinise(nfa, fmt::format("{}: the pattern", where), work);
}

std::optional<std::string_view> PatternOfFormat(std::string_view format) {
  if (format == "date") return "^" HGA_DATE_PART "$";
  if (format == "time") return "^" HGA_TIME_PART "$";
  if (format == "date-time") return "^" HGA_DATE_PART "T" HGA_TIME_PART "$";
  if (format == "uuid") {
    return "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
  }
  return std::nullopt;
}

}  // namespace hga
