// SPDX-License-Identifier: Apache-2.0
// No value of a request reaches arithmetic before it went through a range here.
#include "apps/server/fields.h"

#include <fmt/core.h>

#include <cmath>

namespace hga::server {
namespace {

// nlohmann keeps what does not fit int64 as unsigned or as a float. 8.0 is an integer to JSON
// Schema and to clients whose language has one type of number.
std::optional<int64_t> IntegerOf(const Json& value) {
  if (value.is_number_float()) {
    constexpr double kExact = 9007199254740992;  // 2^53
    const auto number = value.get<double>();
    if (!(std::fabs(number) <= kExact) || number != std::floor(number)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX})
    return std::nullopt;
  return value.get<int64_t>();
}

}  // namespace

Fields::Fields(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {
  if (!object.is_object()) Fail("", "must be a JSON object");
}

const Json* Fields::Find(std::string_view name) {
  known_.emplace(name);
  if (!ok()) return nullptr;
  const auto found = object_.find(std::string(name));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> Fields::Integer(std::string_view name, int64_t least, int64_t most) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = IntegerOf(*value);
  if (!number || *number < least || *number > most) {
    Fail(name, fmt::format("must be an integer from {} to {}", least, most));
    return std::nullopt;
  }
  return number;
}

std::optional<double> Fields::Number(std::string_view name, double least, double most) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= least && number <= most)) {
    Fail(name, fmt::format("must be a number from {} to {}", least, most));
    return std::nullopt;
  }
  return number;
}

std::optional<bool> Fields::Bool(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    Fail(name, "must be true or false");
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<std::string> Fields::Text(std::string_view name, int64_t most_bytes) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    Fail(name, "must be a string");
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (static_cast<int64_t>(text.size()) > most_bytes) {
    Fail(name, fmt::format("has {} bytes, at most {} are taken", text.size(), most_bytes));
    return std::nullopt;
  }
  return text;
}

const Json* Fields::Array(std::string_view name, int64_t most_items) {
  const Json* value = Find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) {
    Fail(name, "must be an array");
    return nullptr;
  }
  if (static_cast<int64_t>(value->size()) > most_items) {
    Fail(name, fmt::format("has {} items, at most {} are taken", value->size(), most_items));
    return nullptr;
  }
  return value;
}

const Json* Fields::Object(std::string_view name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_object()) {
    Fail(name, "must be an object");
    return nullptr;
  }
  return value;
}

void Fields::Ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) known_.emplace(name);
}

void Fields::Fail(std::string_view name, const std::string& message, std::string code) {
  if (!ok()) return;
  ApiError error;
  error.param = prefix_ + std::string(name);
  if (name.empty() && !prefix_.empty()) error.param.pop_back();
  error.message =
      error.param.empty() ? "the body " + message : fmt::format("{}: {}", error.param, message);
  error.code = std::move(code);
  error_ = std::move(error);
}

void Fields::Fail(ApiError error) {
  if (ok()) error_ = std::move(error);
}

std::vector<std::string> Fields::Unknown() const {
  std::vector<std::string> names;
  if (!object_.is_object()) return names;
  for (const auto& [name, value] : object_.items()) {
    if (!known_.contains(name)) names.push_back(name);
  }
  return names;
}

bool ReadIds(Fields& fields, std::string_view name, const Json& array, int vocab,
             std::vector<int32_t>* ids) {
  ids->reserve(array.size());
  for (const Json& value : array) {
    const std::optional<int64_t> id = IntegerOf(value);
    if (!id || *id < 0 || *id >= vocab) {
      fields.Fail(name, fmt::format("item {} is no token id from 0 to {}", ids->size(), vocab - 1));
      return false;
    }
    ids->push_back(static_cast<int32_t>(*id));
  }
  return true;
}

}  // namespace hga::server
