// SPDX-License-Identifier: Apache-2.0
// One request for text, ready to be generated: prompts as tokens, and how the answers are shown.
#ifndef HGA_APPS_SERVER_ANSWER_JOB_H_
#define HGA_APPS_SERVER_ANSWER_JOB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/server/choice_text.h"
#include "apps/server/common_request.h"
#include "hga/constraint.h"
#include "hga/scheduler.h"

namespace hga::server {

struct AnswerJob {
  bool chat = false;
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  CommonRequest common;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::string> echoes;  // text in front of each prompt's answers; may be empty
  bool no_answer = false;           // the echo alone
  bool prompt_logprobs = false;
  std::shared_ptr<const Grammar> grammar;  // may be null
  ToolCalls tool_calls = ToolCalls::kNone;
  std::string owner;

  // Choices are numbered prompt by prompt.
  int choices() const { return static_cast<int>(prompts.size()) * common.n; }
  const std::vector<int32_t>& prompt_of(int choice) const {
    return prompts[static_cast<size_t>(choice / common.n)];
  }
};

// All choices of a request together.
struct AnswerUsage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t answer_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_ANSWER_JOB_H_
