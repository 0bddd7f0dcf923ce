// SPDX-License-Identifier: Apache-2.0
// One rule per set of schemas that must hold together; values inside values are calls of rules, so
// that recursive schemas need nothing special.
#include "engine/constraint_compile.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "engine/constraint_bounds.h"
#include "engine/constraint_pattern.h"

namespace hga {
namespace {

constexpr int kStart = RuleDraft::kStart, kEnd = RuleDraft::kEnd;

bool HasAny(const Json& node, std::initializer_list<const char*> keywords) {
  return std::any_of(keywords.begin(), keywords.end(),
                     [&node](const char* keyword) { return node.contains(keyword); });
}

// The schemas for item `index` of a list.
Conjunction ItemSchemas(const Conjunction& nodes, size_t index) {
  Conjunction schemas;
  for (const Json* node : nodes) {
    const auto prefix = node->find("prefixItems");
    if (prefix != node->end() && index < prefix->size()) {
      schemas.push_back(&(*prefix)[index]);
      continue;
    }
    const auto items = node->find("items");
    if (items != node->end()) schemas.push_back(&*items);
  }
  return schemas;
}

}  // namespace

Result<int> SchemaCompiler::Compile(Conjunction nodes) {
  const int rule = RuleFor(std::move(nodes));
  while (!waiting_.empty() && status_.ok()) {
    const auto [next, next_rule] = std::move(waiting_.back());
    waiting_.pop_back();
    HGA_RETURN_IF_ERROR(Build(next, next_rule));
    HGA_RETURN_IF_ERROR(rules_.status());
  }
  HGA_RETURN_IF_ERROR(status_);
  return rule;
}

int SchemaCompiler::RuleFor(Conjunction nodes) {
  std::erase_if(nodes, [](const Json* node) { return *node == Json(true); });
  Normalise(&nodes);
  if (const auto known = known_.find(nodes); known != known_.end()) return known->second;
  const int rule = machine_.NewRule();
  if (rule < 0) {
    if (status_.ok()) status_ = InvalidArgument("the schema needs too many rules");
    return rule;
  }
  known_.emplace(nodes, rule);
  waiting_.emplace_back(std::move(nodes), rule);
  return rule;
}

Status SchemaCompiler::Build(const Conjunction& nodes, int rule) {
  HGA_ASSIGN_OR_RETURN(const std::vector<Conjunction> alternatives, schema_.Expand(nodes));
  RuleDraft draft;
  for (const Conjunction& alternative : alternatives) {
    HGA_RETURN_IF_ERROR(AddAlternative(alternative, &draft));
    HGA_RETURN_IF_ERROR(status_);
    HGA_RETURN_IF_ERROR(rules_.status());
  }
  return machine_.SetRule(rule, draft);
}

Status SchemaCompiler::AddAlternative(const Conjunction& nodes, RuleDraft* draft) {
  const unsigned types = TypesOf(nodes);
  if (const auto values = LiteralsOf(nodes); values.has_value()) {
    return AddLiterals(nodes, types, *values, draft);
  }
  if ((types & kNull) != 0) draft->AddTextTo(kStart, "null", kEnd);
  if ((types & kBoolean) != 0) {
    draft->AddTextTo(kStart, "true", kEnd);
    draft->AddTextTo(kStart, "false", kEnd);
  }
  if ((types & (kInteger | kFraction)) != 0) {
    HGA_RETURN_IF_ERROR(AddNumbers(nodes, (types & kFraction) == 0, draft));
  }
  if ((types & kString) != 0) HGA_RETURN_IF_ERROR(AddString(nodes, draft));
  if ((types & kArray) != 0) AddArray(nodes, draft);
  if ((types & kObject) != 0) AddObject(nodes, draft);
  return OkStatus();
}

Status SchemaCompiler::AddLiterals(const Conjunction& nodes, unsigned types,
                                   const std::vector<const Json*>& values, RuleDraft* draft) {
  for (const Json* value : values) {
    if ((TypeOf(*value) & types) == 0) continue;
    HGA_ASSIGN_OR_RETURN(const bool allowed, Allows(nodes, *value));
    if (allowed) draft->AddTextTo(kStart, value->dump(), kEnd);
  }
  return OkStatus();
}

// Beside types, enum and const.
Result<bool> SchemaCompiler::Allows(const Conjunction& nodes, const Json& value) {
  if (value.is_number()) return KeepsBounds(nodes, value);
  if (value.is_string()) {
    const std::u32string text = Characters(value.get_ref<const std::string&>());
    const auto length = static_cast<int64_t>(text.size());
    const Sizes sizes = SizesOf(nodes, "minLength", "maxLength");
    if (length < sizes.least || (sizes.most >= 0 && length > sizes.most)) return false;
    HGA_ASSIGN_OR_RETURN(const std::optional<CharDfa> texts, TextsOf(nodes));
    return !texts.has_value() || texts->Matches(text);
  }
  if (!value.is_structured()) return true;
  for (const Json* node : nodes) {
    const bool restricted = value.is_array()
                                ? HasAny(*node, {"items", "prefixItems", "minItems", "maxItems"})
                                : HasAny(*node, {"properties", "required", "additionalProperties"});
    if (restricted) {
      return Unsupported(fmt::format(
          "{}: lists and objects in enum or const are not supported beside keywords for their "
          "contents",
          schema_.Where(*node)));
    }
  }
  return true;
}

Status SchemaCompiler::AddNumbers(const Conjunction& nodes, bool whole, RuleDraft* draft) {
  HGA_ASSIGN_OR_RETURN(const std::optional<DecimalRange> range, NumbersOf(nodes, whole, schema_));
  if (!range.has_value()) {
    draft->AddCall(kStart, whole ? rules_.Integer() : rules_.Number(), kEnd);
  } else if (range->low <= range->high) {
    AddDecimals(draft, kStart, *range, kEnd);
  }
  return OkStatus();
}

SchemaCompiler::Sizes SchemaCompiler::SizesOf(const Conjunction& nodes, const char* least,
                                              const char* most) {
  Sizes sizes;
  for (const Json* node : nodes) {
    if (const auto bound = node->find(least); bound != node->end()) {
      sizes.least = std::max(sizes.least, bound->get<int64_t>());
    }
    if (const auto bound = node->find(most); bound != node->end()) {
      const auto size = bound->get<int64_t>();
      sizes.most = sizes.most < 0 ? size : std::min(sizes.most, size);
    }
  }
  return sizes;
}

Result<std::optional<CharDfa>> SchemaCompiler::JoinPattern(std::optional<CharDfa> joined,
                                                           std::string_view pattern,
                                                           const Json& node) {
  const std::string where = schema_.Where(node);
  HGA_ASSIGN_OR_RETURN(CharDfa next, CompilePattern(pattern, where, char_work_));
  if (!joined.has_value()) return std::optional(std::move(next));
  HGA_ASSIGN_OR_RETURN(CharDfa both,
                       Intersect(*joined, next, where + ": the patterns together", char_work_));
  return std::optional(std::move(both));
}

Result<std::optional<CharDfa>> SchemaCompiler::TextsOf(const Conjunction& nodes) {
  std::optional<CharDfa> texts;
  for (const Json* node : nodes) {
    if (const auto pattern = node->find("pattern"); pattern != node->end()) {
      HGA_ASSIGN_OR_RETURN(
          texts, JoinPattern(std::move(texts), pattern->get_ref<const std::string&>(), *node));
    }
    const auto format = node->find("format");
    if (format == node->end()) continue;
    if (const auto pattern = PatternOfFormat(format->get_ref<const std::string&>())) {
      HGA_ASSIGN_OR_RETURN(texts, JoinPattern(std::move(texts), *pattern, *node));
    }
  }
  return texts;
}

Status SchemaCompiler::AddString(const Conjunction& nodes, RuleDraft* draft) {
  const Sizes sizes = SizesOf(nodes, "minLength", "maxLength");
  const bool is_sized = sizes.least > 0 || sizes.most >= 0;
  if (sizes.most >= 0 && sizes.most < sizes.least) return OkStatus();
  HGA_ASSIGN_OR_RETURN(std::optional<CharDfa> texts, TextsOf(nodes));
  if (!texts.has_value()) {
    if (is_sized) {
      rules_.AddSized(draft, kStart, sizes.least, sizes.most, kEnd);
    } else {
      draft->AddCall(kStart, rules_.String(), kEnd);
    }
    return OkStatus();
  }
  if (is_sized) {
    const std::string what = schema_.Where(*nodes.front()) + ": a pattern with a length";
    HGA_ASSIGN_OR_RETURN(const CharDfa lengths,
                         LengthBetween(sizes.least, sizes.most, what, char_work_));
    HGA_ASSIGN_OR_RETURN(texts, Intersect(*texts, lengths, what, char_work_));
  }
  rules_.AddChars(draft, draft->AddText(kStart, "\""), *texts, kEnd);
  return OkStatus();
}

void SchemaCompiler::AddArray(const Conjunction& nodes, RuleDraft* draft) {
  const Sizes sizes = SizesOf(nodes, "minItems", "maxItems");
  if (sizes.most >= 0 && sizes.most < sizes.least) return;
  int64_t prefix = 0;
  for (const Json* node : nodes) {
    const auto list = node->find("prefixItems");
    if (list != node->end()) prefix = std::max(prefix, static_cast<int64_t>(list->size()));
  }
  const int rest = RuleFor(ItemSchemas(nodes, static_cast<size_t>(prefix)));
  const int64_t counted = sizes.most >= 0 ? sizes.most : std::max(prefix, sizes.least);
  const int open = draft->AddText(kStart, "[");
  int behind = rules_.AddBlanks(draft, open);  // where an item, or its comma, comes
  if (sizes.least == 0) draft->AddByte(behind, ']', ']', kEnd);
  const auto close = [&](int from) {
    draft->AddByte(rules_.AddBlanks(draft, from), ']', ']', kEnd);
  };
  const auto before_item = [&](int64_t index) {
    return index == 0 ? behind : rules_.AddBlanks(draft, draft->AddText(behind, ","));
  };
  for (int64_t i = 0; i < counted && draft->fits() && status_.ok(); ++i) {
    const int item = i < prefix ? RuleFor(ItemSchemas(nodes, static_cast<size_t>(i))) : rest;
    const int from = before_item(i);
    behind = draft->NewState();
    draft->AddCall(from, item, behind);
    if (i + 1 >= sizes.least) close(behind);
  }
  if (sizes.most >= 0) return;
  const int from = before_item(counted);
  const int loop = draft->NewState();
  draft->AddCall(from, rest, loop);
  draft->AddCall(rules_.AddBlanks(draft, draft->AddText(loop, ",")), rest, loop);
  close(loop);
}

// In the order of the schema; required ones without a schema of their own behind.
std::vector<SchemaCompiler::Property> SchemaCompiler::PropertiesOf(const Conjunction& nodes) {
  std::vector<std::string> names;
  std::set<std::string> seen, required;
  const Conjunction ordered = schema_.InOrder(nodes);
  for (const Json* node : ordered) {
    const auto properties = node->find("properties");
    if (properties == node->end()) continue;
    for (const auto& [name, unused] : properties->items()) {
      if (seen.insert(name).second) names.push_back(name);
    }
  }
  for (const Json* node : ordered) {
    const auto list = node->find("required");
    if (list == node->end()) continue;
    for (const Json& name : *list) {
      required.insert(name);
      if (seen.insert(name).second) names.push_back(name);
    }
  }
  std::vector<Property> properties;
  for (std::string& name : names) {
    const int rule = RuleFor(PropertySchemas(nodes, name));
    const bool is_required = required.contains(name);
    properties.push_back({std::move(name), rule, is_required});
  }
  return properties;
}

// Any other name, with its quotes.
int SchemaCompiler::KeyRule(const std::vector<Property>& known) {
  std::vector<std::string> names;
  for (const Property& property : known) names.push_back(property.name);
  std::sort(names.begin(), names.end());
  const auto [entry, is_new] = key_rules_.try_emplace(names, -1);
  if (!is_new) return entry->second;
  const int rule = entry->second = machine_.NewRule(/*is_key=*/true);
  std::vector<std::u32string> texts;
  for (const std::string& name : names) texts.push_back(Characters(name));
  const Result<CharDfa> others = AllTextsBut(texts, "the names of an object");
  RuleDraft draft;
  if (others.ok()) rules_.AddChars(&draft, draft.AddText(kStart, "\""), *others, kEnd);
  if (rule < 0 || !others.ok()) {
    status_ = rule < 0 ? InvalidArgument("the schema needs too many rules") : others.status();
    return -1;
  }
  if (Status set = machine_.SetRule(rule, draft); !set.ok()) status_ = std::move(set);
  return rule;
}

void SchemaCompiler::AddObject(const Conjunction& nodes, RuleDraft* draft) {
  const std::vector<Property> properties = PropertiesOf(nodes);
  Conjunction additional;
  for (const Json* node : nodes) {
    const auto schema = node->find("additionalProperties");
    if (schema != node->end()) additional.push_back(&*schema);
  }
  const bool is_closed = std::any_of(additional.begin(), additional.end(),
                                     [](const Json* schema) { return *schema == Json(false); });
  size_t last_required = 0;  // one more than the index
  for (size_t i = 0; i < properties.size(); ++i) {
    if (properties[i].is_required) last_required = i + 1;
  }
  // before[i]: property i or a later one comes; behind_value: a value's end.
  std::vector<int> before;
  for (size_t i = 0; i <= properties.size(); ++i) before.push_back(draft->NewState());
  const auto go_on = [&](int behind_value, size_t next) {
    draft->AddEmpty(rules_.AddBlanks(draft, draft->AddText(behind_value, ",")), before[next]);
    if (next < last_required) return;
    draft->AddByte(rules_.AddBlanks(draft, behind_value), '}', '}', kEnd);
  };
  const auto add_value = [&](int behind_key, int rule, int to) {
    const int behind_colon = draft->AddText(behind_key, ":");
    draft->AddCall(behind_colon, rule, to);
    draft->AddCall(draft->AddText(behind_colon, " "), rule, to);
  };
  const int inside = rules_.AddBlanks(draft, draft->AddText(kStart, "{"));
  draft->AddEmpty(inside, before[0]);
  if (last_required == 0) draft->AddByte(inside, '}', '}', kEnd);
  for (size_t i = 0; i < properties.size() && draft->fits(); ++i) {
    const Property& property = properties[i];
    const int value = draft->NewState();
    add_value(draft->AddText(before[i], QuoteJson(property.name)), property.rule, value);
    go_on(value, i + 1);
    if (!property.is_required) draft->AddEmpty(before[i], before[i + 1]);
  }
  if (is_closed) return;
  const int behind_key = draft->NewState(), value = draft->NewState();
  draft->AddCall(before.back(), KeyRule(properties), behind_key);
  add_value(behind_key, RuleFor(additional), value);
  go_on(value, properties.size());
}

}  // namespace hga
