// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions as typed values.
#ifndef HGA_APPS_SERVER_CHAT_REQUEST_H_
#define HGA_APPS_SERVER_CHAT_REQUEST_H_

#include <string>
#include <vector>

#include "apps/server/common_request.h"
#include "hga/chat_template.h"
#include "hga/constraint.h"

namespace hga::server {

enum class AnswerFormat { kText, kJsonObject, kJsonSchema };

// The part that /apply-template takes as well.
struct ChatPrompt {
  ChatInput input;              // messages in the one shape templates know, tools, variables
  std::vector<ToolSpec> tools;  // those the answer may call
  bool tools_required = false;
  bool parallel_tool_calls = true;
};

struct ChatRequest {
  CommonRequest common;
  ChatPrompt prompt;
  AnswerFormat format = AnswerFormat::kText;
  std::string schema;  // JSON text of kJsonSchema
};

// Errors are in `fields`.
ChatPrompt ReadChatPrompt(Fields& fields);
ChatRequest ReadChatRequest(Fields& fields, const ServedModel& model);
// `messages` alone, rewritten: contents as one text, arguments of calls as objects. `continues`:
// the last one is the beginning of an answer.
Json ReadMessages(Fields& fields, bool* continues);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_CHAT_REQUEST_H_
