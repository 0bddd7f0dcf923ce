// SPDX-License-Identifier: Apache-2.0
// Typed, bounded access to JSON fields over simdjson's document tree.
#include "model/json_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/file.h"

namespace hga {

namespace dom = simdjson::dom;

Result<dom::object> ParseJsonObject(dom::parser& parser, std::string_view json,
                                    const std::string& file) {
  if (json.empty()) return DataLoss(fmt::format("{}: is empty", Quoted(file)));
  dom::element root;
  auto code = parser.allocate(json.size(), 64);
  // The parser copies the text, so that nothing is read beyond its end.
  if (!code) code = parser.parse(json.data(), json.size(), true).get(root);
  if (code == simdjson::MEMALLOC) {
    return ResourceExhausted(
        fmt::format("{}: no memory to read {} bytes of JSON", Quoted(file), json.size()));
  }
  if (code) {
    return DataLoss(
        fmt::format("{}: not valid JSON ({})", Quoted(file), simdjson::error_message(code)));
  }
  dom::object object;
  if (root.get_object().get(object)) {
    return DataLoss(fmt::format("{}: a JSON object is needed", Quoted(file)));
  }
  return object;
}

std::string JsonFields::Message(std::string_view key, std::string_view what) const {
  return fmt::format("{}: {}{}: {}", Quoted(file_), path_, key, what);
}

std::optional<dom::element> JsonFields::Find(std::string_view key) const {
  dom::element value;
  if (object_.at_key(key).get(value) || value.is_null()) return std::nullopt;
  return value;
}

bool JsonFields::Has(std::string_view key) const { return Find(key).has_value(); }

std::string JsonFields::Value(std::string_view key) const {
  const auto value = Find(key);
  if (!value) return "null";
  if (value->is_object()) return "an object";
  if (value->is_array()) return "a list";
  std::string_view text;
  if (!value->get_string().get(text)) return Quoted(text);
  bool flag = false;
  if (!value->get_bool().get(flag)) return flag ? "true" : "false";
  int64_t integer = 0;
  if (!value->get_int64().get(integer)) return fmt::format("{}", integer);
  uint64_t large = 0;
  if (!value->get_uint64().get(large)) return fmt::format("{}", large);
  double real = 0;
  if (!value->get_double().get(real)) return fmt::format("{}", real);
  return "?";
}

Status JsonFields::CheckNoDuplicates() const {
  std::vector<std::string_view> keys;
  for (const auto& field : object_) keys.push_back(field.key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice == keys.end()) return OkStatus();
  return DataLoss(fmt::format("{}: {}{} appears twice", Quoted(file_), path_, Quoted(*twice)));
}

Status JsonFields::Missing(std::string_view key, Absent absent) const {
  return absent == kKeep ? OkStatus() : DataLoss(Message(key, "is missing"));
}

Status JsonFields::Wrong(std::string_view key, std::string_view needed) const {
  return InvalidArgument(Message(key, fmt::format("is {}, needed is {}", Value(key), needed)));
}

Status JsonFields::Integer(std::string_view key, int64_t low, int64_t high, Absent absent,
                           int64_t* out) const {
  const auto value = Find(key);
  if (!value) return Missing(key, absent);
  int64_t number = 0;
  if (value->get_int64().get(number) || number < low || number > high) {
    return Wrong(key, fmt::format("a whole number from {} to {}", low, high));
  }
  *out = number;
  return OkStatus();
}

Status JsonFields::Int(std::string_view key, int low, int high, Absent absent, int* out) const {
  int64_t number = *out;
  HGA_RETURN_IF_ERROR(Integer(key, low, high, absent, &number));
  *out = static_cast<int>(number);
  return OkStatus();
}

Status JsonFields::Real(std::string_view key, double low, bool open_low, double high, Absent absent,
                        double* out) const {
  const auto value = Find(key);
  if (!value) return Missing(key, absent);
  double number = 0;
  if (!value->is_number() || value->get_double().get(number) || !(number <= high) ||
      !(open_low ? number > low : number >= low)) {
    return Wrong(key,
                 fmt::format("a number {} {}, at most {}", open_low ? "above" : "from", low, high));
  }
  *out = number;
  return OkStatus();
}

Status JsonFields::Bool(std::string_view key, Absent absent, bool* out) const {
  const auto value = Find(key);
  if (!value) return Missing(key, absent);
  return value->get_bool().get(*out) ? Wrong(key, "true or false") : OkStatus();
}

Status JsonFields::Text(std::string_view key, Absent absent, std::string* out) const {
  const auto value = Find(key);
  if (!value) return Missing(key, absent);
  std::string_view text;
  if (value->get_string().get(text)) return Wrong(key, "a string");
  *out = text;
  return OkStatus();
}

Status JsonFields::Integers(std::string_view key, bool single, int64_t low, int64_t high,
                            size_t most, std::vector<int64_t>* out) const {
  const auto value = Find(key);
  if (!value) return OkStatus();
  const std::string needed = fmt::format("{}at most {} whole numbers from {} to {}",
                                         single ? "one or " : "", most, low, high);
  const auto add = [&](dom::element item) {
    int64_t number = 0;
    if (item.get_int64().get(number) || number < low || number > high) return false;
    out->push_back(number);
    return true;
  };
  out->clear();
  dom::array items;
  if (value->get_array().get(items)) {
    return single && add(*value) ? OkStatus() : Wrong(key, needed);
  }
  for (dom::element item : items) {
    if (out->size() == most || !add(item)) {
      return InvalidArgument(
          Message(key, fmt::format("item {} is out of range, needed are {}", out->size(), needed)));
    }
  }
  return OkStatus();
}

Status JsonFields::Texts(std::string_view key, size_t most, std::vector<std::string>* out) const {
  const auto value = Find(key);
  if (!value) return OkStatus();
  dom::array items;
  if (value->get_array().get(items)) return Wrong(key, "a list of strings");
  out->clear();
  for (dom::element item : items) {
    std::string_view text;
    if (item.get_string().get(text)) {
      return InvalidArgument(Message(key, fmt::format("item {} is no string", out->size())));
    }
    if (out->size() == most) {
      return InvalidArgument(Message(key, fmt::format("has more than {} items", most)));
    }
    out->emplace_back(text);
  }
  return OkStatus();
}

Result<JsonFields> JsonFields::Object(std::string_view key) const {
  const auto value = Find(key);
  dom::object object;
  if (!value || value->get_object().get(object)) return Wrong(key, "an object");
  JsonFields fields(object, file_, fmt::format("{}{}.", path_, key));
  HGA_RETURN_IF_ERROR(fields.CheckNoDuplicates());
  return fields;
}

}  // namespace hga
