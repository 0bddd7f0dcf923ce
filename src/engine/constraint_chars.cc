// SPDX-License-Identifier: Apache-2.0
// Sets and automata of characters.
#include "engine/constraint_chars.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/utf8.h"

namespace hga {
namespace {

constexpr char32_t kLast = 0x10ffff;
constexpr char32_t kBeforeSurrogates = 0xd7ff, kBehindSurrogates = 0xe000;
constexpr int kMostEdges = 8 * kMostCharStates;

Status TooLarge(std::string_view what) {
  return InvalidArgument(
      fmt::format("{} needs more than {} states of an automaton", what, kMostCharStates));
}

using Subset = std::vector<int>;

// Adds what is reached without a character; sorts.
void Close(const CharNfa& nfa, Subset* subset) {
  std::sort(subset->begin(), subset->end());
  subset->erase(std::unique(subset->begin(), subset->end()), subset->end());
  std::vector<bool> seen(static_cast<size_t>(nfa.size()), false);
  for (const int id : *subset) seen[static_cast<size_t>(id)] = true;
  for (size_t i = 0; i < subset->size(); ++i) {
    for (const CharNfa::Edge& edge : nfa.edges((*subset)[i])) {
      if (edge.low <= edge.high || seen[static_cast<size_t>(edge.target)]) continue;
      seen[static_cast<size_t>(edge.target)] = true;
      subset->push_back(edge.target);
    }
  }
  std::sort(subset->begin(), subset->end());
}

void AddEdge(CharDfa::Edge edge, CharDfa::State* state) {
  if (!state->edges.empty() && state->edges.back().target == edge.target &&
      state->edges.back().high + 1 == edge.low) {
    state->edges.back().high = edge.high;
  } else {
    state->edges.push_back(edge);
  }
}

// The characters between cuts that `edges` make, ascending.
std::vector<CharRange> Pieces(std::span<const CharNfa::Edge> edges) {
  std::vector<char32_t> cuts;
  for (const CharNfa::Edge& edge : edges) {
    cuts.push_back(edge.low);
    cuts.push_back(edge.high + 1);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  std::vector<CharRange> pieces;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) pieces.push_back({cuts[i], cuts[i + 1] - 1});
  return pieces;
}

}  // namespace

CharSet MakeCharSet(std::vector<CharRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CharRange& a, const CharRange& b) { return a.low < b.low; });
  CharSet joined;
  for (const CharRange& range : ranges) {
    if (!joined.empty() && range.low <= joined.back().high + 1) {
      joined.back().high = std::max(joined.back().high, range.high);
    } else {
      joined.push_back(range);
    }
  }
  CharSet set;
  for (const CharRange& range : joined) {
    if (range.low <= kBeforeSurrogates) {
      set.push_back({range.low, std::min(range.high, kBeforeSurrogates)});
    }
    if (range.high >= kBehindSurrogates) {
      set.push_back({std::max(range.low, kBehindSurrogates), range.high});
    }
  }
  return set;
}

CharSet Complement(const CharSet& set) {
  std::vector<CharRange> gaps;
  char32_t next = 0;
  for (const CharRange& range : set) {
    if (range.low > next) gaps.push_back({next, range.low - 1});
    next = range.high + 1;
  }
  if (next <= kLast) gaps.push_back({next, kLast});
  return MakeCharSet(std::move(gaps));
}

int CharNfa::NewState() {
  if (size() >= kMostCharStates) {
    fits_ = false;
    return kEnd;
  }
  states_.emplace_back();
  return size() - 1;
}

void CharNfa::Add(int from, const CharSet& set, int to) {
  for (const CharRange& range : set) AddEdge(from, {range.low, range.high, to});
}

void CharNfa::AddEdge(int from, Edge edge) {
  if (edge_count_ >= kMostEdges) {
    fits_ = false;
    return;
  }
  ++edge_count_;
  states_[static_cast<size_t>(from)].push_back(edge);
}

bool CharDfa::Matches(std::u32string_view text) const {
  size_t at = 0;
  for (const char32_t c : text) {
    const auto& edges = states[at].edges;
    const auto edge = std::find_if(edges.begin(), edges.end(),
                                   [c](const Edge& e) { return e.low <= c && c <= e.high; });
    if (edge == edges.end()) return false;
    at = static_cast<size_t>(edge->target);
  }
  return states[at].accepts;
}

Result<CharDfa> Determinise(const CharNfa& nfa, std::string_view what, int64_t* work) {
  if (!nfa.fits()) return TooLarge(what);
  CharDfa dfa;
  std::map<Subset, int> ids;
  std::vector<const Subset*> order;
  const auto number = [&](Subset subset) {
    Close(nfa, &subset);
    *work -= static_cast<int64_t>(subset.size()) + nfa.size() / 64;
    const auto [it, is_new] = ids.emplace(std::move(subset), static_cast<int>(ids.size()));
    if (is_new) {
      order.push_back(&it->first);
      dfa.states.emplace_back();
    }
    return it->second;
  };
  number({CharNfa::kStart});
  for (size_t done = 0; done < order.size(); ++done) {
    const Subset& subset = *order[done];
    CharDfa::State state;
    state.accepts = std::binary_search(subset.begin(), subset.end(), CharNfa::kEnd);
    std::vector<CharNfa::Edge> edges;
    for (const int id : subset) {
      for (const CharNfa::Edge& edge : nfa.edges(id)) {
        if (edge.low <= edge.high) edges.push_back(edge);
      }
    }
    for (const CharRange& piece : Pieces(edges)) {
      Subset targets;
      for (const CharNfa::Edge& edge : edges) {
        if (edge.low <= piece.low && piece.high <= edge.high) targets.push_back(edge.target);
      }
      *work -= static_cast<int64_t>(edges.size());
      if (targets.empty()) continue;
      AddEdge({piece.low, piece.high, number(std::move(targets))}, &state);
      if (dfa.states.size() > kMostCharStates || *work < 0) return TooLarge(what);
    }
    dfa.states[done] = std::move(state);
  }
  return dfa;
}

Result<CharDfa> Intersect(const CharDfa& a, const CharDfa& b, std::string_view what,
                          int64_t* work) {
  CharDfa both;
  std::map<std::pair<int, int>, int> ids;
  std::vector<std::pair<int, int>> order;
  const auto number = [&](std::pair<int, int> pair) {
    const auto [it, is_new] = ids.emplace(pair, static_cast<int>(ids.size()));
    if (is_new) {
      order.push_back(pair);
      both.states.emplace_back();
    }
    return it->second;
  };
  number({0, 0});
  for (size_t done = 0; done < order.size(); ++done) {
    const CharDfa::State& left = a.states[static_cast<size_t>(order[done].first)];
    const CharDfa::State& right = b.states[static_cast<size_t>(order[done].second)];
    CharDfa::State state;
    state.accepts = left.accepts && right.accepts;
    for (size_t i = 0, k = 0; i < left.edges.size() && k < right.edges.size();) {
      const CharDfa::Edge &x = left.edges[i], &y = right.edges[k];
      const char32_t low = std::max(x.low, y.low), high = std::min(x.high, y.high);
      if (low <= high) AddEdge({low, high, number({x.target, y.target})}, &state);
      x.high < y.high ? ++i : ++k;
    }
    *work -= static_cast<int64_t>(left.edges.size() + right.edges.size());
    if (both.states.size() > kMostCharStates || *work < 0) return TooLarge(what);
    both.states[done] = std::move(state);
  }
  return both;
}

Result<CharDfa> LengthBetween(int64_t least, int64_t most, std::string_view what, int64_t* work) {
  const int64_t last = most < 0 ? least : most;
  if (last >= kMostCharStates || (*work -= last) < 0) return TooLarge(what);
  CharDfa dfa;
  dfa.states.resize(static_cast<size_t>(last) + 1);
  const CharSet all = Complement({});
  for (int64_t i = 0; i <= last; ++i) {
    CharDfa::State& state = dfa.states[static_cast<size_t>(i)];
    state.accepts = i >= least;
    if (i == last && most >= 0) break;
    const auto next = static_cast<int>(std::min(i + 1, last));
    for (const CharRange& range : all) state.edges.push_back({range.low, range.high, next});
  }
  return dfa;
}

Result<CharDfa> AllTextsBut(std::span<const std::u32string> texts, std::string_view what) {
  constexpr int kOther = 0;  // renumbered below: the start must be 0
  std::vector<std::map<char32_t, int>> children(2);
  std::vector<bool> ends(2, false);
  constexpr int kRoot = 1;
  for (const std::u32string& text : texts) {
    int at = kRoot;
    for (const char32_t c : text) {
      const auto [it, is_new] =
          children[static_cast<size_t>(at)].emplace(c, static_cast<int>(children.size()));
      at = it->second;
      if (!is_new) continue;
      children.emplace_back();
      ends.push_back(false);
      if (children.size() > kMostCharStates) return TooLarge(what);
    }
    ends[static_cast<size_t>(at)] = true;
  }
  const auto renumbered = [](int id) { return id == kOther ? 1 : id == kRoot ? 0 : id; };
  CharDfa dfa;
  dfa.states.resize(children.size());
  for (size_t id = 0; id < children.size(); ++id) {
    CharDfa::State& state = dfa.states[static_cast<size_t>(renumbered(static_cast<int>(id)))];
    state.accepts = !ends[id];
    std::vector<CharRange> named;
    for (const auto& [c, child] : children[id]) {
      named.push_back({c, c});
      state.edges.push_back({c, c, renumbered(child)});
    }
    for (const CharRange& range : Complement(MakeCharSet(std::move(named)))) {
      state.edges.push_back({range.low, range.high, renumbered(kOther)});
    }
    std::sort(state.edges.begin(), state.edges.end(),
              [](const CharDfa::Edge& x, const CharDfa::Edge& y) { return x.low < y.low; });
  }
  return dfa;
}

std::u32string Characters(std::string_view text) {
  std::u32string characters;
  while (!text.empty()) {
    const Utf8Step step = FirstUtf8(text);
    characters.push_back(step.code_point);
    text.remove_prefix(step.bytes);
  }
  return characters;
}

}  // namespace hga
