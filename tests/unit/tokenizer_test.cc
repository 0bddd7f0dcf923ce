// SPDX-License-Identifier: Apache-2.0
// The tokenizer without another implementation: refusals by name, text limits, small known results.
#include "hga/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/utf8.h"
#include "model/tokenizer_spec.h"

namespace hga {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

json Added(int id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

json Split(const std::string& pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

// All bytes, "ab" = 256, "abc" = 257, <|end|> = 258.
json Small() {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[SpellingOfByte(static_cast<uint8_t>(byte))] = byte;
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", {Added(258, "<|end|>")}},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer",
           {{"type", "Sequence"}, {"pretokenizers", {Split(R"(\p{L}+|\s+|.)"), byte_level}}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", json::array({json::array({"a", "b"}), json::array({"ab", "c"})})}}}};
}

std::unique_ptr<Tokenizer> Parsed(const json& document) {
  auto tokenizer = Tokenizer::Parse(document.dump(), "t.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return tokenizer.ok() ? std::move(*tokenizer) : nullptr;
}

std::vector<int32_t> Ids(const Tokenizer& tokenizer, std::string_view text, bool special = true) {
  auto ids = tokenizer.Encode(text, special);
  EXPECT_TRUE(ids.ok()) << ids.status().message();
  return ids.ok() ? *ids : std::vector<int32_t>{-1};
}

std::string Times(std::string_view text, size_t count) {
  std::string out;
  out.reserve(text.size() * count);
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

struct BadFile {
  std::string name;
  std::function<void(json&)> change;
  StatusCode code;
  std::string message;  // a part of it
};

void PrintTo(const BadFile& bad, std::ostream* out) { *out << bad.name; }

class BadFiles : public testing::TestWithParam<BadFile> {};

TEST_P(BadFiles, AreRefusedByName) {
  json document = Small();
  GetParam().change(document);
  const auto tokenizer = Tokenizer::Parse(document.dump(), "t.json");
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_THAT(tokenizer.status().message(), HasSubstr(GetParam().message));
  EXPECT_THAT(tokenizer.status().message(), HasSubstr("t.json"));
  EXPECT_EQ(tokenizer.status().code(), GetParam().code);
  EXPECT_LT(tokenizer.status().message().size(), 600u);
}

BadFile Bad(std::string name, std::string pointer, json value, StatusCode code,
            std::string message) {
  const auto change = [=](json& d) { d[json::json_pointer(pointer)] = value; };
  return {std::move(name), change, code, std::move(message)};
}

BadFile Without(std::string name, std::string parent, std::string key, StatusCode code,
                std::string message) {
  const auto change = [=](json& d) { d[json::json_pointer(parent)].erase(key); };
  return {std::move(name), change, code, std::move(message)};
}

BadFile BadPattern(std::string name, std::string pattern, StatusCode code, std::string message) {
  return Bad(std::move(name), "/pre_tokenizer/pretokenizers/0/pattern/Regex", std::move(pattern),
             code, std::move(message));
}

constexpr StatusCode kData = StatusCode::kDataLoss;
constexpr StatusCode kNot = StatusCode::kUnsupported;

std::vector<BadFile> IdCases() {
  return {
      Bad("IdNegative", "/model/vocab/ab", -1, kData, "the id -1 is not in [0, "),
      Bad("IdFraction", "/model/vocab/ab", 4.5, kData, "must be a whole number"),
      Bad("IdText", "/model/vocab/ab", "4", kData, "must be a whole number"),
      Bad("IdNull", "/model/vocab/ab", nullptr, kData, "must be a whole number"),
      Bad("IdTwice", "/model/vocab/ab", 5, kData, "the id 5 is already taken"),
      Bad("IdTwoBillion", "/model/vocab/ab", 2000000000, kData, "the id 2000000000 is not in"),
      Bad("IdTwoTo31", "/model/vocab/ab", 2147483648, kData, "the id 2147483648 is not in"),
      Bad("IdTwoTo32", "/model/vocab/ab", 4294967296, kData, "the id 4294967296 is not in"),
      Bad("IdTwoTo63", "/model/vocab/ab", 9223372036854775808u, kData, "must be a whole number"),
      Bad("AddedIdNegative", "/added_tokens/0/id", -7, kData, "added_tokens[0].id: the id -7"),
      Bad("AddedIdHuge", "/added_tokens/0/id", 2000000000, kData, "the id 2000000000 is not in"),
      Bad("AddedIdOfAnother", "/added_tokens/0/id", 7, kData, "the id 7 belongs to"),
      Bad("AddedIdDiffers", "/added_tokens/0/content", "ab", kData, "258 here and 256 elsewhere"),
      Bad("AddedTwice", "/added_tokens/1", Added(258, "<|b|>"), kData, "the id 258 belongs to"),
      Bad("AddedEmpty", "/added_tokens/0/content", "", kData, "0 bytes, must be 1 to"),
      Bad("AddedLong", "/added_tokens/0/content", std::string(5000, 'x'), kData, "5000 bytes"),
      Bad("AddedNumber", "/added_tokens/0/content", 3, kData, "content: must be a string"),
      Bad("AddedFlag", "/added_tokens/0/lstrip", 1, kData, "lstrip: must be true or false"),
      Bad("AddedField", "/added_tokens/0/weight", 1, kNot, "\"weight\" is not supported"),
      Bad("AddedString", "/added_tokens/0", "<|end|>", kData, "added_tokens[0]: must be an object"),
      Bad("AddedObject", "/added_tokens", json::object(), kData, "added_tokens: must be a list"),
      Without("AddedNoSpecial", "/added_tokens/0", "special", kData, "special: must be true"),
      Without("AddedNoId", "/added_tokens/0", "id", kData, "added_tokens[0].id: absent"),
  };
}

std::vector<BadFile> ModelCases() {
  return {
      Bad("MergePartAbsent", "/model/merges/0", {"a", "xyz"}, kData, "\"xyz\" is not in the vocab"),
      Bad("MergeResultAbsent", "/model/merges/0", {"b", "a"}, kData, "\"ba\" is not in the vocab"),
      Bad("MergeOnePart", "/model/merges/1", {"a"}, kData, "merges[1]: must be a list of exactly"),
      Bad("MergeThreeParts", "/model/merges/1", {"a", "b", "c"}, kData, "exactly two strings"),
      Bad("MergeMixed", "/model/merges/1", "ab c", kData, "as the first merge is"),
      Bad("MergeMixedBack", "/model/merges/0", "a b", kData, "must be a string, as the first"),
      Bad("MergeTextOnePart", "/model/merges", {"ab"}, kData, "must be two parts"),
      Bad("MergeTextThreeParts", "/model/merges", {"a b c"}, kData, "must be two parts"),
      Bad("MergeEmptyPart", "/model/merges/0", {"", "ab"}, kData, "a part is empty"),
      Bad("MergeNumber", "/model/merges/0", 3, kData, "must be a string"),
      Bad("MergesObject", "/model/merges", json::object(), kData, "merges: must be a list"),
      Bad("VocabList", "/model/vocab", json::array(), kData, "vocab: must be an object"),
      Bad("VocabTiny", "/model/vocab", {{"a", 0}}, kNot, "no token for the byte 0x00"),
      Without("VocabAbsent", "/model", "vocab", kData, "model.vocab: absent"),
      Without("ModelAbsent", "", "model", kData, "model: absent"),
      Bad("ModelUnigram", "/model/type", "Unigram", kNot, "\"Unigram\" is not supported"),
      Bad("ModelWordPiece", "/model/type", "WordPiece", kNot, "\"WordPiece\" is not supported"),
      Bad("ModelField", "/model/scores", 1, kNot, "\"scores\" is not supported"),
      Bad("ModelDropout", "/model/dropout", 0.1, kNot, "model.dropout"),
      Bad("ModelSuffix", "/model/end_of_word_suffix", "</w>", kNot, "model.end_of_word_suffix"),
      Bad("ModelPrefix", "/model/continuing_subword_prefix", "##", kNot, "continuing_subword"),
      Bad("ModelUnknown", "/model/unk_token", "<unk>", kData, "\"<unk>\" is not in the vocab"),
      Bad("ByteFallback", "/model/byte_fallback", true, kData, "\"<0x00>\" is not in the vocab"),
  };
}

std::vector<BadFile> StepCases() {
  json deep = {{"type", "NFC"}};
  for (int i = 0; i < 20; ++i) deep = {{"type", "Sequence"}, {"normalizers", {deep}}};
  json very_deep = json::array();
  for (int i = 0; i < 1000; ++i) very_deep = json::array({very_deep});
  const json prefix = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  const json bert = {{"type", "TemplateProcessing"},
                     {"single",
                      {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                       {{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}}}}};
  return {
      Bad("NormalizerNfkc", "/normalizer/type", "NFKC", kNot, "\"NFKC\" is not supported"),
      Bad("NormalizerReplace", "/normalizer/type", "Replace", kNot, "normalizer: the type \"Repl"),
      Bad("NormalizerNested", "/normalizer", deep, kNot, "\"Sequence\" is not supported"),
      Bad("NormalizerDeep", "/normalizer", very_deep, kData, "not valid JSON"),
      Bad("NormalizerString", "/normalizer", "NFC", kData, "normalizer: must be an object"),
      Bad("NormalizerNoType", "/normalizer", json::object(), kData, "normalizer.type: absent"),
      Bad("PreMetaspace", "/pre_tokenizer", {{"type", "Metaspace"}}, kNot, "\"Metaspace\""),
      Bad("PreNull", "/pre_tokenizer", nullptr, kData, "pre_tokenizer: absent or null"),
      Bad("PreOnlySplit", "/pre_tokenizer", Split("a"), kNot, "without ByteLevel"),
      Bad("PreOrder", "/pre_tokenizer/pretokenizers/2", Split("a"), kNot, "behind ByteLevel"),
      Bad("PrePrefix", "/pre_tokenizer/pretokenizers/1", prefix, kNot, "add_prefix_space"),
      Bad("PreMany", "/pre_tokenizer/pretokenizers", std::vector<json>(17, Split("a")), kNot,
          "more than 16 steps"),
      Bad("SplitRemoved", "/pre_tokenizer/pretokenizers/0/behavior", "Removed", kNot,
          "\"Removed\""),
      Bad("SplitInvert", "/pre_tokenizer/pretokenizers/0/invert", true, kNot, "invert"),
      Bad("SplitNoPattern", "/pre_tokenizer/pretokenizers/0/pattern", json::object(), kData,
          "pattern.Regex: absent"),
      Bad("DecoderNull", "/decoder", nullptr, kData, "decoder: absent"),
      Bad("DecoderFuse", "/decoder", {{"type", "Fuse"}}, kNot, "\"Fuse\" is not supported"),
      Bad("PostBert", "/post_processor", {{"type", "BertProcessing"}}, kNot, "\"BertProcessing\""),
      Bad("PostSuffix", "/post_processor", bert, kNot, "behind the text"),
      Bad("RootField", "/extra", 1, kNot, "\"extra\" is not supported"),
      Bad("Version", "/version", "2.0", kNot, "\"2.0\" is not supported"),
  };
}

std::vector<BadFile> PatternCases() {
  return {
      BadPattern("Open", "(", kNot, "a group that is not closed"),
      BadPattern("Close", "a)", kNot, "a ) without its ("),
      BadPattern("Exponential", "(a+)+$", kNot, "a repeat of a group that has a repeat"),
      BadPattern("Counted", "(?:a*){5}", kNot, "a repeat of a group that has a repeat"),
      BadPattern("BackReference", R"((a)\1)", kNot, "the back-reference"),
      BadPattern("OneMegabyte", std::string(1 << 20, 'a'), kNot, "the pattern has 1048576 bytes"),
      BadPattern("Deep", std::string(5000, '('), kNot, "nesting of groups"),
      BadPattern("ManyOptional", Times("a?", 30) + "b", kNot, "more than 10 repeats"),
      BadPattern("ManyOpen", "a*b*a*b*a*c", kNot, "more than 4 open repeats"),
      BadPattern("Verb", "(*LIMIT_MATCH=1)a", kNot, "the group"),
      BadPattern("Recursion", "a(?R)?", kNot, "the group"),
      BadPattern("Condition", "(?(1)a|b)", kNot, "the group"),
      BadPattern("Named", "(?<n>a)", kNot, "the group"),
      BadPattern("NestedClass", "[a[bc]]", kNot, "a class inside a class"),
      BadPattern("PosixClass", "[[:alpha:]]", kNot, "a class inside a class"),
      BadPattern("Intersection", R"([\p{L}&&[^a]])", kNot, "&& inside a class"),
      BadPattern("Unclosed", "[abc", kNot, "a class that is not closed"),
      BadPattern("Word", R"(\w+)", kNot, "the escape \\w"),
      BadPattern("Boundary", R"(\bx)", kNot, "the escape \\b"),
      BadPattern("Hex", R"(\h)", kNot, "the escape \\h"),
      BadPattern("Script", R"(\p{Han}+)", kNot, "\\p{\"Han\"}"),
      BadPattern("NegatedInClass", R"([\P{L}])", kNot, "\\P inside a class"),
      BadPattern("SetRange", R"([\s-z])", kNot, "a - beside a set"),
      BadPattern("Raw", R"(\xff)", kNot, "the escape"),
      BadPattern("Surrogate", R"(\ud800)", kNot, "the escape"),
      BadPattern("Repeat", "*a", kNot, "a repeat of nothing"),
      BadPattern("HugeCount", "a{100000}", kNot, "the repeat"),
      BadPattern("BareBrace", "a{,3}", kNot, "the repeat"),
      BadPattern("BadRange", "[z-a]", kData, "does not compile"),
      BadPattern("LookBehind", "(?<=a+)b", kData, "does not compile"),
      BadPattern("Backslash", "a\\", kNot, "a \\ at the end"),
  };
}

std::string CaseName(const testing::TestParamInfo<BadFile>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Ids, BadFiles, testing::ValuesIn(IdCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Model, BadFiles, testing::ValuesIn(ModelCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Steps, BadFiles, testing::ValuesIn(StepCases()), CaseName);
INSTANTIATE_TEST_SUITE_P(Pattern, BadFiles, testing::ValuesIn(PatternCases()), CaseName);

TEST(TokenizerParse, RefusesWhatIsNotJson) {
  const std::string good = Small().dump();
  std::string twice = good;
  twice.insert(twice.find("\"ab\":256"), "\"ab\":1999,");
  std::string cut_character = good;
  cut_character[cut_character.find("<|end|>") + 2] = '\xE4';
  std::string surrogate = good;
  surrogate.replace(surrogate.find("<|end|>"), 1, "\\ud800");
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), good + "x",
        good.substr(0, good.size() / 2), "\xEF\xBB\xBF" + good.substr(1), std::string(1 << 20, '['),
        std::string(100, '\0'), twice, cut_character, surrogate}) {
    const auto tokenizer = Tokenizer::Parse(text, "t.json");
    ASSERT_FALSE(tokenizer.ok()) << text.substr(0, 100);
    EXPECT_EQ(tokenizer.status().code(), StatusCode::kDataLoss);
    EXPECT_THAT(tokenizer.status().message(), HasSubstr("t.json"));
  }
}

TEST(TokenizerParse, EveryCutOfAFileIsRefused) {
  const std::string good = Small().dump();
  ASSERT_TRUE(Tokenizer::Parse(good, "t.json").ok());
  for (size_t bytes = 0; bytes < good.size(); ++bytes) {
    ASSERT_FALSE(Tokenizer::Parse(std::string_view(good).substr(0, bytes), "t.json").ok()) << bytes;
  }
}

TEST(TokenizerLoad, NamesTheMissingFile) {
  const auto tokenizer = Tokenizer::Load(HGA_SOURCE_DIR "/models");
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(tokenizer.status().message(), HasSubstr("tokenizer.json"));
}

TEST(TokenizerLoad, ReadsTheEmbeddedModel) {
  const auto tokenizer = Tokenizer::Load(HGA_SOURCE_DIR "/models/hga-mini");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ((*tokenizer)->vocab_size(), 8192);
  EXPECT_EQ((*tokenizer)->TokenId("<|im_end|>"), 8178);
  EXPECT_TRUE((*tokenizer)->IsSpecial(8178));
  EXPECT_FALSE((*tokenizer)->IsSpecial(5));
  EXPECT_FALSE((*tokenizer)->IsSpecial(-1));
  EXPECT_FALSE((*tokenizer)->IsSpecial(1 << 30));
}

TEST(TokenizerParse, BothSpellingsOfMergesAreTheSame) {
  json strings = Small();
  strings["model"]["merges"] = {"a b", "ab c"};
  const auto from_pairs = Parsed(Small());
  const auto from_strings = Parsed(strings);
  EXPECT_THAT(Ids(*from_pairs, "abcab"), ElementsAre(257, 256));
  EXPECT_THAT(Ids(*from_strings, "abcab"), ElementsAre(257, 256));
}

TEST(TokenizerParse, ByteFallbackIsTakenWithItsTokens) {
  json document = Small();
  document["model"]["byte_fallback"] = true;
  char name[8];
  for (int byte = 0; byte < 256; ++byte) {
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    document["model"]["vocab"][name] = 300 + byte;
  }
  EXPECT_THAT(Ids(*Parsed(document), "abc\x01"), ElementsAre(257, 1));
}

TEST(TokenizerParse, TemplateGivesThePrefix) {
  json document = Small();
  document["post_processor"] = {{"type", "Sequence"},
                                {"processors",
                                 {{{"type", "ByteLevel"}},
                                  {{"type", "TemplateProcessing"},
                                   {"single",
                                    {{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
                                     {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}}}}};
  const auto tokenizer = Parsed(document);
  EXPECT_THAT(tokenizer->prefix_ids(), ElementsAre(258));
  EXPECT_THAT(Ids(*tokenizer, "ab"), ElementsAre(256));
  EXPECT_THAT(Parsed(Small())->prefix_ids(), IsEmpty());
}

TEST(TokenizerParse, ManyAddedTokensWithCommonPrefixes) {
  json document = Small();
  for (int i = 0; i < 100'000; ++i) {
    document["added_tokens"].push_back(
        Added(259 + i, std::string(60, '<') + std::to_string(i) + ">"));
  }
  const auto tokenizer = Parsed(document);
  const std::string prefix(60, '<');
  EXPECT_THAT(Ids(*tokenizer, prefix + "99999>" + prefix + "7>"),
              ElementsAre(259 + 99'999, 259 + 7));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Ids(*tokenizer, std::string(1 << 18, '<')).size(), size_t{1} << 18);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(TokenizerParse, OneFractionOfTheIdsMayBeMissing) {
  json document = Small();
  document["added_tokens"][0]["id"] = 1000;
  const auto tokenizer = Parsed(document);
  EXPECT_EQ(tokenizer->vocab_size(), 1001);
  const std::vector<int32_t> hole = {999};
  const auto text = tokenizer->Decode(hole, true);
  ASSERT_FALSE(text.ok());
  EXPECT_THAT(text.status().message(), HasSubstr("the id 999 at index 0"));
}

TEST(TokenizerEncode, SpecialTextIsTextUnlessAskedFor) {
  const auto tokenizer = Parsed(Small());
  EXPECT_THAT(Ids(*tokenizer, "ab<|end|>ab", true), ElementsAre(256, 258, 256));
  const auto plain = Ids(*tokenizer, "ab<|end|>ab", false);
  EXPECT_EQ(plain.size(), 9u);
  EXPECT_THAT(plain, testing::Not(testing::Contains(258)));
  EXPECT_EQ(tokenizer->Decode(plain, false).value(), "ab<|end|>ab");
}

TEST(TokenizerEncode, EmptyAndOnlySpecial) {
  const auto tokenizer = Parsed(Small());
  EXPECT_THAT(Ids(*tokenizer, ""), IsEmpty());
  EXPECT_THAT(Ids(*tokenizer, "<|end|>"), ElementsAre(258));
  EXPECT_EQ(tokenizer->Decode({}, true).value(), "");
  const std::vector<int32_t> end = {258};
  EXPECT_EQ(tokenizer->Decode(end, false).value(), "");
  EXPECT_EQ(tokenizer->Decode(end, true).value(), "<|end|>");
}

TEST(TokenizerEncode, BrokenUtf8IsRefusedWithItsOffset) {
  const auto tokenizer = Parsed(Small());
  for (const char* bad : {"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xF0\x9F\x98",
                          "\xE0\x80\x80", "\xF4\x90\x80\x80", "\xC3", "\xFF", "\xE4\xBD"}) {
    const auto ids = tokenizer->Encode("abcd\xC3\xA9" + std::string(bad), true);
    ASSERT_FALSE(ids.ok());
    EXPECT_EQ(ids.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(ids.status().message(), HasSubstr("offset 6 of"));
    EXPECT_FALSE(FindInvalidUtf8(ids.status().message()).has_value());
  }
}

TEST(TokenizerEncode, OddButValidTextSurvives) {
  const auto tokenizer = Parsed(Small());
  for (const std::string& text : {std::string("a\0b", 3),
                                  std::string("a\xEF\xBB\xBF"
                                              "b"),
                                  std::string("\xF4\x8F\xBF\xBF"), std::string("\xEE\x80\x80")}) {
    EXPECT_EQ(tokenizer->Decode(Ids(*tokenizer, text), true).value(), text);
  }
}

TEST(TokenizerEncode, LongRunsTakeLinearTime) {
  const auto tokenizer = Tokenizer::Load(HGA_SOURCE_DIR "/models/hga-mini");
  ASSERT_TRUE(tokenizer.ok());
  for (const std::string& unit :
       {std::string("a"), std::string("Z"), std::string(" "), std::string("\n"),
        std::string("\xCC\x81"), std::string("\xCC\x81\xCC\xA3"),
        std::string("\xF0\x9F\x91\xA9\xE2\x80\x8D"), std::string("\xE4\xB8\x80")}) {
    const std::string text = Times(unit, (1 << 20) / unit.size());
    const auto start = std::chrono::steady_clock::now();
    const auto ids = Ids(**tokenizer, text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
    EXPECT_GT(ids.size(), 1000u);
  }
}

TEST(TokenizerEncode, OneTokenizerServesManyThreads) {
  const auto tokenizer = Tokenizer::Load(HGA_SOURCE_DIR "/models/hga-mini");
  ASSERT_TRUE(tokenizer.ok());
  const std::string text = Times("Many threads, one tokenizer: caf\xC3\xA9 e\xCC\x81! ", 500);
  const auto expected = Ids(**tokenizer, text);
  std::vector<std::vector<int32_t>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] { result = Ids(**tokenizer, text); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(TokenizerEncode, ExponentialPatternsGiveUp) {
  json document = Small();
  document["pre_tokenizer"]["pretokenizers"][0] = Split("(a|aa)+$");
  const auto ids = Parsed(document)->Encode(std::string(200, 'a') + "b", true);
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(ids.status().message(), HasSubstr("gave up at byte"));
}

TEST(TokenizerEncode, MongolianVowelSeparatorIsNoSpace) {
  json document = Small();
  document["pre_tokenizer"]["pretokenizers"][0] = Split(R"(b\s|[\sx]c)");
  document["model"]["merges"] = json::array();
  // With U+180E among the spaces the pieces, and so the ids with whole-piece lookup, would differ.
  document["model"]["ignore_merges"] = true;
  std::string spelled = "b";
  for (const char c : std::string("\xE1\xA0\x8E"))
    spelled += SpellingOfByte(static_cast<uint8_t>(c));
  document["model"]["vocab"][spelled] = 300;
  document["model"]["vocab"]["b" + SpellingOfByte(' ')] = 301;
  const auto tokenizer = Parsed(document);
  EXPECT_THAT(Ids(*tokenizer, "ab "), ElementsAre('a', 301));
  EXPECT_THAT(Ids(*tokenizer, "ab\xE1\xA0\x8E"), ElementsAre('a', 'b', 0xE1, 0xA0, 0x8E));
}

TEST(TokenizerDecode, UnknownIdsAreNamed) {
  const auto tokenizer = Parsed(Small());
  for (const int32_t id : {-1, 259, INT32_MAX, INT32_MIN}) {
    const std::vector<int32_t> ids = {5, id};
    const auto text = tokenizer->Decode(ids, true);
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(text.status().message(), HasSubstr("the id " + std::to_string(id) + " at index 1"));
  }
}

TEST(Utf8StreamTest, EveryCutGivesTheSameText) {
  const std::string text = "a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x98\x80z";
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      Utf8Stream stream;
      std::string shown = stream.Push(text.substr(0, first));
      EXPECT_FALSE(FindInvalidUtf8(shown).has_value());
      shown += stream.Push(text.substr(first, second - first));
      EXPECT_FALSE(FindInvalidUtf8(shown).has_value());
      shown += stream.Push(text.substr(second));
      EXPECT_EQ(shown + stream.Finish(), text);
    }
  }
}

TEST(Utf8StreamTest, WhatCannotBecomeACharacterIsReplaced) {
  const std::string mark = "\xEF\xBF\xBD";
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xF0\x9F"), "a");
  EXPECT_EQ(stream.Push("b"), mark + "b");
  EXPECT_EQ(stream.Push("\x80\xC0"), mark + mark);
  EXPECT_EQ(stream.Push("\xE4\xBD"), "");
  EXPECT_EQ(stream.Finish(), mark);
  EXPECT_EQ(stream.Finish(), "");
}

TEST(Utf8Test, FindsTheFirstBadByte) {
  EXPECT_FALSE(FindInvalidUtf8("").has_value());
  EXPECT_FALSE(FindInvalidUtf8(std::string(100, 'x') + "\xF0\x9F\x98\x80").has_value());
  for (size_t before = 0; before < 40; ++before) {
    EXPECT_EQ(FindInvalidUtf8(std::string(before, 'x') + "\x80yyyyyyyyyyyyyyyy"), before);
  }
  size_t valid = 0;
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    std::string text;
    AppendUtf8(code_point, &text);
    const Utf8Step step = FirstUtf8(text);
    valid += step.kind == Utf8Kind::kCharacter && step.code_point == code_point &&
             step.bytes == text.size();
  }
  EXPECT_EQ(valid, 1'112'064u);
}

}  // namespace
}  // namespace hga
