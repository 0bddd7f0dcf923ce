// SPDX-License-Identifier: Apache-2.0
// Tokens as clients see them: whole characters, no stop strings, probabilities with their text.
#include <gtest/gtest.h>

#include "apps/server/answer_output.h"
#include "apps/server/choice_text.h"

namespace hga::server {
namespace {

class ServerText : public testing::Test {
 protected:
  void SetUp() override {
    auto loaded = Tokenizer::Load(HGA_SOURCE_DIR "/models/hga-mini");
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    tokenizer_ = std::move(*loaded);
  }

  struct Seen {
    std::vector<ChoicePiece> pieces;  // one a token, and the last
    std::string text;
    std::string token_bytes;
    bool stopped = false;
    bool called = false;
  };
  Seen Run(const std::string& text, std::vector<std::string> stops, bool logprobs = true,
           ToolCalls tools = ToolCalls::kNone) {
    ChoiceText choice(*tokenizer_, std::move(stops), logprobs, tools);
    Seen seen;
    const auto ids = tokenizer_->Encode(text, false);
    EXPECT_TRUE(ids.ok());
    for (const int32_t id : *ids) {
      GeneratedToken token;
      token.id = id;
      seen.pieces.push_back(choice.Push(token));
      if (choice.stopped()) break;
    }
    seen.pieces.push_back(choice.Finish());
    for (const ChoicePiece& piece : seen.pieces) {
      seen.text += piece.text;
      for (const TokenText& token : piece.tokens) seen.token_bytes += token.bytes;
    }
    seen.stopped = choice.stopped();
    seen.called = choice.called_tools();
    return seen;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(ServerText, CharactersComeWhole) {
  const std::string text = "caf\xc3\xa9 \xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9 \xe6\xbc\xa2";
  const Seen seen = Run(text, {});
  EXPECT_EQ(seen.text, text);
  EXPECT_EQ(seen.token_bytes, text);
  EXPECT_GT(seen.pieces.size(), 10U);  // characters of several tokens
  for (const ChoicePiece& piece : seen.pieces) {
    EXPECT_EQ(Json::parse(Dump(Json(piece.text))).get<std::string>(), piece.text);
  }
}

TEST_F(ServerText, StopStringsEndTheAnswerAtEveryCut) {
  const std::string text = "the old house at the end of the lane";
  for (size_t at = 1; at + 4 < text.size(); ++at) {
    const std::string stop = text.substr(at, 4);
    const Seen seen = Run(text, {"never", stop});
    EXPECT_TRUE(seen.stopped) << stop;
    EXPECT_EQ(seen.text, text.substr(0, text.find(stop))) << stop;
    EXPECT_TRUE(text.starts_with(seen.token_bytes)) << stop;
    EXPECT_LE(seen.token_bytes.size(), seen.text.size()) << stop;
  }
}

TEST_F(ServerText, WhatCouldHaveBecomeAStopStringIsShownAtTheEnd) {
  const Seen seen = Run("one END", {"ENDING"});
  EXPECT_FALSE(seen.stopped);
  EXPECT_EQ(seen.text, "one END");
  EXPECT_EQ(seen.token_bytes, "one END");
}

TEST_F(ServerText, CallsAreTakenOutOfTheText) {
  const std::string call = R"(<tool_call>
{"name": "f", "arguments": {"x": [1, "</tool_call>"]}}
</tool_call>)";
  const Seen seen = Run("I look. " + call, {}, false, ToolCalls::kAnywhere);
  EXPECT_TRUE(seen.called);
  EXPECT_EQ(seen.text.find("tool_call"), std::string::npos) << seen.text;
  std::string name, arguments;
  for (const ChoicePiece& piece : seen.pieces) {
    for (const ToolDelta& delta : piece.tools) {
      name += delta.name;
      arguments += delta.arguments;
    }
  }
  EXPECT_EQ(name, "f");
  EXPECT_EQ(Json::parse(arguments), Json::parse(R"({"x": [1, "</tool_call>"]})"));
  EXPECT_EQ(Run(call, {}, false).text, call);
}

TEST_F(ServerText, AnAnswerThatBeginsAsJsonHasNoCalls) {
  const std::string call = R"(<tool_call>
{"name": "f", "arguments": {}}
</tool_call>)";
  const std::string json =
      R"( {"a": "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"})";
  const Seen text = Run(json, {}, false, ToolCalls::kOnlyCalls);
  EXPECT_FALSE(text.called);
  EXPECT_EQ(text.text, json);
  const Seen called = Run(call, {}, false, ToolCalls::kOnlyCalls);
  EXPECT_TRUE(called.called);
  EXPECT_EQ(called.text, "");
}

TEST(ServerAnswerJson, LogprobsNeverHoldInfinity) {
  TokenText token;
  token.bytes = "\xf0\x9f";
  token.logprob = -std::numeric_limits<float>::infinity();
  const Json chat = ChatLogprobs({token});
  EXPECT_EQ(chat["content"][0]["logprob"], -9999.0);
  EXPECT_EQ(chat["content"][0]["bytes"], Json::array({0xf0, 0x9f}));
  int64_t offset = 3;
  const Json plain = CompletionLogprobs({token, token}, &offset);
  EXPECT_EQ(plain["text_offset"], Json::array({3, 4}));
  EXPECT_EQ(offset, 5);
}

}  // namespace
}  // namespace hga::server
