// SPDX-License-Identifier: Apache-2.0
// The reader of tool calls: however an answer is cut into pieces, the same calls and text come out.
#include "hga/tool_calls.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hga {
namespace {

// Events as one line, neighbours of a kind joined: T(text) S0(name) A0(arguments) E0.
std::string Joined(const std::vector<ToolCallEvent>& events) {
  std::string line;
  std::string open;  // the kind whose text is being joined
  for (const ToolCallEvent& event : events) {
    const std::string index = std::to_string(event.index);
    const std::string head = event.kind == ToolCallEvent::kText        ? "T"
                             : event.kind == ToolCallEvent::kCallStart ? "S" + index
                             : event.kind == ToolCallEvent::kArguments ? "A" + index
                                                                       : "E" + index;
    if (head == open) {
      line.insert(line.size() - 1, event.text);
      continue;
    }
    if (!line.empty()) line += ' ';
    line += head;
    line += '(';
    line += event.text;
    line += ')';
    open = head;
  }
  return line;
}

std::string Read(const std::string& text, size_t piece) {
  ToolCallParser parser;
  std::vector<ToolCallEvent> events;
  for (size_t at = 0; at < text.size(); at += piece) {
    for (ToolCallEvent& event : parser.Push(std::string_view(text).substr(at, piece))) {
      events.push_back(std::move(event));
    }
  }
  for (ToolCallEvent& event : parser.Finish()) events.push_back(std::move(event));
  return Joined(events);
}

struct Case {
  const char* text;
  const char* events;
};

constexpr Case kCases[] = {
    {"plain text < tool", "T(plain text < tool)"},
    {"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
     "S0(f) A0({\"a\": 1}) E0()"},
    {"Hi.<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "T(Hi.) S0(f) A0({}) E0()"},
    {"<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": "
     "\"g\", \"arguments\": {\"x\": [{}]}}\n</tool_call>\n",
     "S0(f) A0({}) E0() S1(g) A1({\"x\": [{}]}) E1()"},
    {"<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n and text",
     "S0(f) A0({}) E0() T(\n and text)"},
    {"<tool_call>{\"name\":\"a\\\"\\u0062\",\"arguments\":{\"s\":\"}</tool_call>\\\"\"}}"
     "</tool_call>",
     "S0(a\"b) A0({\"s\":\"}</tool_call>\\\"\"}) E0()"},
    {"<tool_call>{\"arguments\":{\"b\":2,\"a\":1},\"name\":\"f\"}</tool_call>",
     "S0(f) A0({\"b\":2,\"a\":1}) E0()"},
    {"<tool_call>{\"name\":\"f\"}</tool_call> x", "T(<tool_call>{\"name\":\"f\"}</tool_call> x)"},
    {"<tool_call>nonsense</tool_call>", "T(<tool_call>nonsense</tool_call>)"},
    {"<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>",
     "T(<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>)"},
    {"<tool_call>{\"name\": \"f", "T(<tool_call>{\"name\": \"f)"},
    {"<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":", "S0(f) A0({\"a\":)"},
    {"a<tool_call", "T(a<tool_call)"},
    {"<<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "T(<) S0(f) A0({}) E0()"},
};

TEST(ToolCalls, PiecesMakeNoDifference) {
  for (const Case& c : kCases) {
    for (size_t piece = 1; piece <= std::string_view(c.text).size(); ++piece) {
      ASSERT_EQ(Read(c.text, piece), c.events) << "pieces of " << piece;
    }
  }
}

TEST(ToolCalls, ArgumentsAndTextComeAtOnce) {
  ToolCallParser parser;
  EXPECT_EQ(Joined(parser.Push("Hello ")), "T(Hello )");
  EXPECT_EQ(Joined(parser.Push("you <tool")), "T(you )");
  EXPECT_EQ(Joined(parser.Push("_call>{\"name\":\"f\",\"arguments\":{\"a\"")), "S0(f) A0({\"a\")");
  EXPECT_EQ(Joined(parser.Push(": 1")), "A0(: 1)");
  EXPECT_EQ(Joined(parser.Push("}}")), "A0(})");
  EXPECT_EQ(Joined(parser.Push("</tool_call>")), "E0()");
  EXPECT_EQ(Joined(parser.Finish()), "");
}

}  // namespace
}  // namespace hga
