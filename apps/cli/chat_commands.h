// SPDX-License-Identifier: Apache-2.0
// The commands of `hga chat` that begin with a slash.
#ifndef HGA_APPS_CLI_CHAT_COMMANDS_H_
#define HGA_APPS_CLI_CHAT_COMMANDS_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "chat_conversation.h"
#include "hga/sampler.h"
#include "report.h"

namespace hga::cli {

// What commands look at and change.
struct ChatState {
  Conversation conversation;
  SamplingOptions sampling;
  std::optional<int64_t> max_tokens;  // of one answer
  std::unique_ptr<Sampler> sampler;   // goes on over turns, so that /regen gives another answer
  std::string document;               // from /read, goes before the next message
  RunReport report;                   // of the newest answer
  bool answered = false;
  int vocab = 0;
};

enum class ChatStep { kNext, kAnswer, kLeave };

bool IsCommand(std::string_view message);
// Runs one command. kAnswer: the newest turn wants an answer (again). Errors are for the person;
// the chat goes on.
Result<ChatStep> RunCommand(std::string_view message, ChatState* state);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_CHAT_COMMANDS_H_
