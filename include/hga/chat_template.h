// SPDX-License-Identifier: Apache-2.0
// A conversation as the text a checkpoint was trained on: its Jinja chat template, run within
// limits.
#ifndef HGA_CHAT_TEMPLATE_H_
#define HGA_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga {

// JSON texts, as an OpenAI-compatible request has them. They reach the template as they are: a
// tool call's "arguments" that is a text stays one (many templates want an object there).
struct ChatInput {
  std::string messages;  // an array of {"role", "content", ...}
  std::string tools;     // an array, or "" for none
  std::string options;   // an object of further variables (chat_template_kwargs), or ""
  bool add_generation_prompt = true;
  // The last message is the beginning of an answer that goes on: its end is left out.
  bool continue_final_message = false;
};

// A rendered prompt. Only `trusted` ranges (of the template itself, and of bos/eos tokens) may
// yield special tokens; what came from the input stays text, whatever it looks like.
struct ChatText {
  std::string text;                // UTF-8
  std::vector<TextRange> trusted;  // bytes of `text`; ascending, disjoint, not adjacent
};

// Immutable, thread-safe.
class ChatTemplate {
 public:
  // From DIR/chat_template.jinja, else DIR/tokenizer_config.json (a text, or the one of a list that
  // is named "default"; "tool_use" when there are tools). kNotFound without one; kInvalidArgument
  // with line and column for what does not parse.
  static Result<std::unique_ptr<ChatTemplate>> Load(const std::string& directory);
  // The same from a template's text.
  static Result<std::unique_ptr<ChatTemplate>> Parse(std::string_view source,
                                                     const std::string& bos_token,
                                                     const std::string& eos_token);
  virtual ~ChatTemplate() = default;

  // kInvalidArgument for input that is no such JSON or that the template refuses
  // (raise_exception: its message); kResourceExhausted beyond a limit of depth, steps, output or
  // time. `options` can't replace messages, tools, add_generation_prompt, bos_token or eos_token.
  virtual Result<ChatText> Render(const ChatInput& input) const = 0;
  virtual const std::string& source() const = 0;
};

// Token ids of a rendered prompt: those of `text` as a whole, but for special tokens outside of
// trusted ranges.
Result<std::vector<int32_t>> EncodeChat(const Tokenizer& tokenizer, const ChatText& chat);

}  // namespace hga

#endif  // HGA_CHAT_TEMPLATE_H_
