// SPDX-License-Identifier: Apache-2.0
// Calls of tools in the text of an answer: <tool_call>{"name", "arguments"}</tool_call>.
#ifndef HGA_APPS_SERVER_TOOL_STREAM_H_
#define HGA_APPS_SERVER_TOOL_STREAM_H_

#include <string>
#include <string_view>
#include <vector>

namespace hga::server {

struct ToolDelta {
  int index = 0;
  bool starts = false;  // then `name` is there
  std::string name;
  std::string arguments;  // appended
};

class ToolStream {
 public:
  struct Piece {
    std::string text;  // outside of calls
    std::vector<ToolDelta> calls;
  };
  Piece Push(std::string_view text);
  // What was held back; a call that has no end, or is none, is text.
  Piece Finish();
  int calls() const { return calls_; }

 private:
  void Call(std::string_view body, Piece* piece);

  std::string held_;
  bool inside_ = false;
  int calls_ = 0;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_TOOL_STREAM_H_
