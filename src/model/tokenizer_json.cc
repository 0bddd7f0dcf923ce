// SPDX-License-Identifier: Apache-2.0
// Typed access to the fields of a tokenizer.json, with messages that say where.
#include "model/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/file.h"

namespace hga {

namespace dom = simdjson::dom;

Result<TokenizerNode> TokenizerNode::From(dom::element element, std::string place) {
  dom::object object;
  if (element.get_object().get(object)) return DataLoss(place + ": must be an object");
  return TokenizerNode(object, std::move(place));
}

std::string TokenizerNode::PlaceOf(std::string_view key) const {
  return fmt::format("{}{}{}", place_, place_.ends_with(' ') ? "" : ".", key);
}

Status TokenizerNode::CheckKeys(std::initializer_list<std::string_view> known) const {
  std::vector<std::string_view> seen;
  for (const dom::key_value_pair field : object_) {
    if (std::find(known.begin(), known.end(), field.key) == known.end()) {
      return Unsupported(
          fmt::format("{}: the field {} is not supported", place_, Quoted(field.key)));
    }
    if (std::find(seen.begin(), seen.end(), field.key) != seen.end()) {
      return DataLoss(fmt::format("{}: the field {} comes twice", place_, Quoted(field.key)));
    }
    seen.push_back(field.key);
  }
  return OkStatus();
}

std::optional<dom::element> TokenizerNode::Find(std::string_view key) const {
  dom::element value;
  if (object_.at_key(key).get(value) || value.is_null()) return std::nullopt;
  return value;
}

Result<dom::element> TokenizerNode::Get(std::string_view key) const {
  const auto value = Find(key);
  if (!value) return DataLoss(PlaceOf(key) + ": absent or null");
  return *value;
}

Result<std::string_view> TokenizerNode::Text(std::string_view key) const {
  HGA_ASSIGN_OR_RETURN(const dom::element value, Get(key));
  std::string_view text;
  if (value.get_string().get(text)) return DataLoss(PlaceOf(key) + ": must be a string");
  return text;
}

Result<bool> TokenizerNode::Flag(std::string_view key, std::optional<bool> otherwise) const {
  const auto value = Find(key);
  if (!value && otherwise) return *otherwise;
  bool flag = false;
  if (!value || value->get_bool().get(flag)) {
    return DataLoss(PlaceOf(key) + ": must be true or false");
  }
  return flag;
}

Result<dom::array> TokenizerNode::List(std::string_view key) const {
  HGA_ASSIGN_OR_RETURN(const dom::element value, Get(key));
  dom::array list;
  if (value.get_array().get(list)) return DataLoss(PlaceOf(key) + ": must be a list");
  return list;
}

Result<TokenizerNode> TokenizerNode::Child(std::string_view key) const {
  HGA_ASSIGN_OR_RETURN(const dom::element value, Get(key));
  return From(value, PlaceOf(key));
}

}  // namespace hga
