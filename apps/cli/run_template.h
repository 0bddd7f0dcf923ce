// SPDX-License-Identifier: Apache-2.0
// A checkpoint's chat template, as the verbs that hold conversations use it.
#ifndef HGA_APPS_CLI_RUN_TEMPLATE_H_
#define HGA_APPS_CLI_RUN_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "hga/chat_template.h"
#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga::cli {

struct Message {
  std::string role;
  std::string content;  // UTF-8
};

class PromptTemplate {
 public:
  // kUnsupported when the checkpoint has no template, or one that can't be used; --raw is then the
  // way.
  static Result<PromptTemplate> Load(const std::string& directory, const Tokenizer& tokenizer);

  // The conversation up to where the next answer begins.
  Result<ChatText> Render(std::span<const Message> messages) const;
  // The special token that the template writes behind an answer, if there is one: it ends an answer
  // beside the model's own end-of-text tokens.
  const std::set<int32_t>& turn_end() const { return turn_end_; }

 private:
  explicit PromptTemplate(std::unique_ptr<ChatTemplate> chat) : template_(std::move(chat)) {}
  void FindTurnEnd(const Tokenizer& tokenizer);

  std::unique_ptr<ChatTemplate> template_;
  std::set<int32_t> turn_end_;
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_RUN_TEMPLATE_H_
