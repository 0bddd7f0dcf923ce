// SPDX-License-Identifier: Apache-2.0
// Masks of constraints: that they agree with what is accepted, tool calls, bounds, and their time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <cstdio>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hga/constraint.h"
#include "tests/byte_tokenizer.h"
#include "tests/unit/constraint_fixture.h"

namespace hga {
namespace {

using testing::HasSubstr;

TEST(ConstraintMask, NestingIsBoundedAndCanAlwaysBeClosed) {
  const auto grammar = Make("{}");
  const auto constraint = grammar->Start();
  int depth = 0;
  while (constraint->Accept('[').ok()) ++depth;
  EXPECT_GT(depth, 60);
  EXPECT_LE(depth, 101);
  while (depth-- > 0) ASSERT_TRUE(constraint->Accept(']').ok());
  EXPECT_TRUE(constraint->MayEnd());
}

TEST(ConstraintMask, RefusedTokensLeaveTheStateAsItWas) {
  ByteTokenizer tokenizer({"\"a\":", "{\"b\"", "}x", "1}"});
  const auto vocabulary = Grammar::MakeVocabulary(tokenizer).value();
  const auto grammar = Grammar::JsonSchema(vocabulary, R"({"type":"object"})").value();
  const auto constraint = grammar->Start();
  const auto id = [&](std::string_view text) { return *tokenizer.TokenId(text); };
  EXPECT_TRUE(constraint->Accept(id("{\"b\"")).ok());
  EXPECT_EQ(constraint->Accept(id("}x")).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(constraint->Accept(-1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(constraint->Accept(ByteTokenizer::kSpecial).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(constraint->Accept(100000).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(constraint->Accept(':').ok());
  EXPECT_FALSE(constraint->MayEnd());
  EXPECT_TRUE(IsAllowed(*constraint, id("1}")));
  EXPECT_TRUE(constraint->Accept(id("1}")).ok());
  EXPECT_TRUE(constraint->MayEnd());
  for (const uint64_t word : constraint->Allowed()) EXPECT_EQ(word, 0);
}

TEST(ConstraintMask, AVocabularyNeedsEveryByte) {
  class Missing final : public Tokenizer {
   public:
    Result<std::vector<int32_t>> Encode(std::string_view text, bool special) const override {
      return bytes_.Encode(text, special);
    }
    Result<std::vector<int32_t>> EncodeTrusted(std::string_view,
                                               std::span<const TextRange>) const override {
      return std::vector<int32_t>();
    }
    Result<std::string> Decode(std::span<const int32_t> ids, bool special) const override {
      return bytes_.Decode(ids, special);
    }
    std::optional<int32_t> TokenId(std::string_view text) const override {
      return bytes_.TokenId(text);
    }
    bool IsSpecial(int32_t id) const override { return id == '{' || bytes_.IsSpecial(id); }
    int vocab_size() const override { return bytes_.vocab_size(); }
    std::span<const int32_t> prefix_ids() const override { return {}; }

   private:
    ByteTokenizer bytes_;
  };
  const auto vocabulary = Grammar::MakeVocabulary(Missing());
  ASSERT_FALSE(vocabulary.ok());
  EXPECT_EQ(vocabulary.status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(vocabulary.status().message(), HasSubstr("0x7b"));
}

const std::vector<ToolSpec> kTools = {
    {"get", R"({"type":"object","properties":{"q":{"type":"string"}},"required":["q"],
                "additionalProperties":false})"},
    {"now", ""}};
constexpr char kGet[] =
    "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"q\": \"x\"}}\n</tool_call>";
constexpr char kNow[] = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";

TEST(ConstraintMask, ToolCalls) {
  const auto make = [](bool required, bool parallel) {
    return Grammar::ToolCalls(Bytes(), kTools, required, parallel).value();
  };
  const std::string get = kGet, now = kNow;
  for (const bool parallel : {false, true}) {
    const auto required = make(true, parallel);
    EXPECT_TRUE(Fits(*required, get));
    EXPECT_TRUE(Fits(*required, now));
    EXPECT_EQ(Fits(*required, get + "\n" + now), parallel);
    EXPECT_FALSE(Fits(*required, ""));
    EXPECT_FALSE(Fits(*required, "text"));
    const auto free = make(false, parallel);
    EXPECT_TRUE(Fits(*free, ""));
    EXPECT_TRUE(Fits(*free, "text with <tool and <<tool_ and \xff"));
    EXPECT_TRUE(Fits(*free, "so: " + get));
    EXPECT_TRUE(Fits(*free, "<tool_cal" + now));
    EXPECT_EQ(Fits(*free, get + " and " + now + " done"), parallel);
    EXPECT_FALSE(Fits(*free, "x <tool_call>"));
    EXPECT_FALSE(Fits(*free, "x <tool_call>y"));
    EXPECT_FALSE(Fits(*free, "<tool_call>\n{\"name\": \"no\", \"arguments\": {}}\n</tool_call>"));
    EXPECT_FALSE(Fits(*free, "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>"));
  }
  const auto code = [](std::vector<ToolSpec> tools) {
    return Grammar::ToolCalls(Bytes(), tools, true, false).status().code();
  };
  EXPECT_EQ(code({}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", ""}, {"a", ""}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"", ""}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", R"({"type":"string"})"}}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", R"({"not":{}})"}}), StatusCode::kUnsupported);
}

// JSON or calls, told apart by the first byte; each is held to its own rules from there on.
TEST(ConstraintMask, EitherOfTwo) {
  const auto json = Make(R"({"type":"object","properties":{"a":{"const":"<tool_call>"}},
                             "required":["a"],"additionalProperties":false})");
  const auto calls = Grammar::ToolCalls(Bytes(), kTools, true, true).value();
  const auto either = Grammar::Either(json, calls);
  const std::string text = R"({"a":"<tool_call>"})", get = kGet;
  EXPECT_TRUE(Fits(*either, text));
  EXPECT_TRUE(Fits(*either, get));
  EXPECT_TRUE(Fits(*either, get + "\n" + kNow));
  EXPECT_FALSE(Fits(*either, ""));
  EXPECT_FALSE(Fits(*either, "text"));
  EXPECT_FALSE(Fits(*either, text + get));
  EXPECT_FALSE(Fits(*either, get + text));
  // Both go on: what ends one of them may be in the middle of the other.
  const auto nested = Grammar::Either(Make(R"({"const":12})"), Make(R"({"const":123})"));
  EXPECT_TRUE(Fits(*nested, "12"));
  EXPECT_TRUE(Fits(*nested, "123"));
  EXPECT_FALSE(Fits(*nested, "1"));
  EXPECT_FALSE(Fits(*nested, "1234"));
}

// The tag as one token of its own, as Qwen3 has it, or begun in one token and completed in another.
TEST(ConstraintMask, TheTagOfACallMayBeAToken) {
  const ByteTokenizer tokenizer({"<tool_call>", "a <tool_", "call>\n{\"", "call>x"});
  const auto vocabulary = Grammar::MakeVocabulary(tokenizer).value();
  const auto grammar = Grammar::ToolCalls(vocabulary, kTools, false, true).value();
  const auto id = [&](std::string_view text) { return *tokenizer.TokenId(text); };
  for (const auto& start :
       {std::vector{id("<tool_call>"), int32_t{'\n'}, int32_t{'{'}, int32_t{'"'}},
        std::vector{id("a <tool_"), id("call>\n{\"")}}) {
    const auto constraint = grammar->Start();
    for (const int32_t token : start) {
      ASSERT_TRUE(constraint->MayEnd() || token < 256);
      ASSERT_TRUE(IsAllowed(*constraint, token));
      ASSERT_TRUE(constraint->Accept(token).ok());
      ASSERT_FALSE(IsAllowed(*constraint, id("call>x")) && token == id("a <tool_"));
    }
    EXPECT_FALSE(constraint->MayEnd());
    EXPECT_TRUE(IsAllowed(*constraint, 'n'));
    EXPECT_FALSE(IsAllowed(*constraint, 'x'));
    EXPECT_FALSE(IsAllowed(*constraint, ByteTokenizer::kSpecial));
  }
}

// Each level doubles the ways to read the text: some are given up, and the rest can be completed.
TEST(ConstraintMask, AmbiguousSchemasStayBounded) {
  const auto grammar = Make(R"({"$ref":"#/$defs/a","$defs":{
      "a":{"anyOf":[{"$ref":"#/$defs/x"},{"$ref":"#/$defs/y"},{"type":"null"}]},
      "b":{"anyOf":[{"$ref":"#/$defs/x"},{"$ref":"#/$defs/y"},{"type":"null"},{"type":"boolean"}]},
      "x":{"type":"object","properties":{"k":{"$ref":"#/$defs/a"},"v":{"type":"integer"}},
           "required":["k"],"additionalProperties":false},
      "y":{"type":"object","properties":{"k":{"$ref":"#/$defs/b"},"w":{"type":"string"}},
           "required":["k"],"additionalProperties":false}}})");
  std::string text;
  for (int i = 0; i < 40; ++i) text += "{\"k\":";
  text += "null";
  for (int i = 0; i < 40; ++i) text += "}";
  EXPECT_TRUE(Fits(*grammar, text));
}

// Frames of values that have ended are dropped on the way; names are remembered.
TEST(ConstraintMask, LongAnswers) {
  const auto grammar = Make(R"({"additionalProperties":{"items":{"items":{"type":"integer"}}}})");
  std::string list = "[";
  for (int i = 0; i < 3000; ++i) list += "[1, 2],\n  ";
  list += "[]]";
  const std::string text = "{\"a\": " + list + ", \"b\": " + list + ", \"";
  EXPECT_TRUE(Fits(*grammar, text + "c\": []}"));
  EXPECT_FALSE(Fits(*grammar, text + "a\": []}"));
}

TEST(ConstraintMask, AnswersOfOneGrammarMayRunInThreads) {
  const auto grammar = Make(R"({"items":{"type":"object","properties":{"a":{"type":"string"}}}})");
  std::vector<std::thread> threads;
  std::atomic<int> fitting = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto constraint = grammar->Start();
      bool fits = true;
      for (const char c : "[{\"a\": \"" + std::string(static_cast<size_t>(i), 'x') + "\"}, {}]") {
        fits = fits && IsAllowed(*constraint, c) && constraint->Accept(c).ok();
      }
      fitting += fits && constraint->MayEnd() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(fitting, 4);
}

// Tokens over several bytes, among them parts of JSON's structure.
std::vector<std::string> ManyTokens(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  static constexpr const char* kPieces[] = {"a",    "e",  "st",  "\"",  "\":",  " ",     "{\"",
                                            "}",    ", ", "\",", "[",   "]",    "1",     "0.",
                                            "\n",   "  ", "th",  "ing", "\\n",  "x",     "\xc3\xa9",
                                            "true", "b",  "q",   "<",   "tool", "_call>"};
  std::set<std::string> texts;
  while (texts.size() < count) {
    std::string text = random() % 3 == 0 ? " " : "";
    for (unsigned parts = 2 + random() % 5; parts > 0; --parts) {
      // Nearly all letters, as in real vocabularies.
      if (random() % 40 != 0) {
        text += static_cast<char>('a' + random() % 26);
      } else {
        text += kPieces[random() % std::size(kPieces)];
      }
    }
    texts.insert(std::move(text));
  }
  return {texts.begin(), texts.end()};
}

// A mask is what Accept says of each token by itself, along random answers.
TEST(ConstraintMask, MasksAreWhatIsAccepted) {
  const ByteTokenizer tokenizer(ManyTokens(3000, 1));
  const auto vocabulary = Grammar::MakeVocabulary(tokenizer).value();
  const char* schemas[] = {
      "{}",
      R"({"type":"object","properties":{"a":{"type":"string","maxLength":9},"st":{"type":"number",
          "minimum":0.5},"thing":{"enum":["a","ath","e"]}},"additionalProperties":{"type":
          ["string","integer"]}})",
      R"({"type":"array","items":{"anyOf":[{"type":"object"},{"type":"array","items":{"$ref":"#"}},
          {"type":"string","pattern":"^a+(st|th)*"},{"type":"integer"}]}})",
  };
  for (const char* schema : schemas) {
    const auto grammar = Grammar::JsonSchema(vocabulary, schema).value();
    for (uint32_t seed = 0; seed < 4; ++seed) {
      std::mt19937 random(seed);
      const auto constraint = grammar->Start();
      std::vector<int32_t> answer;
      for (int step = 0; step < 25; ++step) {
        const auto span = constraint->Allowed();
        const std::vector<uint64_t> mask(span.begin(), span.end());
        std::vector<int32_t> allowed;
        for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
          if ((mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0) {
            allowed.push_back(id);
          } else {
            ASSERT_FALSE(constraint->Accept(id).ok()) << tokenizer.Decode({{id}}, true).value();
          }
        }
        if (allowed.empty()) {
          ASSERT_TRUE(constraint->MayEnd());
          break;
        }
        for (int tries = 0; tries < 3; ++tries) {
          const auto again = grammar->Start();
          for (const int32_t id : answer) ASSERT_TRUE(again->Accept(id).ok());
          ASSERT_TRUE(again->Accept(allowed[random() % allowed.size()]).ok());
        }
        answer.push_back(allowed[random() % allowed.size()]);
        ASSERT_TRUE(constraint->Accept(answer.back()).ok());
      }
    }
  }
}

// Of this thread, so that a busy machine changes little.
double Microseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

struct MaskTime {
  double mean = 0, worst = 0;
  size_t worst_at = 0;
};

// The token of each byte.
std::vector<int32_t> ByteIds(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids(256, -1);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto text = tokenizer.Decode({{id}}, false);
    if (text.ok() && text->size() == 1) ids[static_cast<unsigned char>((*text)[0])] = id;
  }
  return ids;
}

MaskTime TimeMasks(const Grammar& grammar, std::string_view text, const std::vector<int32_t>& ids) {
  MaskTime time;
  const auto constraint = grammar.Start();
  for (size_t i = 0; i < text.size(); ++i) {
    const double begin = Microseconds();
    constraint->Allowed();
    const double taken = Microseconds() - begin;
    if (taken > time.worst) time.worst = taken, time.worst_at = i;
    time.mean += taken / static_cast<double>(text.size());
    EXPECT_TRUE(constraint->Accept(ids[static_cast<unsigned char>(text[i])]).ok());
  }
  return time;
}

// Prints the time of masks. The bound is generous: sanitizers are slow, and what it is to catch is
// work that grows with the answer or a whole walk of the vocabulary for each byte.
TEST(ConstraintMask, TimeOfAMask) {
  const ByteTokenizer large(ManyTokens(150'000, 2));
  const auto mini = Tokenizer::Load(HGA_SOURCE_DIR "/models/hga-mini").value();
  const std::string text =
      R"({"name": "some longer text here", "tags": ["a tag", "another one"], "n": 12.5, )"
      R"("o": {"x": [1, 2, {"y": "zzzzzzzzzzz"}]}, "more": "and more text"})";
  for (const Tokenizer* tokenizer : std::initializer_list<const Tokenizer*>{&large, mini.get()}) {
    const auto vocabulary = Grammar::MakeVocabulary(*tokenizer).value();
    const double start = Microseconds();
    const auto grammar =
        Grammar::JsonSchema(vocabulary, R"({"type":"object","properties":{"name":{"type":"string"},
          "tags":{"type":"array","items":{"type":"string","maxLength":40}},"n":{"type":"number"},
          "o":{}},"required":["name","tags"]})")
            .value();
    std::printf("%d tokens, compiled in %.0f us\n", tokenizer->vocab_size(),
                Microseconds() - start);
    for (const char* round : {"first", "second"}) {
      const MaskTime time = TimeMasks(*grammar, text, ByteIds(*tokenizer));
      std::printf("  %s answer: %.0f us per mask, %.0f us at most, before %s\n", round, time.mean,
                  time.worst, text.substr(time.worst_at, 12).c_str());
      EXPECT_LT(time.mean, 50'000);
    }
  }
}

}  // namespace
}  // namespace hga
