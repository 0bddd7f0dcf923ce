// SPDX-License-Identifier: Apache-2.0
// Truth, types and keys as Python has them.
#include "model/chat_template_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace hga::chat {
namespace {

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
// Clang 14 does not deduce an aggregate's arguments by itself.
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

const char* ListName(ListKind kind) {
  switch (kind) {
    case ListKind::kList:
      return "a list";
    case ListKind::kTuple:
      return "a tuple";
    case ListKind::kRange:
      return "a range";
    case ListKind::kView:
      return "a view";
    case ListKind::kLazy:
      return "the result of a filter without 'list'";
  }
  return "";
}

// The name of a key in an index: texts stand for themselves; all else begins with a byte that no
// UTF-8 has. 1, 1.0 and true are one key. "" (with `ok` false) for what can't be a key.
std::string KeyOf(const Value& key, bool* ok) {
  *ok = true;
  if (const auto* truth = key.As<bool>()) return std::string(*truth ? "\xFFi1" : "\xFFi0");
  if (const auto* number = key.As<int64_t>()) return fmt::format("\xFFi{}", *number);
  if (const auto* big = key.As<BigNumber>()) return fmt::format("\xFFi{}", *big->digits);
  if (const auto* real = key.As<double>()) {
    const bool whole = std::floor(*real) == *real && std::fabs(*real) < 9e18;
    return whole ? fmt::format("\xFFi{}", static_cast<int64_t>(*real))
                 : fmt::format("\xFF{}", FloatText(*real));
  }
  if (key.Is<None>()) return "\xFFn";
  *ok = false;
  return "";
}

}  // namespace

bool Value::IsData() const { return !Is<Namespace>() && !Is<Loop>() && !Is<Callable>(); }

int Value::depth() const {
  if (const ListValue* values = list()) return values->depth;
  if (const DictValue* values = dict()) return values->depth;
  return 0;
}

std::string Value::TypeName() const {
  return std::visit(
      Overloaded{
          [](const Undefined&) -> std::string { return "undefined"; },
          [](const None&) -> std::string { return "none"; },
          [](bool) -> std::string { return "a boolean"; },
          [](int64_t) -> std::string { return "a whole number"; },
          [](double) -> std::string { return "a number"; },
          [](const BigNumber&) -> std::string { return "a whole number beyond 64 bits"; },
          [](const Text&) -> std::string { return "a text"; },
          [](const List& l) -> std::string { return ListName(l->kind); },
          [](const Dict&) -> std::string { return "a dict"; },
          [](const Namespace&) -> std::string { return "a namespace"; },
          [](const Loop&) -> std::string { return "a loop"; },
          [](const Callable& c) -> std::string { return fmt::format("the function {}", c->name); }},
      data_);
}

bool Value::Truth() const {
  return std::visit(
      Overloaded{[](const Undefined&) { return false; }, [](const None&) { return false; },
                 [](bool b) { return b; }, [](int64_t i) { return i != 0; },
                 [](double d) { return d != 0; }, [](const BigNumber&) { return true; },
                 [](const Text& t) { return !t->empty(); },
                 [](const List& l) { return l->kind == ListKind::kLazy || !l->items.empty(); },
                 [](const Dict& d) { return !d->items.empty(); },
                 [](const Namespace&) { return true; }, [](const Loop&) { return true; },
                 [](const Callable&) { return true; }},
      data_);
}

const Value* DictValue::Find(std::string_view key) const {
  const auto found = index.find(key);
  return found == index.end() ? nullptr : &items[found->second].second;
}

const Value* DictValue::Find(const Value& key) const {
  if (const TrackedText* text = key.text()) return Find(text->bytes());
  bool ok = false;
  const std::string name = KeyOf(key, &ok);
  return ok ? Find(name) : nullptr;
}

bool DictValue::Set(Value key, Value value) {
  bool ok = true;
  const std::string name = key.text() != nullptr ? key.text()->bytes() : KeyOf(key, &ok);
  if (!ok) return false;
  depth = std::max(depth, value.depth() + 1);
  const auto [place, added] = index.emplace(name, items.size());
  if (added) {
    items.emplace_back(std::move(key), std::move(value));
  } else {
    items[place->second].second = std::move(value);
  }
  return true;
}

Value TextValue(std::string bytes, bool trusted) {
  return Value(Value::Text(std::make_shared<const TrackedText>(std::move(bytes), trusted)));
}

Value ListOf(std::vector<Value> items, ListKind kind) {
  ListValue list;
  for (const Value& item : items) list.depth = std::max(list.depth, item.depth() + 1);
  list.items = std::move(items);
  list.kind = kind;
  if (kind == ListKind::kLazy) list.used = std::make_shared<bool>(false);
  return Value(Value::List(std::make_shared<const ListValue>(std::move(list))));
}

Value DictOf(DictValue dict) {
  return Value(Value::Dict(std::make_shared<const DictValue>(std::move(dict))));
}

bool IsPythonSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char digits[32];
  const auto end =
      std::to_chars(digits, digits + sizeof(digits), value, std::chars_format::scientific);
  const std::string_view text(digits, static_cast<size_t>(end.ptr - digits));
  const size_t e = text.find('e');
  int exponent = 0;
  const char* start = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(start, end.ptr, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  char fixed[64];
  const auto last = std::to_chars(fixed, fixed + sizeof(fixed), value, std::chars_format::fixed);
  std::string out(fixed, static_cast<size_t>(last.ptr - fixed));
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace hga::chat
