// SPDX-License-Identifier: Apache-2.0
// Regular languages over Unicode characters: what a string may say, before it is written as JSON.
#ifndef HGA_ENGINE_CONSTRAINT_CHARS_H_
#define HGA_ENGINE_CONSTRAINT_CHARS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

inline constexpr int kMostCharStates = 50'000;  // of one language

struct CharRange {
  char32_t low, high;
  bool operator==(const CharRange&) const = default;
};

// Ascending, apart from each other, without surrogates.
using CharSet = std::vector<CharRange>;
// Sorts, joins and takes surrogates out.
CharSet MakeCharSet(std::vector<CharRange> ranges);
CharSet Complement(const CharSet& set);

// Non-deterministic: states are numbers, 0 starts and 1 ends.
class CharNfa {
 public:
  struct Edge {
    char32_t low, high;  // low > high: no character
    int target;
  };
  static constexpr int kStart = 0, kEnd = 1;
  CharNfa() : states_(2) {}
  int NewState();
  void Add(int from, const CharSet& set, int to);
  void AddEmpty(int from, int to) { AddEdge(from, {1, 0, to}); }
  bool fits() const { return fits_; }  // false: too large, later additions are lost
  std::span<const Edge> edges(int state) const { return states_[static_cast<size_t>(state)]; }
  int size() const { return static_cast<int>(states_.size()); }

 private:
  void AddEdge(int from, Edge edge);

  std::vector<std::vector<Edge>> states_;
  int edge_count_ = 0;
  bool fits_ = true;
};

// Deterministic; state 0 starts.
struct CharDfa {
  struct Edge {
    char32_t low, high;
    int target;
  };
  struct State {
    std::vector<Edge> edges;  // ascending, apart from each other
    bool accepts = false;
  };
  std::vector<State> states;

  bool Matches(std::u32string_view text) const;
};

// As below: kInvalidArgument beyond kMostCharStates or when `work`, of which the steps taken are
// subtracted, falls below 0; `what` names the language in the message.
Result<CharDfa> Determinise(const CharNfa& nfa, std::string_view what, int64_t* work);
Result<CharDfa> Intersect(const CharDfa& a, const CharDfa& b, std::string_view what, int64_t* work);
// Texts of `least` to `most` characters; most < 0: without end.
Result<CharDfa> LengthBetween(int64_t least, int64_t most, std::string_view what, int64_t* work);
// Every text that is not one of `texts`.
Result<CharDfa> AllTextsBut(std::span<const std::u32string> texts, std::string_view what);

// Characters of valid UTF-8.
std::u32string Characters(std::string_view text);

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_CHARS_H_
