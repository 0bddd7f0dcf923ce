// SPDX-License-Identifier: Apache-2.0
// One object of a tokenizer.json and the parts its parser is made of.
#ifndef HGA_MODEL_TOKENIZER_JSON_H_
#define HGA_MODEL_TOKENIZER_JSON_H_

#include <simdjson.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "hga/status.h"
#include "model/tokenizer_spec.h"

namespace hga {

// An object and its place ("FILE: normalizer"). Errors: kDataLoss for a wrong type or a field that
// is absent, kUnsupported for a field that is not known.
class TokenizerNode {
 public:
  TokenizerNode(simdjson::dom::object object, std::string place)
      : object_(object), place_(std::move(place)) {}
  static Result<TokenizerNode> From(simdjson::dom::element element, std::string place);

  // Every key of the object is one of `known`, and none comes twice.
  Status CheckKeys(std::initializer_list<std::string_view> known) const;
  // Absent and null are the same; nothing then.
  std::optional<simdjson::dom::element> Find(std::string_view key) const;
  Result<simdjson::dom::element> Get(std::string_view key) const;
  Result<std::string_view> Text(std::string_view key) const;
  Result<bool> Flag(std::string_view key, std::optional<bool> otherwise) const;
  Result<simdjson::dom::array> List(std::string_view key) const;
  Result<TokenizerNode> Child(std::string_view key) const;

  const std::string& place() const { return place_; }
  std::string PlaceOf(std::string_view key) const;
  simdjson::dom::object object() const { return object_; }

 private:
  simdjson::dom::object object_;
  std::string place_;
};

// Each fills its part of `spec`; in this order, later ones need earlier ones.
Status ParseBpeModel(const TokenizerNode& model, TokenizerSpec* spec);
Status ParseAddedTokens(const TokenizerNode& root, TokenizerSpec* spec);
Status ParseNormalizer(const TokenizerNode& root, TokenizerSpec* spec);
Status ParsePreTokenizer(const TokenizerNode& root, TokenizerSpec* spec);
Status ParseDecoder(const TokenizerNode& root, TokenizerSpec* spec);
Status ParsePostProcessor(const TokenizerNode& root, TokenizerSpec* spec);

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_JSON_H_
