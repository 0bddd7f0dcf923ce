// SPDX-License-Identifier: Apache-2.0
// Values as text, as sequences, and held against each other; what lies inside of them.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_eval.h"

namespace hga::chat {
namespace {

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

// Python's repr(str).
std::string TextRepr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstUtf8(text.substr(at));
    const char32_t c = step.code_point;
    if (c == '\\' || c == static_cast<unsigned char>(quote)) {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (IsPrintable(c)) {
      out += text.substr(at, step.bytes);
    } else {
      const auto code = static_cast<uint32_t>(c);
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
    at += step.bytes;
  }
  return out + quote;
}

std::string NumberText(const Value& value) {
  if (const auto* truth = value.As<bool>()) return *truth ? "True" : "False";
  if (const auto* whole = value.As<int64_t>()) return fmt::format("{}", *whole);
  if (const auto* real = value.As<double>()) return FloatText(*real);
  return *value.As<BigNumber>()->digits;
}

// -1, 0, 1; 2 when one of them is not a number.
template <typename T>
int Order(T a, T b) {
  if (a < b) return -1;
  return a > b ? 1 : a == b ? 0 : 2;
}

int NumberOrder(const Value& a, const Value& b) {
  const auto whole = [](const Value& v, int64_t* out) {
    if (const auto* truth = v.As<bool>()) return *out = *truth ? 1 : 0, true;
    if (const auto* integer = v.As<int64_t>()) return *out = *integer, true;
    return false;
  };
  int64_t i = 0, j = 0;
  const bool first = whole(a, &i), second = whole(b, &j);
  if (first && second) return Order(i, j);
  // long double holds every 64-bit integer and every double.
  const long double x = first ? static_cast<long double>(i) : *a.As<double>();
  const long double y = second ? static_cast<long double>(j) : *b.As<double>();
  return Order(x, y);
}

}  // namespace

Status Evaluator::AppendRepr(size_t offset, const Value& value, std::string* out) {
  HGA_RETURN_IF_ERROR(Charge(offset, 1));
  if (const TrackedText* text = value.text()) {
    HGA_RETURN_IF_ERROR(ChargeBytes(offset, text->size()));
    *out += TextRepr(text->bytes());
  } else if (value.Is<None>()) {
    *out += "None";
  } else if (value.Is<Undefined>()) {
    *out += "Undefined";
  } else if (value.IsNumber()) {
    *out += NumberText(value);
  } else if (const ListValue* list = value.list(); list != nullptr && list->plain()) {
    const bool tuple = list->kind == ListKind::kTuple;
    *out += tuple ? '(' : '[';
    for (size_t i = 0; i < list->items.size(); ++i) {
      if (i > 0) *out += ", ";
      HGA_RETURN_IF_ERROR(AppendRepr(offset, list->items[i], out));
    }
    if (tuple && list->items.size() == 1) *out += ',';
    *out += tuple ? ')' : ']';
  } else if (const DictValue* dict = value.dict()) {
    *out += '{';
    for (size_t i = 0; i < dict->items.size(); ++i) {
      if (i > 0) *out += ", ";
      HGA_RETURN_IF_ERROR(AppendRepr(offset, dict->items[i].first, out));
      *out += ": ";
      HGA_RETURN_IF_ERROR(AppendRepr(offset, dict->items[i].second, out));
    }
    *out += '}';
  } else {
    return Error(offset, value.TypeName() + " can't be written");
  }
  return CheckSize(offset, out->size());
}

Result<Value::Text> Evaluator::ToText(size_t offset, const Value& value) {
  if (const auto* text = value.As<Value::Text>()) return *text;
  std::string out;
  if (!value.Is<Undefined>()) HGA_RETURN_IF_ERROR(AppendRepr(offset, value, &out));
  const bool scalar = value.IsNumber() || value.Is<None>();
  HGA_ASSIGN_OR_RETURN(
      const Value made,
      MakeText(offset, TrackedText(std::move(out), scalar && !value.from_input())));
  return *made.As<Value::Text>();
}

Result<std::vector<Value>> Evaluator::Items(size_t offset, const Value& value) {
  std::vector<Value> items;
  if (value.Is<Undefined>()) return items;
  if (const ListValue* list = value.list()) {
    HGA_RETURN_IF_ERROR(Charge(offset, list->items.size() / 4));
    if (list->used != nullptr && std::exchange(*list->used, true)) {
      return Error(offset, "the result of a filter was used twice; put '| list' behind it");
    }
    return list->items;
  }
  if (const DictValue* dict = value.dict()) {
    HGA_RETURN_IF_ERROR(Charge(offset, dict->items.size() / 4));
    for (const auto& [key, unused] : dict->items) items.push_back(key);
    return items;
  }
  if (const TrackedText* text = value.text()) {
    const std::vector<size_t> places = CharacterOffsets(text->bytes());
    HGA_RETURN_IF_ERROR(Charge(offset, places.size()));
    for (size_t i = 0; i + 1 < places.size(); ++i) {
      HGA_ASSIGN_OR_RETURN(Value character, MakeText(offset, text->Part(places[i], places[i + 1])));
      items.push_back(std::move(character));
    }
    return items;
  }
  return Error(offset, value.TypeName() + " can't be iterated over");
}

Result<bool> Evaluator::Equal(size_t offset, const Value& a, const Value& b) {
  HGA_RETURN_IF_ERROR(Charge(offset, 1));
  if (a.text() != nullptr && b.text() != nullptr) {
    HGA_RETURN_IF_ERROR(ChargeBytes(offset, a.text()->size()));
    return a.text()->bytes() == b.text()->bytes();
  }
  if (a.Is<BigNumber>() && b.Is<BigNumber>()) {
    return *a.As<BigNumber>()->digits == *b.As<BigNumber>()->digits;
  }
  if (a.Is<BigNumber>() || b.Is<BigNumber>()) {
    if (a.Is<double>() || b.Is<double>()) return Error(offset, "a number is too large to compare");
    return false;
  }
  if (a.IsNumber() && b.IsNumber()) return NumberOrder(a, b) == 0;
  if (a.Is<None>() && b.Is<None>()) return true;
  if (a.Is<Undefined>() && b.Is<Undefined>()) return true;
  const ListValue* x = a.list();
  const ListValue* y = b.list();
  if (x != nullptr && y != nullptr) {
    if (!x->plain() || !y->plain()) return Error(offset, "views can't be compared");
    if (x->kind != y->kind || x->items.size() != y->items.size()) return false;
    for (size_t i = 0; i < x->items.size(); ++i) {
      HGA_ASSIGN_OR_RETURN(const bool equal, Equal(offset, x->items[i], y->items[i]));
      if (!equal) return false;
    }
    return true;
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    for (const auto& [key, value] : a.dict()->items) {
      const Value* other = b.dict()->Find(key);
      if (other == nullptr) return false;
      HGA_ASSIGN_OR_RETURN(const bool equal, Equal(offset, value, *other));
      if (!equal) return false;
    }
    return true;
  }
  if (!a.IsData() && !b.IsData()) return Error(offset, "functions can't be compared");
  return false;
}

Result<int> Evaluator::Compare(size_t offset, const Value& a, const Value& b) {
  HGA_RETURN_IF_ERROR(Charge(offset, 1));
  if (a.text() != nullptr && b.text() != nullptr) {
    HGA_RETURN_IF_ERROR(ChargeBytes(offset, a.text()->size()));
    return Order(a.text()->bytes().compare(b.text()->bytes()), 0);  // UTF-8 sorts as characters do
  }
  const bool numbers = a.IsNumber() && b.IsNumber() && !a.Is<BigNumber>() && !b.Is<BigNumber>();
  if (numbers) return NumberOrder(a, b);
  const ListValue* x = a.list();
  const ListValue* y = b.list();
  if (x == nullptr || y == nullptr || !x->plain() || x->kind != y->kind) {
    return Error(offset, fmt::format("{} and {} have no order", a.TypeName(), b.TypeName()));
  }
  for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
    HGA_ASSIGN_OR_RETURN(const bool equal, Equal(offset, x->items[i], y->items[i]));
    if (!equal) return Compare(offset, x->items[i], y->items[i]);
  }
  return Order(x->items.size(), y->items.size());
}

Result<bool> Evaluator::Contains(size_t offset, const Value& all, const Value& one) {
  if (const TrackedText* text = all.text()) {
    if (one.text() == nullptr) {
      return Error(offset, one.TypeName() + " can't be looked for in a text");
    }
    HGA_RETURN_IF_ERROR(ChargeBytes(offset, text->size()));
    return text->bytes().find(one.text()->bytes()) != std::string::npos;
  }
  if (const DictValue* dict = all.dict()) {
    if (one.list() != nullptr || one.dict() != nullptr) {
      return Error(offset, one.TypeName() + " can't be a key");
    }
    return dict->Find(one) != nullptr;
  }
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> items, Items(offset, all));
  for (const Value& item : items) {
    HGA_ASSIGN_OR_RETURN(const bool equal, Equal(offset, item, one));
    if (equal) return true;
  }
  return false;
}

namespace {

Result<Value> LoopAttribute(Evaluator& run, size_t offset, const LoopValue& loop,
                            const std::string& name, bool* known) {
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = static_cast<int64_t>(loop.items.size());
  const auto neighbour = [&](bool there, int64_t at) {
    return there ? loop.items[static_cast<size_t>(at)] : Value(Undefined{"loop." + name});
  };
  *known = true;
  if (name == "index") return Value(index + 1, false);
  if (name == "index0") return Value(index, false);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  if (name == "depth") return Value(int64_t{1}, false);
  if (name == "depth0") return Value(int64_t{0}, false);
  if (name == "previtem") return neighbour(index > 0, index - 1);
  if (name == "nextitem") return neighbour(index + 1 < length, index + 1);
  *known = name == "cycle";
  if (!*known) return run.Error(offset, fmt::format("loop.{} is not known here", name));
  return Value();
}

}  // namespace

Result<Value> Evaluator::Attribute(size_t offset, const Value& object, const std::string& name) {
  if (const auto* undefined = object.As<Undefined>()) {
    return Error(offset,
                 fmt::format("'{}' is undefined, so it has no '{}'", undefined->name, name));
  }
  if (name.starts_with("__")) {
    return Error(offset, fmt::format("the attribute {} can't be reached", Quoted(name)));
  }
  MethodKind method = MethodKind::kNone;
  if (object.text() != nullptr) method = TextMethod(name);
  if (object.dict() != nullptr) method = DictMethod(name);
  if (object.list() != nullptr) method = ListMethod(name);
  if (const auto* loop = object.As<Value::Loop>()) {
    bool known = false;
    HGA_ASSIGN_OR_RETURN(Value value, LoopAttribute(*this, offset, **loop, name, &known));
    if (name != "cycle") return value;
    method = MethodKind::kKnown;
  }
  if (method == MethodKind::kUnknown) {
    return Error(offset, fmt::format("the method {} of {} is not known here", Quoted(name),
                                     object.TypeName()));
  }
  if (method == MethodKind::kKnown) {
    CallableValue callable;
    callable.kind = CallableValue::kMethod;
    callable.name = name;
    callable.self = object;
    return Value(Value::Callable(std::make_shared<CallableValue>(std::move(callable))));
  }
  if (const DictValue* dict = object.dict()) {
    if (const Value* value = dict->Find(std::string_view(name))) return *value;
  }
  if (const auto* space = object.As<Value::Namespace>()) {
    const auto found = (*space)->fields.find(name);
    if (found != (*space)->fields.end()) return found->second;
  }
  if (object.Is<Value::Callable>()) {
    return Error(offset, fmt::format("{} has no {} here", object.TypeName(), Quoted(name)));
  }
  return Value(Undefined{name});
}

Result<Value> Evaluator::Item(size_t offset, const Value& object, const Value& key) {
  if (const DictValue* dict = object.dict()) {
    if (const Value* value = dict->Find(key)) return *value;
  }
  const TrackedText* name = key.text();
  // Jinja looks for an attribute where there is no such item.
  if (name != nullptr || object.Is<Undefined>()) {
    return Attribute(offset, object, name != nullptr ? name->bytes() : "[...]");
  }
  int64_t index = 0;
  if (const auto* whole = key.As<int64_t>()) {
    index = *whole;
  } else if (const auto* truth = key.As<bool>()) {
    index = *truth ? 1 : 0;
  } else {
    return Value(Undefined{key.TypeName()});
  }
  const ListValue* list = object.list();
  const TrackedText* text = object.text();
  if (list != nullptr && (list->plain() || list->kind == ListKind::kRange)) {
    const auto size = static_cast<int64_t>(list->items.size());
    if (index < 0) index += size;
    if (index >= 0 && index < size) return list->items[static_cast<size_t>(index)];
  } else if (list != nullptr) {
    return Error(offset, list->kind == ListKind::kView ? "a view has no items by number"
                                                       : "put '| list' behind the filter first");
  } else if (text != nullptr) {
    HGA_RETURN_IF_ERROR(ChargeBytes(offset, text->size()));
    const std::vector<size_t> places = CharacterOffsets(text->bytes());
    const auto size = static_cast<int64_t>(places.size()) - 1;
    if (index < 0) index += size;
    if (index >= 0 && index < size) {
      const auto at = static_cast<size_t>(index);
      return MakeText(offset, text->Part(places[at], places[at + 1]));
    }
  }
  return Value(Undefined{fmt::format("item {}", index)});
}

}  // namespace hga::chat
