// SPDX-License-Identifier: Apache-2.0
// A conversation as tokens, and as the note that a session keeps of it.
#ifndef HGA_APPS_CLI_CHAT_CONVERSATION_H_
#define HGA_APPS_CLI_CHAT_CONVERSATION_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hga/engine.h"
#include "hga/status.h"
#include "hga/tokenizer.h"
#include "run_generate.h"
#include "run_template.h"

namespace hga::cli {

// All of it is rendered for every turn, as the template may look at what comes later. As long as
// the text goes on from what it was, the tokens of answers stay those that the model wrote.
class Conversation {
 public:
  // `tokenizer` outlives this.
  Conversation(PromptTemplate chat, const Tokenizer* tokenizer)
      : chat_(std::move(chat)), tokenizer_(tokenizer) {}

  void SetSystem(std::string_view text);  // "" removes it
  void AddUser(std::string_view text);    // begins a turn
  void DropTurn();                        // the newest; there must be one
  void Clear() { turns_.clear(); }
  size_t turns() const { return turns_.size(); }
  const std::set<int32_t>& turn_end() const { return chat_.turn_end(); }
  const std::string& system() const { return system_; }

  // Tokens of the conversation up to the newest turn's answer; at least one. There must be a turn.
  Result<std::vector<int32_t>> Prompt();
  // All of them; every turn must have its answer.
  Result<std::vector<int32_t>> Tokens();
  // Ends the newest turn with the answer to all of its prompt. If not all of `prompt_tokens` were
  // fed, a turn without an earlier answer is dropped.
  void AddAnswer(int64_t prompt_tokens, const Generated& generated);

  // All of it as JSON, for SessionNote::text. `part` is of the newest turn's answer, so far.
  std::string Note(std::span<const int32_t> part) const;
  // The inverse. kDataLoss when the note is none of this program's, or of another vocabulary.
  Status Restore(const std::string& note, int vocab);

 private:
  struct Turn {
    std::string user;
    bool answered = false;
    std::string answer;  // as text, without special tokens
    std::vector<int32_t> answer_ids;
  };
  struct Known {
    std::string text;
    std::vector<int32_t> ids;
  };
  struct Mark {
    size_t bytes = 0, ids = 0;  // of `known_` behind a turn's answer
    bool extends = false;       // what was known of the turns before is its beginning
  };

  std::string AnswerText(std::span<const int32_t> ids) const;
  // What stands before the answer of `turn`, once all turns before it are known. `extends`: see
  // Mark.
  Result<Known> PromptOf(size_t turn, bool* extends) const;
  // Makes `known_` that of the first `count` turns with their answers.
  Status Know(size_t count);

  PromptTemplate chat_;
  const Tokenizer* tokenizer_;
  std::string system_;
  std::vector<Turn> turns_;
  Known known_;
  std::vector<Mark> marks_;  // one per known turn
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_CHAT_CONVERSATION_H_
