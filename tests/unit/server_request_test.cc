// SPDX-License-Identifier: Apache-2.0
// Bodies, fields, keys and hosts: what the server makes of what clients write.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/core.h>
#include <chrono>

#include "apps/server/auth.h"
#include "apps/server/chat_request.h"
#include "apps/server/completion_request.h"
#include "apps/server/json.h"
#include "apps/server/server.h"

namespace hga::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ServedModel TestModel() {
  ServedModel model;
  model.names = {"m", "alias"};
  model.info.vocab = 100;
  model.info.eos_ids = {7};
  model.turn_end = {9};
  model.context = 1000;
  model.sampling.temperature = 0.7;
  model.sampling.top_k = 20;
  return model;
}

ChatRequest Chat(const std::string& text, ApiError* error = nullptr) {
  const auto body = ParseJson(text, kLimits);
  EXPECT_TRUE(body.ok()) << body.status().message();
  Fields fields(*body);
  ChatRequest request = ReadChatRequest(fields, TestModel());
  if (error != nullptr && !fields.ok()) *error = fields.error();
  if (error == nullptr && !fields.ok()) ADD_FAILURE() << fields.error().message;
  return request;
}

const std::string kUser = R"("messages": [{"role": "user", "content": "hi"}])";

TEST(ServerJson, PositionsAndLimits) {
  Limits small;
  small.json_depth = 3;
  small.json_values = 10;
  EXPECT_TRUE(ParseJson("[[[1]]]", small).ok());
  EXPECT_THAT(ParseJson("[[[[1]]]]", small).status().message(), HasSubstr("at byte 3"));
  EXPECT_THAT(ParseJson("[1,2,3,4,5,6,7,8,9,0]", small).status().message(), HasSubstr("10 values"));
  EXPECT_TRUE(ParseJson(R"("[[[[[[,,,,,,,,,,,,,,\"[[[")", small).ok());
  EXPECT_THAT(ParseJson("{\"a\": \xff}", small).status().message(), HasSubstr("offset 6"));
  EXPECT_THAT(ParseJson(R"({"a": {"b": 1, "b": 2}})", small).status().message(),
              HasSubstr("'b' is there twice"));
  EXPECT_TRUE(ParseJson(R"([{"a": 1}, {"a": 2}])", small).ok());
  EXPECT_FALSE(ParseJson("1e999", small).ok());
}

// Time grows with the text: a quadratic step would take minutes.
TEST(ServerJson, WideOnesTakeNoLonger) {
  const auto list = [](int count, const std::string& item) {
    std::string text = "[" + item;
    for (int i = 1; i < count; ++i) text += "," + item;
    return text + "]";
  };
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(ParseJson(list(1 << 20, "{}"), kLimits).ok());
  EXPECT_TRUE(ParseJson(list(1 << 16, R"({"a":[],"b":0})"), kLimits).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  std::string wide = R"({"k":0)";
  for (int64_t i = 0; i < kLimits.json_members; ++i) wide += fmt::format(R"(,"{}":0)", i);
  EXPECT_THAT(ParseJson(wide + "}", kLimits).status().message(), HasSubstr("2048 members"));
  Limits small;
  small.json_all_members = 3;
  EXPECT_TRUE(ParseJson(R"([{"a":1},{"a":1,"b":2}])", small).ok());
  EXPECT_THAT(ParseJson(R"([{"a":1},{"a":1,"b":2,"c":3}])", small).status().message(),
              HasSubstr("3 in all"));
}

TEST(ServerJson, QuotedTextIsHarmless) {
  EXPECT_EQ(Quoted("a\x1b[0m\n\xff\xc3\xa9"), "'a\\x1b[0m\\x0a\\xff\xc3\xa9'");
  const std::string cut = Quoted(std::string(199, 'a') + "\xc3\xa9" + std::string(50, 'b'));
  EXPECT_THAT(cut, HasSubstr("a\\xc3...'"));
  const std::string body = Dump(ErrorBody({400, "raw \xff\xfe", "p"}));
  EXPECT_TRUE(ParseJson(body, kLimits).ok()) << body;
}

TEST(ServerFields, DefaultsAreTheCheckpointsAndFieldsGoOver) {
  ChatRequest request = Chat("{" + kUser + "}");
  EXPECT_EQ(request.common.sampling.temperature, 0.7);
  EXPECT_EQ(request.common.sampling.top_k, 20);
  EXPECT_EQ(request.common.model, "m");
  EXPECT_FALSE(request.common.max_tokens.has_value());
  EXPECT_THAT(request.common.stop_ids, ElementsAre(7, 9));
  request = Chat("{" + kUser + R"(, "temperature": 0, "top_k": -1, "seed": -1, "model": "alias",
      "max_tokens": 3, "max_completion_tokens": 4, "ignore_eos": true, "stop_token_ids": [5],
      "logit_bias": {"3": -100, "4": 2.5}, "stop": "x", "user": null})");
  EXPECT_EQ(request.common.sampling.temperature, 0);
  EXPECT_EQ(request.common.sampling.top_k, 0);
  EXPECT_EQ(request.common.sampling.seed, UINT64_MAX);
  EXPECT_EQ(request.common.model, "alias");
  EXPECT_EQ(request.common.max_tokens, 4);
  EXPECT_THAT(request.common.stop_ids, ElementsAre(5));
  EXPECT_EQ(request.common.sampling.logit_bias.at(4), 2.5);
  EXPECT_THAT(request.common.stops, ElementsAre("x"));
}

TEST(ServerFields, SeedsAreDrawnWhenNoneIsGiven) {
  EXPECT_NE(Chat("{" + kUser + "}").common.sampling.seed,
            Chat("{" + kUser + "}").common.sampling.seed);
}

TEST(ServerFields, UnknownOnesAreNamedAndNoError) {
  const auto body = ParseJson("{" + kUser + R"(, "new_thing": 1, "store": true})", kLimits);
  Fields fields(*body);
  ReadChatRequest(fields, TestModel());
  EXPECT_TRUE(fields.ok());
  EXPECT_THAT(fields.Unknown(), ElementsAre("new_thing"));
}

TEST(ServerFields, TheFirstErrorStays) {
  ApiError error;
  Chat("{" + kUser + R"(, "temperature": 9, "top_p": 9})", &error);
  EXPECT_EQ(error.param, "temperature");
  EXPECT_THAT(error.message, HasSubstr("temperature: must be a number from 0 to 2"));
  Chat("{" + kUser + R"(, "model": "gpt\u0007"})", &error);
  EXPECT_EQ(error.status, 404);
  EXPECT_THAT(error.message, HasSubstr("'gpt\\x07'"));
}

TEST(ServerMessages, TakeOneShape) {
  const ChatRequest request = Chat(R"({"messages": [
      {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "tool_calls": [
         {"id": "1", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "r"}]})");
  const Json messages = Json::parse(request.prompt.input.messages);
  EXPECT_EQ(messages[0]["role"], "system");
  EXPECT_EQ(messages[0]["content"], "a\nb");
  EXPECT_EQ(messages[1]["tool_calls"][0]["function"]["arguments"]["x"], 1);
  EXPECT_EQ(messages[2]["tool_call_id"], "1");
  EXPECT_TRUE(request.prompt.input.add_generation_prompt);
}

TEST(ServerMessages, AnswersThatWereBegunGoOnUnlessToldOtherwise) {
  const std::string begun =
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])";
  EXPECT_TRUE(Chat(begun + "}").prompt.input.continue_final_message);
  EXPECT_FALSE(Chat(begun + "}").prompt.input.add_generation_prompt);
  const ChatInput other = Chat(begun + R"(, "add_generation_prompt": true})").prompt.input;
  EXPECT_FALSE(other.continue_final_message);
  EXPECT_TRUE(other.add_generation_prompt);
}

TEST(ServerTools, ChoiceLeavesWhatMayBeCalled) {
  const std::string two = "{" + kUser + R"(, "tools": [
      {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
      {"type": "function", "function": {"name": "g"}}])";
  EXPECT_EQ(Chat(two + "}").prompt.tools.size(), 2U);
  EXPECT_FALSE(Chat(two + "}").prompt.tools_required);
  EXPECT_TRUE(Chat(two + R"(, "tool_choice": "required"})").prompt.tools_required);
  const ChatPrompt none = Chat(two + R"(, "tool_choice": "none"})").prompt;
  EXPECT_TRUE(none.tools.empty());
  EXPECT_EQ(none.input.tools, "");
  const ChatPrompt named =
      Chat(two + R"(, "tool_choice": {"type": "function", "function": {"name": "g"}}})").prompt;
  ASSERT_EQ(named.tools.size(), 1U);
  EXPECT_EQ(named.tools[0].name, "g");
  EXPECT_NE(named.input.tools, "");
  const ChatRequest both = Chat(two + R"(, "response_format": {"type": "json_object"}})");
  EXPECT_EQ(both.format, AnswerFormat::kJsonObject);
  EXPECT_EQ(both.prompt.tools.size(), 2U);
}

TEST(ServerCompletions, PromptsInFourShapes) {
  const auto read = [](const std::string& prompt) {
    const auto body = ParseJson("{\"prompt\": " + prompt + "}", kLimits);
    Fields fields(*body);
    auto request = ReadCompletionRequest(fields, TestModel());
    EXPECT_TRUE(fields.ok()) << prompt;
    return request;
  };
  EXPECT_THAT(read(R"("a")").texts, ElementsAre("a"));
  EXPECT_THAT(read(R"(["a", "b"])").texts, ElementsAre("a", "b"));
  EXPECT_THAT(read("[1, 2]").prompts, ElementsAre(std::vector<int32_t>{1, 2}));
  EXPECT_THAT(read("[[1], [2, 99]]").prompts,
              ElementsAre(std::vector<int32_t>{1}, std::vector<int32_t>{2, 99}));
}

TEST(ServerKeys, AreTakenFromTwoHeadersAndNameTheirOwner) {
  const ApiKeys keys({"one", "two"});
  const auto check = [&](const char* name, const char* value) {
    HttpRequest request;
    request.headers.push_back({name, value});
    return keys.Check(request);
  };
  EXPECT_EQ(check("authorization", "Bearer one"), check("x-api-key", "one"));
  EXPECT_NE(check("authorization", "Bearer one"), check("x-api-key", "two"));
  for (const char* bad :
       {"one", "Bearer  one", "Bearer on", "Bearer onee", "Basic one", "", "Bear"}) {
    EXPECT_FALSE(check("authorization", bad).has_value()) << bad;
  }
  EXPECT_LE(check("x-api-key", "two")->size(), 64U);
  EXPECT_EQ(*ApiKeys({}).Check(HttpRequest{}), "");
}

TEST(ServerKeys, FilesMayHaveCommentsAndBlankLines) {
  EXPECT_THAT(KeysOfFile("# no\n\n  a b \r\nc"), ElementsAre("a b", "c"));
}

TEST(ServerHosts, LoopbackAndNamesGiven) {
  for (const char* good : {"localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "[::1]:9"}) {
    EXPECT_TRUE(IsAllowedHost(good, {})) << good;
  }
  for (const char* bad :
       {"evil", "127.0.0.1.evil", "localhost.evil", "evil:127.0.0.1", "[::2]:1"}) {
    EXPECT_FALSE(IsAllowedHost(bad, {})) << bad;
  }
  EXPECT_TRUE(IsAllowedHost("box:1", {"Box"}));
  EXPECT_TRUE(IsAllowedHost("evil", {"*"}));
}

TEST(ServerRoutes, OnlyTheseAreOpen) {
  std::vector<std::string> open;
  for (const RouteInfo& route : ListRoutes()) {
    if (!route.needs_key) open.push_back(route.method + " " + route.path);
  }
  EXPECT_THAT(open,
              ElementsAre("GET /", "GET /page.css", "GET /page.js", "GET /health", "GET /version"));
}

TEST(Server, ReachableAddressesNeedAKey) {
  ServerOptions options;
  options.host = "0.0.0.0";
  options.port = 0;
  EXPECT_EQ(Server::Start(options).status().code(), StatusCode::kInvalidArgument);
  options.api_keys = {"k"};
  EXPECT_TRUE(Server::Start(options).ok());
}

}  // namespace
}  // namespace hga::server
