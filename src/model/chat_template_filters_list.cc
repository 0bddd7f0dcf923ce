// SPDX-License-Identifier: Apache-2.0
// Filters over sequences and dicts.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_case.h"

namespace hga::chat {
namespace {

Result<Value> Length(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  if (input.Is<Undefined>()) return Value(int64_t{0});
  if (const TrackedText* text = input.text()) {
    HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text->size()));
    return Value(static_cast<int64_t>(CountCharacters(text->bytes())));
  }
  if (const DictValue* dict = input.dict()) return Value(static_cast<int64_t>(dict->items.size()));
  const ListValue* list = input.list();
  if (list != nullptr && list->kind != ListKind::kLazy) {
    return Value(static_cast<int64_t>(list->items.size()));
  }
  return run.Error(call.offset, input.TypeName() + " has no length");
}

Result<Value> Default(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"default_value", "boolean"}));
  const bool boolean = given[1] != nullptr && given[1]->Truth();
  if (!input.Is<Undefined>() && (!boolean || input.Truth())) return input;
  return given[0] != nullptr ? *given[0] : TextValue("", true);
}

Result<Value> First(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  return items.empty() ? Value(Undefined{"the first item"}) : items.front();
}

Result<Value> Last(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  if (input.list() != nullptr && input.list()->kind == ListKind::kLazy) {
    return run.Error(call.offset, "last: put '| list' behind the filter first");
  }
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  return items.empty() ? Value(Undefined{"the last item"}) : items.back();
}

Result<Value> List(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(std::vector<Value> items, run.Items(call.offset, input));
  return run.MakeList(call.offset, std::move(items));
}

Result<Value> ItemsFilter(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  std::vector<Value> pairs;
  const DictValue* dict = input.dict();
  if (dict == nullptr && !input.Is<Undefined>()) {
    return run.Error(call.offset, "items: a dict is needed, not " + input.TypeName());
  }
  if (dict != nullptr) {
    HGA_RETURN_IF_ERROR(run.Charge(call.offset, dict->items.size()));
    for (const auto& [key, value] : dict->items)
      pairs.push_back(ListOf({key, value}, ListKind::kTuple));
  }
  return run.MakeList(call.offset, std::move(pairs), ListKind::kLazy);
}

// What "a.b" or 0 leads to inside of `item`.
Result<Value> Reach(Evaluator& run, const Call& call, Value item, const Value& path) {
  if (path.text() == nullptr) return run.Item(call.offset, item, path);
  const std::string& names = path.text()->bytes();
  for (size_t at = 0; at <= names.size();) {
    const size_t end = std::min(names.find('.', at), names.size());
    const std::string name = names.substr(at, end - at);
    const bool number = !name.empty() && name.size() < 10 &&
                        name.find_first_not_of("0123456789") == std::string::npos;
    const Value key = number ? Value(static_cast<int64_t>(std::stol(name))) : TextValue(name, true);
    HGA_ASSIGN_OR_RETURN(item, run.Item(call.offset, item, key));
    at = end + 1;
  }
  return item;
}

Result<Value> JoinFilter(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"d", "attribute"}));
  HGA_ASSIGN_OR_RETURN(std::vector<Value> items, run.Items(call.offset, input));
  Value::Text separator = std::make_shared<const TrackedText>();
  if (given[0] != nullptr) {
    HGA_ASSIGN_OR_RETURN(separator, run.ToText(call.offset, *given[0]));
  }
  if (given[1] != nullptr && !given[1]->Is<None>()) {
    for (Value& item : items) {
      HGA_ASSIGN_OR_RETURN(item, Reach(run, call, std::move(item), *given[1]));
    }
  }
  return Join(run, call.offset, items, *separator);
}

Result<Value> Map(Evaluator& run, const Value& input, const Call& call) {
  Call inner;
  inner.offset = call.offset;
  const Value* attribute = nullptr;
  const Value* otherwise = nullptr;
  if (call.arguments.empty()) {
    HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"attribute", "default"}, 1));
    attribute = given[0];
    otherwise = given[1];
  } else {
    HGA_ASSIGN_OR_RETURN(const TrackedText* name,
                         TextArgument(run, call, call.arguments[0], "name"));
    inner.name = name->bytes();
    inner.arguments.assign(call.arguments.begin() + 1, call.arguments.end());
    inner.named = call.named;
  }
  HGA_ASSIGN_OR_RETURN(std::vector<Value> items, run.Items(call.offset, input));
  for (Value& item : items) {
    HGA_RETURN_IF_ERROR(run.Charge(call.offset, 1));
    if (attribute == nullptr) {
      HGA_ASSIGN_OR_RETURN(item, RunFilter(run, item, inner));
      continue;
    }
    HGA_ASSIGN_OR_RETURN(item, Reach(run, call, std::move(item), *attribute));
    if (otherwise != nullptr && item.Is<Undefined>()) item = *otherwise;
  }
  return run.MakeList(call.offset, std::move(items), ListKind::kLazy);
}

// Items (or, with `by_attribute`, a part of each) for which a test holds or not.
template <bool by_attribute, bool keep>
Result<Value> Select(Evaluator& run, const Value& input, const Call& call) {
  constexpr size_t kFirst = by_attribute ? 1 : 0;
  if (call.arguments.size() < kFirst) {
    return run.Error(call.offset, fmt::format("{} needs an attribute", call.name));
  }
  Call inner;
  inner.offset = call.offset;
  if (call.arguments.size() > kFirst) {
    HGA_ASSIGN_OR_RETURN(const TrackedText* name,
                         TextArgument(run, call, call.arguments[kFirst], "name"));
    inner.name = name->bytes();
    inner.arguments.assign(call.arguments.begin() + kFirst + 1, call.arguments.end());
    inner.named = call.named;
  }
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  std::vector<Value> chosen;
  for (const Value& item : items) {
    HGA_RETURN_IF_ERROR(run.Charge(call.offset, 1));
    Value tested = item;
    if (by_attribute) {
      HGA_ASSIGN_OR_RETURN(tested, Reach(run, call, std::move(tested), call.arguments[0]));
    }
    bool holds = tested.Truth();
    if (!inner.name.empty()) {
      HGA_ASSIGN_OR_RETURN(holds, RunTest(run, tested, inner));
    }
    if (holds == keep) chosen.push_back(item);
  }
  return run.MakeList(call.offset, std::move(chosen), ListKind::kLazy);
}

Result<Value> Reverse(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(std::vector<Value> items, run.Items(call.offset, input));
  std::reverse(items.begin(), items.end());
  if (input.text() != nullptr) return Join(run, call.offset, items, TrackedText());
  return run.MakeList(call.offset, std::move(items), ListKind::kLazy);
}

// What values are ordered by: texts without their case unless it counts.
Result<Value> SortKey(Evaluator& run, const Call& call, Value value, const Value* attribute,
                      bool case_sensitive) {
  if (attribute != nullptr && !attribute->Is<None>()) {
    HGA_ASSIGN_OR_RETURN(value, Reach(run, call, std::move(value), *attribute));
  }
  if (case_sensitive || value.text() == nullptr) return value;
  size_t refused = 0;
  auto lower = ChangeCase(*value.text(), Casing::kLower, &refused);
  if (lower) return run.MakeText(call.offset, *std::move(lower));
  return run.Error(call.offset,
                   fmt::format("{}: a character without a plain lower case", call.name));
}

struct Keyed {
  Value key, value;
};

// Stable; the first failed comparison is what is returned.
Status Sort(Evaluator& run, size_t offset, bool reverse, std::vector<Keyed>* items) {
  Status failed;
  // Merge sort by hand: a comparison that fails must not upset std::sort.
  std::vector<Keyed> from = std::move(*items);
  for (size_t width = 1; width < from.size(); width *= 2) {
    std::vector<Keyed> to;
    to.reserve(from.size());
    for (size_t begin = 0; begin < from.size(); begin += 2 * width) {
      size_t a = begin;
      size_t b = std::min(begin + width, from.size());
      const size_t a_end = b;
      const size_t b_end = std::min(begin + 2 * width, from.size());
      while (a < a_end || b < b_end) {
        bool second = a == a_end;
        if (a < a_end && b < b_end) {
          HGA_ASSIGN_OR_RETURN(const int order, run.Compare(offset, from[b].key, from[a].key));
          second = order == (reverse ? 1 : -1);
        }
        to.push_back(std::move(second ? from[b++] : from[a++]));
      }
    }
    from = std::move(to);
  }
  *items = std::move(from);
  return failed;
}

Result<Value> SortFilter(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given,
                       run.Bind(call, {"reverse", "case_sensitive", "attribute"}));
  const bool reverse = given[0] != nullptr && given[0]->Truth();
  const bool case_sensitive = given[1] != nullptr && given[1]->Truth();
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  std::vector<Keyed> keyed;
  for (const Value& item : items) {
    HGA_ASSIGN_OR_RETURN(Value key, SortKey(run, call, item, given[2], case_sensitive));
    keyed.push_back({std::move(key), item});
  }
  HGA_RETURN_IF_ERROR(Sort(run, call.offset, reverse, &keyed));
  std::vector<Value> sorted;
  for (Keyed& item : keyed) sorted.push_back(std::move(item.value));
  return run.MakeList(call.offset, std::move(sorted));
}

Result<Value> DictSort(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"case_sensitive", "by", "reverse"}));
  const DictValue* dict = input.dict();
  if (dict == nullptr) return run.Error(call.offset, "dictsort: a dict is needed");
  bool by_value = false;
  if (given[1] != nullptr) {
    HGA_ASSIGN_OR_RETURN(const TrackedText* by, TextArgument(run, call, *given[1], "by"));
    by_value = by->bytes() == "value";
    if (!by_value && by->bytes() != "key")
      return run.Error(call.offset, "dictsort: by key or value");
  }
  const bool case_sensitive = given[0] != nullptr && given[0]->Truth();
  std::vector<Keyed> keyed;
  for (const auto& [name, value] : dict->items) {
    HGA_ASSIGN_OR_RETURN(Value key,
                         SortKey(run, call, by_value ? value : name, nullptr, case_sensitive));
    keyed.push_back({std::move(key), ListOf({name, value}, ListKind::kTuple)});
  }
  HGA_RETURN_IF_ERROR(Sort(run, call.offset, given[2] != nullptr && given[2]->Truth(), &keyed));
  std::vector<Value> sorted;
  for (Keyed& item : keyed) sorted.push_back(std::move(item.value));
  return run.MakeList(call.offset, std::move(sorted));
}

Result<Value> Unique(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"case_sensitive", "attribute"}));
  const bool case_sensitive = given[0] != nullptr && given[0]->Truth();
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  DictValue seen;
  std::vector<Value> unique;
  for (const Value& item : items) {
    HGA_ASSIGN_OR_RETURN(Value key, SortKey(run, call, item, given[1], case_sensitive));
    if (seen.Find(key) != nullptr) continue;
    if (!seen.Set(std::move(key), Value(None{}))) {
      return run.Error(call.offset, "unique: lists and dicts can't be told apart here");
    }
    unique.push_back(item);
  }
  return run.MakeList(call.offset, std::move(unique), ListKind::kLazy);
}

template <int wanted>
Result<Value> Extreme(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"case_sensitive", "attribute"}));
  const bool case_sensitive = given[0] != nullptr && given[0]->Truth();
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  Value best{Undefined{"no aggregated item"}};
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(Value key, SortKey(run, call, items[i], given[1], case_sensitive));
    int order = wanted;
    if (i > 0) {
      HGA_ASSIGN_OR_RETURN(order, run.Compare(call.offset, key, best_key));
    }
    if (order != wanted) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

Result<Value> Sum(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"attribute"}));
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, run.Items(call.offset, input));
  int64_t sum = 0;
  for (Value item : items) {
    if (given[0] != nullptr) {
      HGA_ASSIGN_OR_RETURN(item, Reach(run, call, std::move(item), *given[0]));
    }
    HGA_ASSIGN_OR_RETURN(const int64_t whole, IntegerArgument(run, call, item, "item"));
    if (__builtin_add_overflow(sum, whole, &sum)) {
      return run.Error(call.offset, "a whole number beyond 64 bits");
    }
  }
  return Value(sum);
}

struct Entry {
  std::string_view name;
  FilterFunction function;
};
constexpr Entry kFilters[] = {
    {"count", Length},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"first", First},
    {"items", ItemsFilter},
    {"join", JoinFilter},
    {"last", Last},
    {"length", Length},
    {"list", List},
    {"map", Map},
    {"max", Extreme<1>},
    {"min", Extreme<-1>},
    {"reject", Select<false, false>},
    {"rejectattr", Select<true, false>},
    {"reverse", Reverse},
    {"select", Select<false, true>},
    {"selectattr", Select<true, true>},
    {"sort", SortFilter},
    {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

FilterFunction FindListFilter(std::string_view name) {
  for (const Entry& entry : kFilters) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

bool IsFilter(std::string_view name) {
  return FindTextFilter(name) != nullptr || FindListFilter(name) != nullptr;
}

Result<Value> RunFilter(Evaluator& run, const Value& input, const Call& call) {
  const FilterFunction text = FindTextFilter(call.name);
  const FilterFunction list = FindListFilter(call.name);
  if (text == nullptr && list == nullptr) {
    return run.Error(call.offset, fmt::format("the filter {} is not known", Quoted(call.name)));
  }
  return text != nullptr ? text(run, input, call) : list(run, input, call);
}

}  // namespace hga::chat
