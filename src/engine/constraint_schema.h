// SPDX-License-Identifier: Apache-2.0
// A JSON schema as text becomes alternatives: sets of schemas without applicators that must hold
// together.
#ifndef HGA_ENGINE_CONSTRAINT_SCHEMA_H_
#define HGA_ENGINE_CONSTRAINT_SCHEMA_H_

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "hga/status.h"

namespace hga {

using Json = nlohmann::ordered_json;

// Schemas that must hold together: nodes of a document, ascending by address, each once.
using Conjunction = std::vector<const Json*>;

// Types of a value as bits; a number without a fraction is an integer.
enum JsonType : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFraction = 8,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAllTypes = 127,
};
unsigned TypeOf(const Json& value);

// Equal exactly for values that are equal for JSON schema.
std::string ValueKey(const Json& value);

// One document. Nodes are checked when they are first expanded: keywords in parts that nothing
// refers to do not matter.
class Schema {
 public:
  // At most 256 KiB, 64 levels, 2000 members of one object. `name` starts messages.
  static Result<std::unique_ptr<Schema>> Parse(std::string_view text, std::string name);

  const Json& root() const { return root_; }
  // All ways to fulfil `conjunction`: each alternative holds nodes whose $ref, allOf, anyOf and
  // oneOf are taken care of, and no node that allows everything.
  Result<std::vector<Conjunction>> Expand(const Conjunction& conjunction);
  // "NAME: #/path/to/node" for messages.
  std::string Where(const Json& node) const;
  // The nodes in the order of the document.
  Conjunction InOrder(Conjunction nodes) const;

 private:
  using Alternatives = std::vector<Conjunction>;
  struct Place {
    const Json* parent;
    std::string step;
    size_t order;
  };

  Schema(Json root, std::string name) : root_(std::move(root)), name_(std::move(name)) {}
  void NotePlaces(const Json& node);
  Result<Alternatives> ExpandNode(const Json& node, int depth);
  Result<Alternatives> ExpandObject(const Json& node, int depth);
  Result<Alternatives> ExpandBranches(const Json& node, const char* keyword, int depth);
  Result<Alternatives> Product(const Alternatives& a, const Alternatives& b, const Json& node);
  Status CheckNode(const Json& node);
  Result<const Json*> Resolve(const Json& node);
  Result<bool> AreDisjoint(const Alternatives& a, const Alternatives& b, int depth);
  Result<bool> AreDisjoint(const Conjunction& a, const Conjunction& b, int depth);

  const Json root_;
  const std::string name_;
  std::unordered_map<const Json*, Place> places_;
  std::unordered_map<const Json*, std::optional<Alternatives>> expanded_;  // empty: in progress
  int64_t work_ = 0;
};

// Types that all of `nodes` allow, by `type`, `enum` and `const`.
unsigned TypesOf(const Conjunction& nodes);
// Values that all of `nodes` allow by `enum` and `const`; nothing if none has such a keyword.
std::optional<std::vector<const Json*>> LiteralsOf(const Conjunction& nodes);
// The schemas for property `name` of an object.
Conjunction PropertySchemas(const Conjunction& nodes, const std::string& name);
// Ascending, each once.
void Normalise(Conjunction* nodes);

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_SCHEMA_H_
