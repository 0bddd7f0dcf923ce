// SPDX-License-Identifier: Apache-2.0
// Messages to text and tokens, for all routes that take messages.
#ifndef HGA_APPS_SERVER_CHAT_ENCODE_H_
#define HGA_APPS_SERVER_CHAT_ENCODE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "apps/server/routes.h"
#include "hga/chat_template.h"

namespace hga::server {

// Through the model's template. Nothing once an error was sent.
std::optional<ChatText> RenderMessages(const ServedModel& model, const RouteCall& call,
                                       const ChatInput& input);
// The same as token ids, within the context's bytes.
std::optional<std::vector<int32_t>> EncodeMessages(const ServedModel& model, const RouteCall& call,
                                                   const ChatInput& input);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_CHAT_ENCODE_H_
