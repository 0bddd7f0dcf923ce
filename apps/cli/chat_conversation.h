// SPDX-License-Identifier: Apache-2.0
// A conversation as tokens, and the part of it that a sequence holds already.
#ifndef HGA_APPS_CLI_CHAT_CONVERSATION_H_
#define HGA_APPS_CLI_CHAT_CONVERSATION_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hga/engine.h"
#include "hga/status.h"
#include "run_generate.h"
#include "run_template.h"

namespace hga::cli {

// After any change (another turn, one taken back, another system message) the sequence keeps the
// K/V of the longest common beginning and only the rest is fed.
class Conversation {
 public:
  explicit Conversation(ChatMl chat) : chat_(chat) {}

  Status SetSystem(std::string_view text);  // "" removes it
  Status AddUser(std::string_view text);    // begins a turn
  void DropTurn();                          // the newest; there must be one
  void Clear() { turns_.clear(); }
  size_t turns() const { return turns_.size(); }
  int32_t end_id() const { return chat_.end_id(); }

  // Truncates `sequence` to what it shares with the conversation up to the newest turn's answer.
  // Returns what must be fed; at least one token. The tokens kept are written to `kept`.
  Result<std::vector<int32_t>> Align(Sequence* sequence, std::vector<int32_t>* kept);
  // Tells what the sequence holds now, and ends the newest turn with the answer.
  Status AddAnswer(const std::vector<int32_t>& prompt, const Generated& generated,
                   int64_t sequence_length);
  // Tokens of the conversation up to the newest turn's answer.
  Result<std::vector<int32_t>> Tokens() const;

 private:
  struct Turn {
    std::vector<int32_t> user;    // message and the start of the answer
    std::vector<int32_t> answer;  // with its end; empty while it is open
  };

  ChatMl chat_;
  std::vector<int32_t> system_;
  std::vector<Turn> turns_;
  std::vector<int32_t> fed_;  // what the sequence holds
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_CHAT_CONVERSATION_H_
