// SPDX-License-Identifier: Apache-2.0
// JSON of a request as values of a template, in its own order and marked as input.
#ifndef HGA_MODEL_CHAT_TEMPLATE_JSON_H_
#define HGA_MODEL_CHAT_TEMPLATE_JSON_H_

#include <cstddef>
#include <string_view>

#include "hga/status.h"
#include "model/chat_template_value.h"

namespace hga::chat {

inline constexpr size_t kJsonBytesMax = size_t{96} << 20;  // 16 MiB of text, all of it escaped
inline constexpr size_t kJsonValuesMax = 1'000'000;
inline constexpr int kJsonDepthMax = 100;

// kInvalidArgument, with `name` and the offset, for what is not JSON; kResourceExhausted beyond a
// limit above. Of equal keys the last one counts.
Result<Value> ParseJson(std::string_view json, std::string_view name);

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_JSON_H_
