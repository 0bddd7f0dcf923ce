// SPDX-License-Identifier: Apache-2.0
// Grammars of JSON schemas: what each keyword lets through and keeps out, and refusals by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "hga/constraint.h"
#include "tests/unit/constraint_fixture.h"

namespace hga {
namespace {

using testing::HasSubstr;

struct Table {
  const char* schema;
  std::vector<const char*> fitting;
  std::vector<const char*> others;
};

void Check(const std::vector<Table>& tables) {
  for (const Table& table : tables) {
    const auto grammar = Make(table.schema);
    ASSERT_NE(grammar, nullptr);
    for (const char* text : table.fitting)
      EXPECT_TRUE(Fits(*grammar, text)) << table.schema << text;
    for (const char* text : table.others)
      EXPECT_FALSE(Fits(*grammar, text)) << table.schema << text;
  }
}

TEST(Constraint, Types) {
  Check({
      {R"({"type":"null"})", {"null"}, {"nul", "true", "nulll", " null"}},
      {R"({"type":"boolean"})", {"true", "false"}, {"1", "null"}},
      {R"({"type":"integer"})", {"0", "-1", "120"}, {"01", "1.5", "1e3", "+1", "-", "--1"}},
      {R"({"type":"number"})",
       {"0", "-0.5", "1e5", "1.25E-7", "12"},
       {"1.", ".5", "1e", "00", "1e999", "NaN"}},
      {R"({"type":["string","null"]})", {"\"a\"", "null", "\"\""}, {"1", "\"a"}},
      {R"({})",
       {"1", "{}", "[[],{\"a\":[null]}]", "\"x\"", "{\"a\": 1, \"b\": 2}"},
       {"{,}", "[1,]", "{\"a\"}", "{\"a\":1,\"a\":2}"}},
      {"true", {"[1, 2]"}, {"[1 ,2]"}},
      {R"({"type":"object"})", {"{}", "{\"\":0}"}, {"[]", "1"}},
      {R"({"type":"string","title":"t","description":"d","default":1,"examples":[1]})",
       {"\"t\""},
       {"1"}},
  });
}

TEST(Constraint, StringsAreJsonAndUtf8) {
  Check({{R"({"type":"string"})",
          {"\"\\u00e9\\n\\/\"", "\"\xc3\xa9\"", "\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\"",
           "\"\\uD83D\\uDE00\"", "\"\\u0000\"", "\"\x7f\"", "\"\\ud7ff\""},
          {"\"\n\"", "\"\t\"", "\"\\x\"", "\"\\ud83d\"", "\"\\ud83d\\u0041\"", "\"\\ude00\"",
           "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xff\"", "\"\xc3\"",
           "\"\\u12g4\""}}});
}

TEST(Constraint, Blanks) {
  std::string deep = "[\n" + std::string(20, ' ') + "1]", deeper = "[\n" + std::string(21, ' ');
  Check({{R"({"type":"array","items":{"type":"integer"}})",
          {"[1,2]", "[1, 2]", "[\n  1,\n  2\n]", "[ 1 ]", "[\n\t1\n]", "[]", "[\n]", deep.c_str()},
          {"[1,  2]", "[1 , 2]", "[\n\n1]", "[1]\n", "\n[1]", deeper.c_str()}},
         {R"({"type":"object"})",
          {"{\"a\": 1}", "{\n  \"a\": 1\n}", "{ \"a\":1 }"},
          {"{\"a\" :1}", "{\"a\":  1}", "{\"a\":\n1}"}}});
}

TEST(Constraint, Lengths) {
  Check({
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"\"ab\"", "\"abc\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\\n\\u0041\""},
       {"\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\""}},
      {R"({"type":"string","minLength":2})", {"\"ab\"", "\"abcdef\""}, {"\"a\"", "\"\""}},
      {R"({"type":"string","maxLength":0})", {"\"\""}, {"\"a\""}},
      {R"({"maxLength":1})", {"\"a\"", "12", "[\"abc\"]"}, {"\"ab\""}},
      {R"({"type":"string","maxLength":2,"pattern":"^a*$"})", {"\"\"", "\"aa\""}, {"\"aaa\""}},
  });
}

TEST(Constraint, Integers) {
  struct Bound {
    int64_t low, high;
  };
  for (const Bound& b : {Bound{0, 9}, Bound{-5, 17}, Bound{95, 1205}, Bound{-300, -12},
                         Bound{100, 100}, Bound{-1, 0}, Bound{8, 12}}) {
    const auto grammar = Make("{\"type\":\"integer\",\"minimum\":" + std::to_string(b.low) +
                              ",\"maximum\":" + std::to_string(b.high) + "}");
    for (int64_t i = -1500; i <= 1500; ++i) {
      ASSERT_EQ(Fits(*grammar, std::to_string(i)), b.low <= i && i <= b.high) << i;
    }
  }
  Check({
      {R"({"type":"integer","exclusiveMinimum":3,"exclusiveMaximum":6})",
       {"4", "5"},
       {"3", "6", "04"}},
      {R"({"type":"integer","minimum":0.5,"maximum":2.5})", {"1", "2"}, {"0", "3"}},
      {R"({"type":"integer","minimum":-2.5})", {"-2", "999999999999999999"}, {"-3"}},
      {R"({"type":"integer","minimum":10,"maximum":1e300})", {"10", "123456789"}, {"9", "-10"}},
      {R"({"type":"integer","minimum":-1})", {"0", "-1"}, {"-0", "-2", "-10"}},
  });
}

TEST(Constraint, Numbers) {
  Check({
      {R"({"type":"number","minimum":0,"maximum":1})",
       {"0", "1", "0.5", "0.00000000000001", "1.0", "1.00"},
       {"1.1", "-0.1", "1.01", "2", "1e0", "0.", "00.5", "-0"}},
      {R"({"type":"number","exclusiveMinimum":0.1,"exclusiveMaximum":12.75})",
       {"0.11", "12.74", "12.7", "5", "0.2", "10"},
       {"0.1", "0.10", "12.75", "12.8", "13", "0", "0.09"}},
      {R"({"type":"number","minimum":-1.5})", {"-1.5", "-1.49", "0", "7.25"}, {"-1.51", "-2"}},
      {R"({"type":"number","maximum":-0.25})", {"-0.25", "-1"}, {"-0.2", "0"}},
      {R"({"minimum":5})", {"5.5", "\"x\"", "null"}, {"4"}},
  });
}

TEST(Constraint, EnumAndConst) {
  Check({
      {R"({"enum":["a","b\"\n",1,2.5,null,[1,{"x":"y"}]]})",
       {"\"a\"", "\"b\\\"\\n\"", "1", "2.5", "null", "[1,{\"x\":\"y\"}]"},
       {"\"b\"", "2", "true", "\"\\u0061\""}},
      {R"({"const":{"a":[true]}})", {"{\"a\":[true]}"}, {"{}", "{\"a\":[false]}"}},
      {R"({"type":"string","enum":["a",1,"abc"],"maxLength":2})", {"\"a\""}, {"1", "\"abc\""}},
      {R"({"type":"integer","enum":[1,5,2.0,2.5],"minimum":2})", {"5", "2.0"}, {"1", "2.5"}},
      {R"({"enum":["ab","cd"],"pattern":"^c"})", {"\"cd\""}, {"\"ab\""}},
      {R"({"allOf":[{"enum":[1,2,3]},{"enum":[3.0,2,4]}]})", {"2", "3"}, {"1", "4"}},
  });
}

TEST(Constraint, Objects) {
  Check({
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"},
           "c":true},"required":["b"],"additionalProperties":false})",
       {"{\"b\":null}", "{\"a\":1,\"b\":null}", "{\"a\": 1, \"b\": null, \"c\": []}",
        "{\n  \"b\": null,\n  \"c\": 1\n}"},
       {"{}", "{\"a\":1}", "{\"b\":null,\"a\":1}", "{\"b\":null,\"d\":1}", "{\"b\":null,}",
        "{\"b\":null,\"b\":null}", "{,\"b\":null}"}},
      {R"({"type":"object","properties":{"ab":{"type":"integer"}},
           "additionalProperties":{"type":"string"}})",
       {"{\"ab\":1,\"abc\":\"\",\"a\":\"\"}", "{\"a\":\"x\"}", "{}", "{\"\xc3\xa9\":\"\"}"},
       {"{\"ab\":\"\"}", "{\"a\":1}", "{\"x\":\"\",\"ab\":1}", "{\"x\":\"\",\"x\":\"\"}",
        "{\"\\u0061b\":\"\"}", "{\"x\":\"\",\"y\":\"\",\"x\":\"\"}"}},
      {R"({"type":"object","required":["z"]})", {"{\"z\":1}", "{\"z\":1,\"y\":2}"}, {"{}"}},
      {R"({"type":"object","properties":{"a":false,"b":{}},"additionalProperties":false})",
       {"{}", "{\"b\":1}"},
       {"{\"a\":1}"}},
      {R"({"type":"object","properties":{"q\"/\n":{"type":"null"}},"additionalProperties":false})",
       {"{\"q\\\"/\\n\":null}"},
       {"{\"q\":null}"}},
      // Names are compared within one object only.
      {R"({"additionalProperties":{"additionalProperties":{"type":"null"}}})",
       {"{\"a\":{\"a\":null,\"b\":null},\"b\":{\"a\":null}}"},
       {"{\"a\":{\"a\":null,\"a\":null}}", "{\"a\":{\"a\":null},\"a\":{}}"}},
  });
}

TEST(Constraint, Arrays) {
  Check({
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
       {"[1]", "[1,2,3]"},
       {"[]", "[1,2,3,4]", "[\"\"]", "[1,]"}},
      {R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false})",
       {"[]", "[null]", "[null,true]"},
       {"[true]", "[null,true,1]"}},
      {R"({"type":"array","prefixItems":[{"type":"null"}],"items":{"type":"integer"},
           "minItems":2})",
       {"[null,1]", "[null,1,2]"},
       {"[null]", "[1,1]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"minItems":2})", {"[1,2]", "1", "{}"}, {"[1]"}},
  });
}

TEST(Constraint, Combinations) {
  Check({
      {R"({"anyOf":[{"type":"string","maxLength":1},{"type":"integer"},{"const":"abc"}]})",
       {"\"a\"", "5", "\"abc\""},
       {"\"ab\"", "null"}},
      {R"({"anyOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},
           "required":["k","v"],"additionalProperties":false},{"type":"object","properties":
           {"k":{"const":"b"},"v":{"type":"string"}},"required":["k","v"],
           "additionalProperties":false}]})",
       {"{\"k\":\"a\",\"v\":1}", "{\"k\":\"b\",\"v\":\"\"}"},
       {"{\"k\":\"a\",\"v\":\"\"}", "{\"k\":\"c\",\"v\":1}"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":1}},"required":["k"]},
           {"type":"object","properties":{"k":{"enum":[2,3]}},"required":["k"]}]})",
       {"{\"k\":1}", "{\"k\":3}"},
       {"{\"k\":4}", "{}"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},
           {"properties":{"a":{"minimum":3},"b":{"type":"null"}},
            "additionalProperties":{"type":"boolean"}}]})",
       {"{\"a\":3}", "{\"a\":3,\"b\":null,\"c\":true}"},
       {"{\"a\":2}", "{}", "{\"a\":3,\"c\":1}"}},
      {R"({"allOf":[{"type":"integer","minimum":3},{"maximum":5}],"anyOf":[{"const":4},{"const":9}]})",
       {"4"},
       {"3", "9"}},
  });
}

TEST(Constraint, References) {
  Check({
      {R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},
           "next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"],
           "additionalProperties":false}}})",
       {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
       {"{\"v\":1}", "{\"v\":1,\"next\":{\"v\":2}}"}},
      {R"({"type":"array","items":{"$ref":"#"}})", {"[]", "[[],[[]]]"}, {"[1]", "[[]"}},
      {R"({"definitions":{"a/b~":{"type":"null"}},"$ref":"#/definitions/a~1b~0"})",
       {"null"},
       {"1"}},
      {R"({"$defs":{"s":{"type":"string"}},"$ref":"#/$defs/s","maxLength":1})",
       {"\"a\""},
       {"\"ab\""}},
  });
}

TEST(Constraint, Patterns) {
  Check({
      {R"({"type":"string","pattern":"^[a-c]+\\d{2,3}$"})",
       {"\"a12\"", "\"abc123\""},
       {"\"12\"", "\"a1\"", "\"a1234\"", "\"d12\""}},
      {R"({"type":"string","pattern":"b+"})", {"\"abc\"", "\"b\"", "\"\\nb\""}, {"\"ac\""}},
      {R"({"type":"string","pattern":"^a|b$"})", {"\"ax\"", "\"xb\""}, {"\"xa\"", "\"bx\""}},
      {R"({"type":"string","pattern":"^(a+)+$"})",
       {"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""},
       {"\"aab\"", "\"\""}},
      {R"({"type":"string","pattern":"^(?:x|yz){1,2}?.$"})",
       {"\"xx\"", "\"yzxq\"", "\"x\xc3\xa9\""},
       {"\"x\"", "\"xxxx\"", "\"x\\n\""}},
      {R"({"type":"string","pattern":"^[^a\\d\\-]\\.\\u00e9\\x41[\\]\"-]$"})",
       {"\"b.\xc3\xa9"
        "A]\"",
        "\"b.\xc3\xa9"
        "A\\\"\""},
       {"\"a.\xc3\xa9"
        "A]\"",
        "\"1.\xc3\xa9"
        "A-\"",
        "\"bx\xc3\xa9"
        "A-\""}},
      {R"({"type":"string","pattern":"^\\w\\S\\s\\D$"})",
       {"\"a! x\"", "\"_\xc3\xa9\\tz\""},
       {"\"!  1\""}},
      {R"({"type":"string","pattern":"^[\\u0000-\\u0030]$"})",
       {"\"\\u0001\"", "\"0\"", "\"\\n\"", "\"\\\"\""},
       {"\"1\""}},
      {R"({"type":"string","pattern":"^$"})", {"\"\""}, {"\"a\""}},
  });
}

TEST(Constraint, Formats) {
  Check({
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-29\"", "\"2023-12-31\"", "\"2000-02-29\"", "\"1999-04-30\""},
       {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-13-01\"", "\"2023-04-31\"", "\"23-04-01\"",
        "\"2023-00-10\"", "\"2023-01-00\""}},
      {R"({"type":"string","format":"time"})",
       {"\"23:59:59Z\"", "\"00:00:00.125+02:00\""},
       {"\"24:00:00Z\"", "\"12:00Z\"", "\"12:00:60Z\"", "\"12:00:00\""}},
      {R"({"type":"string","format":"date-time"})",
       {"\"2024-02-29T12:00:00Z\""},
       {"\"2024-02-30T12:00:00Z\"", "\"2024-02-29 12:00:00Z\""}},
      {R"({"type":"string","format":"uuid"})",
       {"\"123e4567-e89b-12d3-A456-426614174000\""},
       {"\"123e4567e89b12d3a456426614174000\"", "\"g23e4567-e89b-12d3-a456-426614174000\""}},
      {R"({"type":"string","format":"email"})", {"\"no\""}, {"1"}},
  });
}

void ExpectRefused(std::string_view schema, StatusCode code, const char* message) {
  const auto grammar = Grammar::JsonSchema(Bytes(), schema);
  ASSERT_FALSE(grammar.ok()) << schema;
  EXPECT_EQ(grammar.status().code(), code) << schema << ": " << grammar.status().message();
  EXPECT_THAT(grammar.status().message(), HasSubstr(message)) << schema;
}

TEST(Constraint, RefusesWhatIsNotUnderstood) {
  const auto refused = [](std::string_view schema, const char* message) {
    ExpectRefused(schema, StatusCode::kUnsupported, message);
  };
  refused(R"({"type":"integer","multipleOf":2})", "#: the keyword multipleOf");
  refused(R"({"properties":{"a":{"not":{}}}})", "#/properties/a: the keyword not");
  for (const char* keyword : {"if", "patternProperties", "contains", "propertyNames", "madeUp",
                              "dependentRequired", "maxProperties", "unevaluatedProperties"}) {
    refused("{\"items\":[]}", "items as a list");
    refused(std::string("{\"") + keyword + "\":{}}", keyword);
  }
  refused(R"({"uniqueItems":true})", "uniqueItems is not supported with this value");
  refused(R"({"properties":{"a":{"$id":"x"}}})", "$id");
  refused(R"({"$ref":"http://x/y"})", "$ref \"http://x/y\"");
  refused(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "branches 0 and 1");
  refused(R"({"oneOf":[{"type":"object"},{"type":"object"}]})", "branches 0 and 1");
  refused(R"({"type":"integer","minimum":1e30})", "18 digits");
  refused(R"({"enum":[{"a":1}],"required":["a"]})", "beside keywords");
  for (const char* pattern : {"(?=a)", "\\\\bx", "\\\\1", "a(^b)", "(a$)b", "a**", "\\\\p{L}", "[]",
                              "x{,3}", "(?<n>a)", "*"}) {
    refused(std::string("{\"type\":\"string\",\"pattern\":\"") + pattern + "\"}", "pattern");
  }
}

TEST(Constraint, RefusesWhatIsNoSchema) {
  const auto refused = [](std::string_view schema, const char* message) {
    ExpectRefused(schema, StatusCode::kInvalidArgument, message);
  };
  refused("{", "not valid JSON");
  refused("3", "a schema is an object");
  refused("false", "no value");
  refused(R"({"type":"strange"})", "type must be");
  refused(R"({"a":1,"a":2})", "twice");
  refused(R"({"minLength":-1})", "minLength must be");
  refused(R"({"minimum":"1"})", "minimum must be a number");
  refused(R"({"exclusiveMinimum":true})", "exclusiveMinimum must be");
  refused(R"({"anyOf":[]})", "anyOf must be");
  refused(R"({"properties":{"a":1}})", "properties must be");
  refused(R"({"$ref":"#/$defs/none"})", "points to nothing");
  refused(R"({"$ref":"#"})", "refers to itself");
  refused(R"({"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"$ref":"#/$defs/a"})",
          "refers to itself");
  refused(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "no value");
  refused(R"({"type":"integer","minimum":3,"maximum":2})", "no value");
  refused(R"({"type":"string","pattern":"[b-a]"})", "reversed");
  refused(R"({"type":"string","pattern":"(a"})", "does not end");
  refused(R"({"type":"string","pattern":"a{1001}"})", "repeats");
  refused(R"({"type":"string","pattern":"^((a{900}){900}){900}$"})", "states");
  refused(R"({"type":"string","pattern":"(a|b)*a(a|b){30}"})", "states");
  refused(R"({"type":"string","maxLength":1000000})", "states");
  refused(R"({"type":"array","maxItems":1000000000})", "states");
  refused(std::string(70, '[') + std::string(70, ']'), "levels");
  refused(std::string(300 << 10, ' ') + "{}", "bytes");
}

}  // namespace
}  // namespace hga
