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

// Brackets, commas and colons outside of strings; what else is wrong is left to the parser, which
// looks for each key among all of its object.
class SizeCheck {
 public:
  explicit SizeCheck(const Limits& limits) : limits_(limits) {}

  Status Check(std::string_view text) {
    bool in_string = false;
    for (size_t at = 0; at < text.size(); ++at) {
      const char c = text[at];
      if (in_string) {
        if (c == '\\') ++at;
        if (c == '"') in_string = false;
        continue;
      }
      if (c == '"') in_string = true;
      HGA_RETURN_IF_ERROR(Count(c, at));
    }
    return OkStatus();
  }

 private:
  Status Count(char c, size_t at) {
    if (c == ',' || c == ':' || c == '[' || c == '{') ++values_;
    if (c == ':' && !members_.empty()) {
      ++members_.back();
      ++all_members_;
    }
    if (c == '[' || c == '{') members_.push_back(0);
    if ((c == ']' || c == '}') && !members_.empty()) members_.pop_back();
    if (static_cast<int>(members_.size()) > limits_.json_depth) {
      return InvalidArgument(
          fmt::format("the JSON is nested deeper than {} at byte {}", limits_.json_depth, at));
    }
    if (values_ > limits_.json_values) {
      return InvalidArgument(fmt::format("the JSON has more than {} values", limits_.json_values));
    }
    const bool wide = !members_.empty() && members_.back() > limits_.json_members;
    if (wide || all_members_ > limits_.json_all_members) {
      return InvalidArgument(
          fmt::format("the JSON has more than {} members in an object or {} in all at byte {}",
                      limits_.json_members, limits_.json_all_members, at));
    }
    return OkStatus();
  }

  const Limits& limits_;
  std::vector<int64_t> members_;  // of each open bracket
  int64_t values_ = 1, all_members_ = 0;
};

// Remembers the keys of every open object; stops at the first that is there twice.
class KeyCheck : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    open_.emplace_back();
    return true;
  }
  bool end_object() override {
    open_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool key(string_t& name) override {
    if (open_.back().insert(name).second) return true;
    twice_ = fmt::format("the key {} is there twice", Quoted(name));
    return false;
  }
  // The parser says the same, and where.
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
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
  HGA_RETURN_IF_ERROR(SizeCheck(limits).Check(text));
  KeyCheck keys;
  try {
    static_cast<void>(Json::sax_parse(text, &keys));
    if (!keys.twice().empty()) return InvalidArgument("the JSON is ambiguous: " + keys.twice());
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return InvalidArgument(fmt::format("the body is not JSON: error at byte {} of {}",
                                       error.byte == 0 ? 0 : error.byte - 1, text.size()));
  } catch (const Json::exception&) {
    return InvalidArgument("the JSON has a number that no type holds");
  }
}

}  // namespace hga::server
