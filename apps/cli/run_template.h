// SPDX-License-Identifier: Apache-2.0
// The built-in chat template, ChatML, and when it may be used.
#ifndef HGA_APPS_CLI_RUN_TEMPLATE_H_
#define HGA_APPS_CLI_RUN_TEMPLATE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga::cli {

// Turns messages into tokens. Texts never yield special tokens.
class ChatMl {
 public:
  // Looks at the chat template of a checkpoint (chat_template.jinja, else tokenizer_config.json).
  // kUnsupported when it has none or one that is not ChatML; --raw is then the way.
  static Result<ChatMl> For(const std::string& directory, const Tokenizer& tokenizer);

  // "<|im_start|>ROLE\nTEXT<|im_end|>\n"
  Result<std::vector<int32_t>> Message(std::string_view role, std::string_view text) const;
  // What stands before and after an answer.
  Result<std::vector<int32_t>> AnswerStart() const;
  Result<std::vector<int32_t>> AnswerEnd() const;
  int32_t end_id() const { return end_; }

 private:
  ChatMl(const Tokenizer& tokenizer, int32_t start, int32_t end)
      : tokenizer_(&tokenizer), start_(start), end_(end) {}

  const Tokenizer* tokenizer_;
  int32_t start_;
  int32_t end_;
};

// Whether a Jinja chat template writes ChatML; `why` says what speaks against it.
bool IsChatMl(std::string_view chat_template, std::string* why);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_RUN_TEMPLATE_H_
