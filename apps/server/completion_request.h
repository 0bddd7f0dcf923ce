// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions as typed values.
#ifndef HGA_APPS_SERVER_COMPLETION_REQUEST_H_
#define HGA_APPS_SERVER_COMPLETION_REQUEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "apps/server/common_request.h"

namespace hga::server {

struct CompletionRequest {
  CommonRequest common;
  std::vector<std::string> texts;             // prompts as text, or
  std::vector<std::vector<int32_t>> prompts;  // as token ids
  bool echo = false;
  bool no_answer = false;  // max_tokens 0: only the prompt is wanted
};

// Errors are in `fields`.
CompletionRequest ReadCompletionRequest(Fields& fields, const ServedModel& model);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_COMPLETION_REQUEST_H_
