// SPDX-License-Identifier: Apache-2.0
// Fuzzes grammars of JSON schemas and tools, and the reader of tool calls: no crash, answers never
// get stuck, and what is complete is JSON.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "hga/constraint.h"
#include "hga/tool_calls.h"
#include "tests/byte_tokenizer.h"
#include "tests/fuzz/json_mutator.h"

namespace {

constexpr size_t kPrefix = 9;  // one byte chooses the target, eight the tokens of an answer
constexpr int kMostSteps = 120;

void Require(bool condition) {
  if (!condition) std::abort();
}

std::shared_ptr<const hga::Grammar::Vocabulary> Vocabulary() {
  static const auto vocabulary =
      hga::Grammar::MakeVocabulary(hga::ByteTokenizer({"\": ", "\", \"", "{\"a", "}}", "]}", "aaaa",
                                                       "<tool_call>", "12", "\\u00", "[[", "\"}"}))
          .value();
  return vocabulary;
}

std::vector<int32_t> AllowedIds(hga::Constraint& constraint) {
  std::vector<int32_t> ids;
  const auto mask = constraint.Allowed();
  for (size_t i = 0; i < mask.size() * 64; ++i) {
    if ((mask[i / 64] >> (i % 64) & 1) != 0) ids.push_back(static_cast<int32_t>(i));
  }
  return ids;
}

// Whether the answer came to an end.
bool WriteAnswer(const hga::Grammar& grammar, uint64_t choices, std::string* answer) {
  static const hga::ByteTokenizer bytes(
      {"\": ", "\", \"", "{\"a", "}}", "]}", "aaaa", "<tool_call>", "12", "\\u00", "[[", "\"}"});
  const auto constraint = grammar.Start();
  for (int step = 0; step < kMostSteps; ++step) {
    const std::vector<int32_t> ids = AllowedIds(*constraint);
    Require(!ids.empty() || constraint->MayEnd());
    choices = choices * 6364136223846793005U + 1442695040888963407U;
    if (ids.empty() || (constraint->MayEnd() && choices >> 62 == 0)) return true;
    const int32_t id = ids[(choices >> 33) % ids.size()];
    Require(constraint->Accept(id).ok());
    *answer += bytes.Decode({&id, 1}, true).value();
  }
  return false;
}

void CheckSchema(std::string_view schema, uint64_t choices) {
  const auto grammar = hga::Grammar::JsonSchema(Vocabulary(), schema);
  if (!grammar.ok()) {
    Require(!grammar.status().message().empty());
    return;
  }
  std::string answer;
  if (WriteAnswer(**grammar, choices, &answer)) Require(nlohmann::json::accept(answer));
}

void CheckTools(std::string_view schema, uint64_t choices) {
  const hga::ToolSpec tools[] = {{"f", std::string(schema)}, {"g", ""}};
  const auto grammar = hga::Grammar::ToolCalls(Vocabulary(), tools, true, (choices & 1) != 0);
  if (!grammar.ok()) return;
  std::string answer;
  if (!WriteAnswer(**grammar, choices, &answer)) return;
  hga::ToolCallParser parser;
  std::vector<hga::ToolCallEvent> events = parser.Push(answer);
  Require(events.size() >= 3 && events.back().kind == hga::ToolCallEvent::kCallEnd);
  Require(parser.Finish().empty());
}

// However the text is cut, all of it comes back in some form and calls are in order.
void CheckReader(std::string_view text, uint64_t choices) {
  hga::ToolCallParser parser;
  int started = 0, ended = 0;
  const auto look = [&](const std::vector<hga::ToolCallEvent>& events) {
    for (const hga::ToolCallEvent& event : events) {
      if (event.kind == hga::ToolCallEvent::kCallStart) Require(event.index == started++);
      if (event.kind == hga::ToolCallEvent::kCallEnd) Require(event.index == ended++);
      if (event.kind == hga::ToolCallEvent::kArguments) Require(event.index == started - 1);
      Require(ended <= started && started <= ended + 1);
    }
  };
  while (!text.empty()) {
    choices = choices * 6364136223846793005U + 1;
    const size_t piece = std::min<size_t>(1 + (choices >> 33) % 20, text.size());
    look(parser.Push(text.substr(0, piece)));
    text.remove_prefix(piece);
  }
  look(parser.Finish());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kPrefix) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + kPrefix, size - kPrefix);
  uint64_t choices = 0;
  for (size_t i = 1; i < kPrefix; ++i) choices = choices << 8 | data[i];
  switch (data[0] % 8) {
    case 0:
      CheckReader(text, choices);
      break;
    case 1:
      CheckTools(text, choices);
      break;
    default:
      CheckSchema(text, choices);
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  static constexpr std::string_view kWords[] = {
      "{",
      "}",
      "[",
      "]",
      ",",
      "\"",
      "null",
      "true",
      "false",
      "{}",
      "\"\\u0000\"",
      "\"type\":\"object\",",
      "\"type\":\"string\",",
      "\"type\":[\"array\",\"integer\"],",
      "\"properties\":{\"a\":{},\"b\":true},",
      "\"required\":[\"a\",\"c\"],",
      "\"additionalProperties\":false,",
      "\"additionalProperties\":{\"$ref\":\"#\"},",
      "\"items\":{\"$ref\":\"#\"},",
      "\"prefixItems\":[{},false],",
      "\"minItems\":2,",
      "\"maxItems\":3,",
      "\"minLength\":1,",
      "\"maxLength\":4,",
      "\"minimum\":-1.5,",
      "\"exclusiveMaximum\":10,",
      "\"enum\":[1,\"a\",null],",
      "\"const\":{\"x\":[1]},",
      "\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#/$defs/a\"}],",
      "\"allOf\":[{\"minLength\":2}],",
      "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}],",
      "\"$defs\":{\"a\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/a\"}}},",
      "\"pattern\":\"^(a|b)+[^c]{2,3}\\\\d$\",",
      "\"format\":\"date-time\",",
      "(",
      ")",
      "|",
      "*",
      "\\\\w",
      "[^",
      "{1,9}",
      "<tool_call>",
      "</tool_call>"};
  static constexpr std::string_view kDocuments[] = {
      R"({"type":"object","properties":{"a":{"type":"string","pattern":"^[a-f]+$"},"b":)"
      R"({"type":"array","items":{"$ref":"#"},"maxItems":2}},"required":["b"]})",
      R"({"$defs":{"a":{"anyOf":[{"type":"object","properties":{"x":{"$ref":"#/$defs/a"}},)"
      R"("additionalProperties":{"type":"integer","minimum":3}},{"const":"q"}]}},)"
      R"("$ref":"#/$defs/a"})",
      R"({"oneOf":[{"type":"object","properties":{"k":{"const":1}},"required":["k"]},)"
      R"({"type":"object","properties":{"k":{"enum":[2,"3"]}},"required":["k"]}]})",
      R"(a <tool_call>{"name": "f", "arguments": {"x": "}"}}</tool_call> b)"};
  return hga::MutateJson(data, size, max_size, seed, kPrefix, kWords, kDocuments);
}
