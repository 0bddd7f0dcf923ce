// SPDX-License-Identifier: Apache-2.0
// The table of keywords. What is not in it is refused: a keyword nobody knows could forbid
// anything.
#include "engine/constraint_keywords.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

namespace hga {
namespace {

constexpr size_t kMostValues = 10'000;     // of an enum
constexpr double kLargestCount = 1 << 30;  // minLength and the like

enum class Shape {
  kIgnored,
  kRootOnly,    // ignored there
  kFalseOnly,   // would restrict if it were true
  kZeroOnly,    // would restrict if it were more
  kApplicator,  // a list of schemas
  kReference,
  kType,
  kValues,
  kValue,
  kSchema,
  kSchemas,  // a list
  kSchemaMap,
  kNames,
  kCount,
  kNumber,
  kText,
};

struct Keyword {
  std::string_view name;
  Shape shape;
};

constexpr Keyword kKeywords[] = {
    {"$anchor", Shape::kIgnored},
    {"$comment", Shape::kIgnored},
    {"$defs", Shape::kIgnored},  // read where a $ref points into it
    {"$id", Shape::kRootOnly},
    {"$ref", Shape::kReference},
    {"$schema", Shape::kIgnored},
    {"additionalProperties", Shape::kSchema},
    {"allOf", Shape::kApplicator},
    {"anyOf", Shape::kApplicator},
    {"const", Shape::kValue},
    {"contentEncoding", Shape::kIgnored},
    {"contentMediaType", Shape::kIgnored},
    {"default", Shape::kIgnored},
    {"definitions", Shape::kIgnored},
    {"deprecated", Shape::kIgnored},
    {"description", Shape::kIgnored},
    {"enum", Shape::kValues},
    {"example", Shape::kIgnored},
    {"examples", Shape::kIgnored},
    {"exclusiveMaximum", Shape::kNumber},
    {"exclusiveMinimum", Shape::kNumber},
    {"format", Shape::kText},
    {"items", Shape::kSchema},
    {"maxItems", Shape::kCount},
    {"maxLength", Shape::kCount},
    {"maximum", Shape::kNumber},
    {"minItems", Shape::kCount},
    {"minLength", Shape::kCount},
    {"minProperties", Shape::kZeroOnly},
    {"minimum", Shape::kNumber},
    {"nullable", Shape::kIgnored},  // OpenAPI: could only allow more
    {"oneOf", Shape::kApplicator},
    {"pattern", Shape::kText},
    {"prefixItems", Shape::kSchemas},
    {"properties", Shape::kSchemaMap},
    {"readOnly", Shape::kIgnored},
    {"required", Shape::kNames},
    {"title", Shape::kIgnored},
    {"type", Shape::kType},
    {"uniqueItems", Shape::kFalseOnly},
    {"writeOnly", Shape::kIgnored},
};

bool IsSchema(const Json& value) { return value.is_object() || value.is_boolean(); }

bool AllOfThem(const Json& list, bool (*holds)(const Json&)) {
  return std::all_of(list.begin(), list.end(), holds);
}

bool IsTypeName(const Json& value) {
  static constexpr std::string_view kNames[] = {"null",   "boolean", "integer", "number",
                                                "string", "array",   "object"};
  return value.is_string() && std::find(std::begin(kNames), std::end(kNames),
                                        value.get_ref<const std::string&>()) != std::end(kNames);
}

bool IsCount(const Json& value) {
  return value.is_number_unsigned() && value.get<double>() <= kLargestCount;
}

// What the value should have been; empty when it is that.
std::string_view Wrong(Shape shape, const Json& value) {
  const auto unless = [](bool holds, std::string_view needed) {
    return holds ? std::string_view() : needed;
  };
  switch (shape) {
    case Shape::kApplicator:
      return unless(value.is_array() && !value.empty() && AllOfThem(value, IsSchema),
                    "a list of schemas");
    case Shape::kSchemas:
      return unless(value.is_array() && AllOfThem(value, IsSchema), "a list of schemas");
    case Shape::kSchema:
      return unless(IsSchema(value), "a schema");
    case Shape::kSchemaMap:
      return unless(value.is_object() && AllOfThem(value, IsSchema), "an object of schemas");
    case Shape::kNames:
      return unless(
          value.is_array() && AllOfThem(value, [](const Json& name) { return name.is_string(); }),
          "a list of names");
    case Shape::kType:
      return unless(
          IsTypeName(value) || (value.is_array() && !value.empty() && AllOfThem(value, IsTypeName)),
          "a type's name or a list of them");
    case Shape::kValues:
      return unless(value.is_array() && !value.empty() && value.size() <= kMostValues,
                    "a list of 1 to 10000 values");
    case Shape::kCount:
      return unless(IsCount(value), "a whole number from 0 to 1073741824");
    case Shape::kNumber:
      return unless(value.is_number(), "a number");
    case Shape::kReference:
    case Shape::kText:
      return unless(value.is_string(), "a text");
    default:
      return {};
  }
}

bool IsRefused(Shape shape, const Json& value, bool is_root) {
  switch (shape) {
    case Shape::kRootOnly:
      return !is_root;
    case Shape::kFalseOnly:
      return value != Json(false);
    case Shape::kZeroOnly:
      return value != Json(0);
    default:
      return false;
  }
}

const Keyword* Find(const std::string& name) {
  const auto* found = std::lower_bound(
      std::begin(kKeywords), std::end(kKeywords), name,
      [](const Keyword& keyword, const std::string& wanted) { return keyword.name < wanted; });
  return found != std::end(kKeywords) && found->name == name ? found : nullptr;
}

}  // namespace

Status CheckKeywords(const Json& node, const std::string& where, bool is_root) {
  for (const auto& [name, value] : node.items()) {
    const Keyword* keyword = Find(name);
    if (keyword == nullptr || IsRefused(keyword->shape, value, is_root)) {
      return Unsupported(fmt::format("{}: the keyword {} is not supported{}", where,
                                     name.substr(0, 100),
                                     keyword == nullptr ? "" : " with this value"));
    }
    if (name == "items" && value.is_array()) {
      return Unsupported(
          fmt::format("{}: items as a list is not supported; prefixItems is", where));
    }
    if (const std::string_view needed = Wrong(keyword->shape, value); !needed.empty()) {
      return InvalidArgument(fmt::format("{}: {} must be {}", where, name, needed));
    }
  }
  return OkStatus();
}

bool Restricts(const Json& node) {
  for (const auto& [name, value] : node.items()) {
    const Keyword* keyword = Find(name);
    if (keyword != nullptr && keyword->shape >= Shape::kType) return true;
  }
  return false;
}

}  // namespace hga
