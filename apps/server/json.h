// SPDX-License-Identifier: Apache-2.0
// JSON of requests and answers: keys stay in order, writing never fails.
#ifndef HGA_APPS_SERVER_JSON_H_
#define HGA_APPS_SERVER_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "apps/server/limits.h"
#include "hga/status.h"

namespace hga::server {

using Json = nlohmann::ordered_json;

// One line. Bytes that are no UTF-8 become U+FFFD.
std::string Dump(const Json& value);

// Untrusted text: UTF-8, no byte order mark, within the limits of depth and number of values, no
// key twice in an object. kInvalidArgument with the byte's position.
Result<Json> ParseJson(std::string_view text, const Limits& limits);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_JSON_H_
