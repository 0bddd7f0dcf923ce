// SPDX-License-Identifier: Apache-2.0
// A conversation as tokens, and as the note that a session keeps of it.
#ifndef HGA_APPS_CLI_CHAT_CONVERSATION_H_
#define HGA_APPS_CLI_CHAT_CONVERSATION_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/engine.h"
#include "hga/status.h"
#include "hga/tokenizer.h"
#include "run_generate.h"
#include "run_template.h"

namespace hga::cli {

class Conversation {
 public:
  explicit Conversation(ChatMl chat) : chat_(chat) {}

  Status SetSystem(std::string_view text);  // "" removes it
  Status AddUser(std::string_view text);    // begins a turn
  void DropTurn();                          // the newest; there must be one
  void Clear() { turns_.clear(); }
  size_t turns() const { return turns_.size(); }
  int32_t end_id() const { return chat_.end_id(); }
  const std::string& system() const { return system_text_; }

  // Tokens of the conversation up to the newest turn's answer; at least one.
  std::vector<int32_t> Prompt() const;
  // All of them.
  std::vector<int32_t> Tokens() const;
  // Ends the newest turn with the answer to all of its prompt. If not all of `prompt_tokens` were
  // fed, a turn without an earlier answer is dropped.
  Status AddAnswer(int64_t prompt_tokens, const Generated& generated);

  // All of it as JSON, for SessionNote::text. `part` is of the newest turn's answer, so far.
  std::string Note(const Tokenizer& tokenizer, std::span<const int32_t> part) const;
  // The inverse. kDataLoss when the note is none of this program's, or of another vocabulary.
  Status Restore(const std::string& note, int vocab);

 private:
  struct Turn {
    std::string text;             // of the message
    std::vector<int32_t> user;    // message and the start of the answer
    std::vector<int32_t> answer;  // with its end; empty while it is open
  };

  ChatMl chat_;
  std::string system_text_;
  std::vector<int32_t> system_;
  std::vector<Turn> turns_;
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_CHAT_CONVERSATION_H_
