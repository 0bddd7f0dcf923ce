// SPDX-License-Identifier: Apache-2.0
// Draws facts, hides them in a tokenized text, words the questions.
#include "facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

namespace hga::cli {
namespace {

constexpr int64_t kFactSpacing = 192;  // tokens between facts of one depth: no shared chunk
constexpr int64_t kSnapTokens = 48;    // how far a fact may move to stand at the end of a line

constexpr std::array<const char*, 24> kAdjectives = {
    "amber",  "brass",  "copper", "crimson", "distant", "emerald", "frozen", "gentle",
    "golden", "hidden", "hollow", "ivory",   "jade",    "lunar",   "marble", "narrow",
    "olive",  "pale",   "quiet",  "rusty",   "scarlet", "silver",  "velvet", "wooden"};
constexpr std::array<const char*, 24> kNouns = {
    "anchor", "basket",  "beacon", "bridge", "candle", "castle", "compass", "falcon",
    "garden", "hammer",  "harbor", "island", "kettle", "ladder", "lantern", "meadow",
    "mirror", "orchard", "pillar", "ribbon", "saddle", "tower",  "valley",  "window"};
static_assert(kFactKeysMax <= kAdjectives.size() * kNouns.size() / 2);

// The library's distributions differ between implementations.
int64_t Draw(std::mt19937_64* random, int64_t count) {
  return static_cast<int64_t>((*random)() % static_cast<uint64_t>(count));
}

// A fact as tokens: in front of the number, the number, behind it.
using Piece = std::array<std::vector<int32_t>, 3>;

Result<Piece> EncodeFact(const Tokenizer& tokenizer, const Fact& fact) {
  const std::array<std::string, 3> texts = {
      fmt::format("\n\nThe secret number for the {} is", fact.key), WantedAnswer(fact), ".\n\n"};
  Piece piece;
  for (size_t i = 0; i < texts.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(piece[i], tokenizer.Encode(texts[i], /*parse_special=*/false));
  }
  return piece;
}

// Where in the first `base` tokens of `text` the fact number `which` goes.
Result<int64_t> PlaceFact(const Tokenizer& tokenizer, std::span<const int32_t> text, int64_t base,
                          const std::vector<Fact>& facts, size_t which) {
  const double depth = facts[which].depth;
  const auto earlier = std::count_if(facts.begin(), facts.begin() + static_cast<int64_t>(which),
                                     [&](const Fact& fact) { return fact.depth == depth; });
  const int64_t shift = (depth <= 50 ? earlier : -earlier) * kFactSpacing;
  const int64_t wanted =
      std::clamp<int64_t>(std::llround(depth / 100 * static_cast<double>(base)) + shift, 0, base);
  if (wanted == 0 || wanted == base) return wanted;
  const int64_t end = std::min(base, wanted + kSnapTokens);
  for (int64_t place = wanted; place < end; ++place) {
    HGA_ASSIGN_OR_RETURN(
        const std::string before,
        tokenizer.Decode(text.subspan(static_cast<size_t>(place - 1), 1), /*keep_special=*/true));
    if (before.ends_with('\n')) return place;
  }
  return wanted;
}

void Append(std::span<const int32_t> tokens, std::vector<int32_t>* out) {
  out->insert(out->end(), tokens.begin(), tokens.end());
}

}  // namespace

std::vector<Fact> DrawFacts(std::span<const double> depths, std::mt19937_64* random) {
  std::vector<Fact> facts;
  std::set<std::string> keys, words;
  for (const double depth : depths) {
    // Names share no word while there are enough, so that none is taken for another.
    const bool distinct = facts.size() < std::min(kAdjectives.size(), kNouns.size());
    Fact fact;
    fact.depth = depth;
    std::string adjective, noun;
    do {
      adjective = kAdjectives[Draw(random, kAdjectives.size())];
      noun = kNouns[Draw(random, kNouns.size())];
      fact.key = fmt::format("{} {}", adjective, noun);
    } while (keys.contains(fact.key) ||
             (distinct && (words.contains(adjective) || words.contains(noun))));
    keys.insert(fact.key);
    words.insert({adjective, noun});
    fact.number = fmt::format("{}", 1000000 + Draw(random, 9000000));
    facts.push_back(std::move(fact));
  }
  return facts;
}

Result<FactDocument> HideFacts(const Tokenizer& tokenizer, const std::string& name,
                               std::span<const int32_t> text, int64_t length,
                               std::vector<Fact> facts) {
  std::vector<Piece> pieces;
  int64_t base = length;
  for (const Fact& fact : facts) {
    HGA_ASSIGN_OR_RETURN(Piece piece, EncodeFact(tokenizer, fact));
    for (const auto& part : piece) base -= static_cast<int64_t>(part.size());
    pieces.push_back(std::move(piece));
  }
  if (base < 1 || static_cast<int64_t>(text.size()) < base) {
    return InvalidArgument(
        fmt::format("{}: the text has {} tokens; a document of {} tokens with {} facts needs {}",
                    name, text.size(), length, facts.size(), std::max<int64_t>(base, 1)));
  }
  std::vector<std::pair<int64_t, size_t>> places;  // where in the text, which fact
  for (size_t i = 0; i < facts.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(const int64_t place, PlaceFact(tokenizer, text, base, facts, i));
    places.emplace_back(place, i);
  }
  std::stable_sort(places.begin(), places.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  FactDocument document{name, {}, std::move(facts)};
  int64_t at = 0;
  for (const auto& [place, i] : places) {
    Append(text.subspan(static_cast<size_t>(at), static_cast<size_t>(place - at)),
           &document.tokens);
    at = place;
    Append(pieces[i][0], &document.tokens);
    document.facts[i].first = static_cast<int64_t>(document.tokens.size());
    Append(pieces[i][1], &document.tokens);
    document.facts[i].last = static_cast<int64_t>(document.tokens.size()) - 1;
    Append(pieces[i][2], &document.tokens);
  }
  Append(text.subspan(static_cast<size_t>(at), static_cast<size_t>(base - at)), &document.tokens);
  return document;
}

Result<std::vector<int32_t>> EncodeQuestion(const Tokenizer& tokenizer, const Fact& fact) {
  const std::string text = fmt::format(
      "\n\nWhat is the secret number for the {0}? The secret number for the {0} is", fact.key);
  HGA_ASSIGN_OR_RETURN(std::vector<int32_t> question,
                       tokenizer.Encode(text, /*parse_special=*/false));
  if (question.size() > kFactQuestionTokensMax) {
    return InvalidArgument(fmt::format("the question for \"{}\" has {} tokens, room is for {}",
                                       fact.key, question.size(), kFactQuestionTokensMax));
  }
  return question;
}

std::string WantedAnswer(const Fact& fact) { return " " + fact.number; }

bool AnswerAgrees(std::string_view text, std::string_view wanted) {
  const size_t both = std::min(text.size(), wanted.size());
  if (text.substr(0, both) != wanted.substr(0, both)) return false;
  return text.size() <= wanted.size() || text[wanted.size()] < '0' || text[wanted.size()] > '9';
}

}  // namespace hga::cli
