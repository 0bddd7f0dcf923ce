// SPDX-License-Identifier: Apache-2.0
// One choice's tokens as what a client sees: whole characters, stop strings taken away, calls of
// tools apart from text.
#ifndef HGA_APPS_SERVER_CHOICE_TEXT_H_
#define HGA_APPS_SERVER_CHOICE_TEXT_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "apps/common/stop_filter.h"
#include "apps/server/json.h"
#include "hga/scheduler.h"
#include "hga/tokenizer.h"
#include "hga/tool_calls.h"

namespace hga::server {

// A token with its probabilities, as text.
struct TokenText {
  std::string bytes;
  float logprob = 0;
  bool has_logprob = true;  // the first token of a prompt has none
  struct Other {
    std::string bytes;
    float logprob = 0;
  };
  std::vector<Other> top;
};

struct ToolDelta {
  int index = 0;
  bool starts = false;  // then `name` is there
  std::string name;
  std::string arguments;  // appended
};

// What may be shown after a token.
struct ChoicePiece {
  std::string text;
  std::vector<TokenText> tokens;  // only with logprobs
  std::vector<ToolDelta> tools;
  Json lens = nullptr;  // where the token looked, if it was asked for

  bool empty() const { return text.empty() && tokens.empty() && tools.empty() && lens.is_null(); }
};

TokenText Describe(const Tokenizer& tokenizer, const GeneratedToken& token);

// Where calls of tools are looked for.
enum class ToolCalls {
  kNone,
  kAnywhere,   // among text
  kOnlyCalls,  // an answer that does not begin with one is JSON, whatever its strings say
};

class ChoiceText {
 public:
  ChoiceText(const Tokenizer& tokenizer, std::vector<std::string> stops, bool logprobs,
             ToolCalls tool_calls);

  ChoicePiece Push(const GeneratedToken& token);
  ChoicePiece Finish();
  bool stopped() const { return filter_.stopped(); }  // by a stop string
  bool called_tools() const { return calls_ > 0; }

 private:
  void Release(const std::string& shown, ChoicePiece* piece);
  void DecideCallsOrJson(const std::string& shown);
  void AddEvents(std::vector<ToolCallEvent> events, ChoicePiece* piece);

  const Tokenizer& tokenizer_;
  Utf8Stream characters_;
  apps::StopFilter filter_;
  const bool logprobs_;
  std::unique_ptr<ToolCallParser> tools_;  // null: all is text
  int calls_ = 0;                          // complete ones
  bool undecided_ = false;                 // calls or JSON
  std::deque<TokenText> held_;             // whose text is not shown yet
  size_t owed_ = 0;                        // bytes shown, less those of released tokens
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_CHOICE_TEXT_H_
