// SPDX-License-Identifier: Apache-2.0
// A scan that bounds the work comes before the parser that allocates.
#include "apps/server/json.h"

#include <fmt/core.h>

#include <set>
#include <vector>

#include "apps/common/utf8.h"
#include "apps/server/api_error.h"

namespace hga::server {
namespace {

// Brackets and commas outside of strings; what else is wrong is left to the parser.
Status CheckSize(std::string_view text, const Limits& limits) {
  int depth = 0;
  int64_t values = 1;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == ',' || c == ':' || c == '[' || c == '{') ++values;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > limits.json_depth) {
      return InvalidArgument(
          fmt::format("the JSON is nested deeper than {} at byte {}", limits.json_depth, at));
    }
    if (values > limits.json_values) {
      return InvalidArgument(fmt::format("the JSON has more than {} values", limits.json_values));
    }
  }
  return OkStatus();
}

// Remembers the keys of every open object.
class KeyCheck {
 public:
  bool operator()(int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_.pop_back();
    if (event == Json::parse_event_t::key && twice_.empty()) {
      const auto& key = value.get_ref<const std::string&>();
      if (!open_.back().insert(key).second)
        twice_ = fmt::format("the key {} is there twice", Quoted(key));
    }
    return true;
  }
  const std::string& twice() const { return twice_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::string twice_;
};

}  // namespace

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Json> ParseJson(std::string_view text, const Limits& limits) {
  if (text.starts_with("\xEF\xBB\xBF")) {
    return InvalidArgument("the body begins with a byte order mark");
  }
  if (const size_t at = apps::FirstInvalidUtf8(text); at != std::string_view::npos) {
    return InvalidArgument(fmt::format("the body is not UTF-8: byte 0x{:02x} at offset {}",
                                       static_cast<unsigned char>(text[at]), at));
  }
  HGA_RETURN_IF_ERROR(CheckSize(text, limits));
  KeyCheck keys;
  try {
    Json value = Json::parse(text, std::ref(keys));
    if (!keys.twice().empty()) return InvalidArgument("the JSON is ambiguous: " + keys.twice());
    return value;
  } catch (const Json::parse_error& error) {
    return InvalidArgument(fmt::format("the body is not JSON: error at byte {} of {}",
                                       error.byte == 0 ? 0 : error.byte - 1, text.size()));
  } catch (const Json::exception&) {
    return InvalidArgument("the JSON has a number that no type holds");
  }
}

}  // namespace hga::server
