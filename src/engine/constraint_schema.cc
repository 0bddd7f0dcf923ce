// SPDX-License-Identifier: Apache-2.0
// Parses schemas within bounds and multiplies out references, allOf, anyOf and oneOf.
#include "engine/constraint_schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <span>

#include "engine/constraint_keywords.h"

namespace hga {
namespace {

constexpr size_t kMostBytes = 256 << 10;
constexpr int kMostLevels = 64;
constexpr size_t kMostMembers = 2000;  // of one object
constexpr size_t kMostAlternatives = 512;
constexpr int kMostReferences = 200;    // applicators and references one inside the other
constexpr int kDisjointDepth = 4;       // levels of objects looked into
constexpr int64_t kMostWork = 1 << 20;  // nodes in products, and pairs compared

// Watches levels and members while parsing; the value is built by a second pass.
class BoundsCheck : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    if (names_.back().size() >= kMostMembers) {
      return Fail(fmt::format("an object has more than {} members", kMostMembers));
    }
    if (!names_.back().insert(name).second) return Fail("an object has a name twice");
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(fmt::format("not valid JSON at byte {}", position));
  }
  const std::string& message() const { return message_; }

 private:
  bool Fail(std::string message) {
    message_ = std::move(message);
    return false;
  }
  bool Open() {
    if (names_.size() >= kMostLevels) {
      return Fail(fmt::format("more than {} levels", kMostLevels));
    }
    names_.emplace_back();
    return true;
  }
  bool Close() {
    names_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> names_;  // of the open objects; lists have one too
  std::string message_;
};

std::string EscapePointer(const std::string& name) {
  std::string escaped;
  for (const char c : name.substr(0, 60)) {
    escaped += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  }
  return escaped;
}

std::optional<std::string> UnescapePointer(std::string_view step) {
  std::string name;
  for (size_t i = 0; i < step.size(); ++i) {
    if (step[i] != '~') {
      name += step[i];
      continue;
    }
    if (++i == step.size() || (step[i] != '0' && step[i] != '1')) return std::nullopt;
    name += step[i] == '0' ? '~' : '/';
  }
  return name;
}

unsigned TypeNamed(const std::string& name) {
  if (name == "null") return kNull;
  if (name == "boolean") return kBoolean;
  if (name == "integer") return kInteger;
  if (name == "number") return kInteger | kFraction;
  if (name == "string") return kString;
  return name == "array" ? kArray : kObject;
}

unsigned TypesOfNode(const Json& node) {
  const auto type = node.find("type");
  if (type == node.end()) return kAllTypes;
  if (type->is_string()) return TypeNamed(*type);
  unsigned types = 0;
  for (const Json& name : *type) types |= TypeNamed(name);
  return types;
}

// Pointers to the values of `enum` or `const`; `all` says that there is no such keyword.
std::vector<const Json*> ValuesOfNode(const Json& node, bool* all) {
  std::vector<const Json*> values;
  const auto list = node.find("enum");
  const auto one = node.find("const");
  *all = list == node.end() && one == node.end();
  if (list == node.end()) {
    if (one != node.end()) values.push_back(&*one);
    return values;
  }
  for (const Json& value : *list) {
    if (one == node.end() || ValueKey(value) == ValueKey(*one)) values.push_back(&value);
  }
  return values;
}

std::set<std::string> Required(const Conjunction& nodes) {
  std::set<std::string> names;
  for (const Json* node : nodes) {
    const auto list = node->find("required");
    if (list == node->end()) continue;
    for (const Json& name : *list) names.insert(name.get<std::string>());
  }
  return names;
}

bool ShareNothing(const std::vector<const Json*>& a, const std::vector<const Json*>& b) {
  std::set<std::string> keys;
  for (const Json* value : a) keys.insert(ValueKey(*value));
  return std::none_of(b.begin(), b.end(),
                      [&keys](const Json* value) { return keys.contains(ValueKey(*value)); });
}

// Whole numbers as integers and members in order of their names.
nlohmann::json Canonical(const Json& value) {
  if (value.is_object()) {
    nlohmann::json members = nlohmann::json::object();
    for (const auto& [name, member] : value.items()) members[name] = Canonical(member);
    return members;
  }
  if (value.is_array()) {
    nlohmann::json list = nlohmann::json::array();
    for (const Json& item : value) list.push_back(Canonical(item));
    return list;
  }
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (number == std::floor(number) && std::abs(number) < 0x1p63) {
      return static_cast<int64_t>(number);
    }
    if (number >= 0x1p63 && number < 0x1p64) return static_cast<uint64_t>(number);
    return number;
  }
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_integer()) return value.get<int64_t>();
  return nullptr;
}

}  // namespace

unsigned TypeOf(const Json& value) {
  if (value.is_null()) return kNull;
  if (value.is_boolean()) return kBoolean;
  if (value.is_string()) return kString;
  if (value.is_array()) return kArray;
  if (value.is_object()) return kObject;
  if (!value.is_number_float()) return kInteger;
  const double number = value.get<double>();
  return number == std::floor(number) ? kInteger : kFraction;
}

std::string ValueKey(const Json& value) { return Canonical(value).dump(); }

void Normalise(Conjunction* nodes) {
  std::sort(nodes->begin(), nodes->end(), std::less<>());
  nodes->erase(std::unique(nodes->begin(), nodes->end()), nodes->end());
}

unsigned TypesOf(const Conjunction& nodes) {
  unsigned types = kAllTypes;
  for (const Json* node : nodes) types &= TypesOfNode(*node);
  if (const auto literals = LiteralsOf(nodes); literals.has_value()) {
    unsigned seen = 0;
    for (const Json* value : *literals) seen |= TypeOf(*value);
    types &= seen;
  }
  return types;
}

std::optional<std::vector<const Json*>> LiteralsOf(const Conjunction& nodes) {
  std::optional<std::vector<const Json*>> common;
  for (const Json* node : nodes) {
    bool all = true;
    std::vector<const Json*> values = ValuesOfNode(*node, &all);
    if (all) continue;
    std::set<std::string> wanted;
    for (const Json* value : values) wanted.insert(ValueKey(*value));
    if (!common.has_value()) {
      common = std::move(values);
    } else {
      std::erase_if(*common,
                    [&wanted](const Json* value) { return !wanted.contains(ValueKey(*value)); });
    }
  }
  return common;
}

Conjunction PropertySchemas(const Conjunction& nodes, const std::string& name) {
  Conjunction schemas;
  for (const Json* node : nodes) {
    const auto properties = node->find("properties");
    if (properties != node->end()) {
      const auto property = properties->find(name);
      if (property != properties->end()) {
        schemas.push_back(&*property);
        continue;
      }
    }
    const auto additional = node->find("additionalProperties");
    if (additional != node->end()) schemas.push_back(&*additional);
  }
  Normalise(&schemas);
  return schemas;
}

Result<std::unique_ptr<Schema>> Schema::Parse(std::string_view text, std::string name) {
  if (text.size() > kMostBytes) {
    return InvalidArgument(fmt::format("{}: {} bytes, at most {}", name, text.size(), kMostBytes));
  }
  BoundsCheck check;
  if (!Json::sax_parse(text, &check)) {
    return InvalidArgument(fmt::format("{}: {}", name, check.message()));
  }
  Json root = Json::parse(text, nullptr, false);
  if (!root.is_object() && !root.is_boolean()) {
    return InvalidArgument(fmt::format("{}: a schema is an object, true or false", name));
  }
  auto schema = std::unique_ptr<Schema>(new Schema(std::move(root), std::move(name)));
  schema->NotePlaces(schema->root_);
  return schema;
}

void Schema::NotePlaces(const Json& node) {
  if (!node.is_structured()) return;
  for (const auto& [step, child] : node.items()) {
    places_.emplace(&child, Place{&node, step, places_.size()});
    NotePlaces(child);
  }
}

std::string Schema::Where(const Json& node) const {
  std::string path;
  for (const Json* at = &node; at != &root_;) {
    const auto place = places_.find(at);
    if (place == places_.end()) break;
    path = fmt::format("/{}{}", EscapePointer(place->second.step), path);
    at = place->second.parent;
  }
  return fmt::format("{}: #{}", name_, path);
}

Conjunction Schema::InOrder(Conjunction nodes) const {
  const auto order = [this](const Json* node) {
    const auto place = places_.find(node);
    return place == places_.end() ? 0 : place->second.order + 1;
  };
  std::sort(nodes.begin(), nodes.end(),
            [&order](const Json* a, const Json* b) { return order(a) < order(b); });
  return nodes;
}

Result<const Json*> Schema::Resolve(const Json& node) {
  const auto& reference = node["$ref"].get_ref<const std::string&>();
  const auto refuse = [&](std::string_view why) {
    return fmt::format("{}: $ref \"{}\" {}", Where(node), reference.substr(0, 100), why);
  };
  if (reference.empty() || reference[0] != '#' || reference.find('%') != reference.npos ||
      (reference.size() > 1 && reference[1] != '/')) {
    return Unsupported(refuse("is not supported; #/$defs/NAME and the like are"));
  }
  const Json* at = &root_;
  std::string_view rest = std::string_view(reference).substr(1);
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const size_t end = std::min(rest.find('/'), rest.size());
    const std::optional<std::string> step = UnescapePointer(rest.substr(0, end));
    rest.remove_prefix(end);
    if (!step.has_value()) return InvalidArgument(refuse("is no JSON pointer"));
    const Json* next = nullptr;
    if (at->is_object()) {
      if (const auto found = at->find(*step); found != at->end()) next = &*found;
    } else if (at->is_array() && !step->empty() && step->size() < 6 &&
               std::all_of(step->begin(), step->end(),
                           [](char c) { return c >= '0' && c <= '9'; })) {
      const auto index = static_cast<size_t>(std::stoi(*step));
      if (index < at->size()) next = &(*at)[index];
    }
    if (next == nullptr) return InvalidArgument(refuse("points to nothing"));
    at = next;
  }
  if (!at->is_object() && !at->is_boolean()) {
    return InvalidArgument(refuse("points to what is no schema"));
  }
  return at;
}

Result<Schema::Alternatives> Schema::Expand(const Conjunction& conjunction) {
  Alternatives all = {{}};
  for (const Json* node : conjunction) {
    HGA_ASSIGN_OR_RETURN(const Alternatives more, ExpandNode(*node, 0));
    HGA_ASSIGN_OR_RETURN(all, Product(all, more, *node));
  }
  return all;
}

Result<Schema::Alternatives> Schema::Product(const Alternatives& a, const Alternatives& b,
                                             const Json& node) {
  std::set<Conjunction> products;
  for (const Conjunction& left : a) {
    for (const Conjunction& right : b) {
      Conjunction both = left;
      both.insert(both.end(), right.begin(), right.end());
      Normalise(&both);
      work_ += static_cast<int64_t>(both.size()) + 1;
      products.insert(std::move(both));
      if (products.size() > kMostAlternatives || work_ > kMostWork) {
        return InvalidArgument(fmt::format("{}: more than {} alternatives, or too many in all",
                                           Where(node), kMostAlternatives));
      }
    }
  }
  return Alternatives(products.begin(), products.end());
}

Result<Schema::Alternatives> Schema::ExpandNode(const Json& node, int depth) {
  if (node.is_boolean()) return node.get<bool>() ? Alternatives{{}} : Alternatives{};
  if (depth > kMostReferences) {
    return InvalidArgument(fmt::format("{}: more than {} references one behind the other",
                                       Where(node), kMostReferences));
  }
  const auto [entry, is_new] = expanded_.try_emplace(&node);
  if (!is_new) {
    if (entry->second.has_value()) return *entry->second;
    return InvalidArgument(
        fmt::format("{}: refers to itself without a property or an item between", Where(node)));
  }
  Result<Alternatives> alternatives = ExpandObject(node, depth);
  if (alternatives.ok()) {
    expanded_[&node] = *alternatives;
  } else {
    expanded_.erase(&node);
  }
  return alternatives;
}

Result<Schema::Alternatives> Schema::ExpandObject(const Json& node, int depth) {
  HGA_RETURN_IF_ERROR(CheckKeywords(node, Where(node), &node == &root_));
  Alternatives all = {{}};
  if (Restricts(node)) all[0].push_back(&node);
  if (node.contains("$ref")) {
    HGA_ASSIGN_OR_RETURN(const Json* target, Resolve(node));
    HGA_ASSIGN_OR_RETURN(const Alternatives more, ExpandNode(*target, depth + 1));
    HGA_ASSIGN_OR_RETURN(all, Product(all, more, node));
  }
  if (const auto list = node.find("allOf"); list != node.end()) {
    for (const Json& branch : *list) {
      HGA_ASSIGN_OR_RETURN(const Alternatives more, ExpandNode(branch, depth + 1));
      HGA_ASSIGN_OR_RETURN(all, Product(all, more, node));
    }
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (!node.contains(keyword)) continue;
    HGA_ASSIGN_OR_RETURN(const Alternatives more, ExpandBranches(node, keyword, depth));
    HGA_ASSIGN_OR_RETURN(all, Product(all, more, node));
  }
  return all;
}

Result<Schema::Alternatives> Schema::ExpandBranches(const Json& node, const char* keyword,
                                                    int depth) {
  std::vector<Alternatives> branches;
  for (const Json& branch : node[keyword]) {
    HGA_ASSIGN_OR_RETURN(Alternatives more, ExpandNode(branch, depth + 1));
    branches.push_back(std::move(more));
  }
  Alternatives all;
  for (size_t i = 0; i < branches.size(); ++i) {
    for (size_t k = 0; std::string_view(keyword) == "oneOf" && k < i; ++k) {
      HGA_ASSIGN_OR_RETURN(const bool disjoint, AreDisjoint(branches[i], branches[k], 0));
      if (disjoint) continue;
      return Unsupported(fmt::format(
          "{}: oneOf is supported for branches that plainly exclude each other (by type, by enum "
          "or const, also of a property that both require); branches {} and {} may not",
          Where(node), k, i));
    }
    all.insert(all.end(), branches[i].begin(), branches[i].end());
  }
  return Product(all, {{}}, node);
}

Result<bool> Schema::AreDisjoint(const Alternatives& a, const Alternatives& b, int depth) {
  for (const Conjunction& left : a) {
    for (const Conjunction& right : b) {
      HGA_ASSIGN_OR_RETURN(const bool disjoint, AreDisjoint(left, right, depth));
      if (!disjoint) return false;
    }
  }
  return true;
}

Result<bool> Schema::AreDisjoint(const Conjunction& a, const Conjunction& b, int depth) {
  work_ += 16 + static_cast<int64_t>(a.size() + b.size());
  if (work_ > kMostWork) return InvalidArgument(fmt::format("{}: too many alternatives", name_));
  const unsigned common = TypesOf(a) & TypesOf(b);
  if (common == 0) return true;
  const auto left = LiteralsOf(a), right = LiteralsOf(b);
  if (left.has_value() && right.has_value() && ShareNothing(*left, *right)) return true;
  if (common != kObject || depth >= kDisjointDepth) return false;
  const std::set<std::string> names = Required(b);
  for (const std::string& name : Required(a)) {
    if (!names.contains(name)) continue;
    // Fails for one that refers to the schema being expanded: another property may tell.
    const auto x = Expand(PropertySchemas(a, name)), y = Expand(PropertySchemas(b, name));
    if (!x.ok() || !y.ok()) continue;
    HGA_ASSIGN_OR_RETURN(const bool disjoint, AreDisjoint(*x, *y, depth + 1));
    if (disjoint) return true;
  }
  return false;
}

}  // namespace hga
