// SPDX-License-Identifier: Apache-2.0
// Facts that can be hidden in a text and asked for: "The secret number for the K is N."
#ifndef HGA_APPS_CLI_FACTS_H_
#define HGA_APPS_CLI_FACTS_H_

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga::cli {

inline constexpr int kFactDigits = 7;
inline constexpr int kFactAnswerTokens = kFactDigits + 4;  // a space, the number, the sentence end
inline constexpr int kFactQuestionTokensMax = 64;
inline constexpr int kFactKeysMax = 288;  // half of all names, so that drawing new ones stays quick

struct Fact {
  std::string key;     // "amber anchor"
  std::string number;  // kFactDigits digits
  double depth = 0;    // percent of the document in front of it
  int64_t first = 0;   // positions of the number's tokens in its document, set by HideFacts
  int64_t last = 0;
};

struct FactDocument {
  std::string name;
  std::vector<int32_t> tokens;
  std::vector<Fact> facts;
};

// One fact per depth with names that differ; at most kFactKeysMax depths. Draws are the same on
// every machine.
std::vector<Fact> DrawFacts(std::span<const double> depths, std::mt19937_64* random);

// `length` tokens: the beginning of `text` [any] with the facts between its tokens, at their depths
// but moved to the end of a line, and apart from each other when they share a depth. Facts are
// encoded by themselves, so the text's tokens stay those of the text. kInvalidArgument with both
// numbers if the text is too short; `name` is for messages.
Result<FactDocument> HideFacts(const Tokenizer& tokenizer, const std::string& name,
                               std::span<const int32_t> text, int64_t length,
                               std::vector<Fact> facts);

// The question, ending where the number is due; at most kFactQuestionTokensMax tokens.
Result<std::vector<int32_t>> EncodeQuestion(const Tokenizer& tokenizer, const Fact& fact);

// What an answer has to begin with.
std::string WantedAnswer(const Fact& fact);

// Whether `text` is the start of the wanted answer, or all of it with no further digit behind.
bool AnswerAgrees(std::string_view text, std::string_view wanted);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_FACTS_H_
