// SPDX-License-Identifier: Apache-2.0
// Reads tool calls in the Hermes form out of an answer while it is being written.
#ifndef HGA_TOOL_CALLS_H_
#define HGA_TOOL_CALLS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace hga {

struct ToolCallEvent {
  enum Kind {
    kText,       // `text` belongs to the answer's own text
    kCallStart,  // call `index` is of the tool named `text`
    kArguments,  // `text` is the next piece of the arguments of call `index`: JSON
    kCallEnd,    // call `index` is complete
  };
  Kind kind = kText;
  int index = 0;  // counts calls from 0; of kText 0
  std::string text;
};

// <tool_call>{"name": NAME, "arguments": {...}}</tool_call>, with blanks anywhere JSON has them and
// in front of the closing tag. Arguments are passed on as they come when the name stands in front
// of them, and else when the call has ended. What follows a <tool_call> and is no such call comes
// back as text, tags included, once that is plain; a call that was started and breaks off has no
// kCallEnd. Blanks between calls are left out. Memory: the part that is held back.
class ToolCallParser {
 public:
  std::vector<ToolCallEvent> Push(std::string_view text);
  // The answer has ended: what was held back.
  std::vector<ToolCallEvent> Finish();

 private:
  enum class Where { kText, kHead, kWhole, kArguments, kTail };

  bool Advance(std::vector<ToolCallEvent>* events);
  bool ReadText(std::vector<ToolCallEvent>* events);
  bool ReadHead(std::vector<ToolCallEvent>* events);
  bool ReadWholeCall(std::vector<ToolCallEvent>* events);
  bool ReadArguments(std::vector<ToolCallEvent>* events);
  bool ReadTail(std::vector<ToolCallEvent>* events);
  void AddText(std::string_view text, std::vector<ToolCallEvent>* events);

  Where where_ = Where::kText;
  std::string held_;          // not yet given out; in kHead and kWhole it begins behind the tag
  std::string blanks_;        // behind a call, given out if text follows
  bool behind_call_ = false;  // nothing but blanks since the last call
  int calls_ = 0;             // started so far
  size_t scanned_ = 0;        // bytes of held_ known to hold no closing tag
  int depth_ = 0;             // open braces and brackets of the arguments
  bool in_string_ = false, escaped_ = false;
};

}  // namespace hga

#endif  // HGA_TOOL_CALLS_H_
