// SPDX-License-Identifier: Apache-2.0
// Expressions, evaluated: operators as Python has them, without its conversions that could hide a
// mistake.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/file.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_eval.h"

namespace hga::chat {
namespace {

// Of numbers that can be computed with.
std::optional<double> Real(const Value& value) {
  if (const auto* truth = value.As<bool>()) return *truth ? 1 : 0;
  if (const auto* whole = value.As<int64_t>()) return static_cast<double>(*whole);
  if (const auto* real = value.As<double>()) return *real;
  return std::nullopt;
}

std::optional<int64_t> Whole(const Value& value) {
  if (const auto* truth = value.As<bool>()) return *truth ? 1 : 0;
  if (const auto* whole = value.As<int64_t>()) return *whole;
  return std::nullopt;
}

// Nothing when it does not fit into 64 bits.
std::optional<int64_t> WholeResult(const std::string& op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+" && !__builtin_add_overflow(a, b, &out)) return out;
  if (op == "-" && !__builtin_sub_overflow(a, b, &out)) return out;
  if (op == "*" && !__builtin_mul_overflow(a, b, &out)) return out;
  if ((op == "//" || op == "%") && !(a == std::numeric_limits<int64_t>::min() && b == -1)) {
    // Python rounds down, so that a remainder has the divisor's sign.
    int64_t quotient = a / b;
    int64_t remainder = a % b;
    if (remainder != 0 && (remainder < 0) != (b < 0)) {
      --quotient;
      remainder += b;
    }
    return op == "%" ? remainder : quotient;
  }
  if (op == "**") {
    int64_t power = 1;
    for (int64_t i = 0; i < b; ++i) {
      if (__builtin_mul_overflow(power, a, &power)) return std::nullopt;
      if (power == 0 || (power == 1 && a == 1)) break;
      if (a == -1) return b % 2 == 0 ? 1 : -1;
    }
    return power;
  }
  return std::nullopt;
}

double FloorMod(double a, double b) {
  double remainder = std::fmod(a, b);
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) remainder += b;
  } else {
    remainder = std::copysign(0.0, b);
  }
  return remainder;
}

double FloorDivide(double a, double b) {
  const double remainder = FloorMod(a, b);
  const double quotient = (a - remainder) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

// A slice's bounds over `length` items, as Python's slice.indices() gives them.
struct Steps {
  int64_t begin, end, step;
};

Steps Clamped(const std::optional<int64_t> (&bounds)[3], int64_t length) {
  Steps s{};
  s.step = bounds[2].value_or(1);
  const int64_t low = s.step < 0 ? -1 : 0;
  const int64_t high = s.step < 0 ? length - 1 : length;
  const auto clamp = [&](const std::optional<int64_t>& bound, int64_t otherwise) {
    if (!bound) return otherwise;
    const int64_t at = *bound < 0 ? (*bound < -length ? low : *bound + length) : *bound;
    return std::clamp(at, low, high);
  };
  s.begin = clamp(bounds[0], s.step < 0 ? high : low);
  s.end = clamp(bounds[1], s.step < 0 ? low : high);
  return s;
}

std::vector<size_t> Chosen(const Steps& s) {
  std::vector<size_t> chosen;
  int64_t at = s.begin;
  while (s.step > 0 ? at < s.end : at > s.end) {
    chosen.push_back(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, s.step, &at)) break;
  }
  return chosen;
}

}  // namespace

Result<Value> Evaluator::EvalKind(const Expr& expr, Scope* scope) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return EvalName(expr, scope);
    case ExprKind::kList:
    case ExprKind::kTuple: {
      HGA_ASSIGN_OR_RETURN(std::vector<Value> items, EvalParts(expr, 0, scope));
      return MakeList(expr.offset, std::move(items),
                      expr.kind == ExprKind::kTuple ? ListKind::kTuple : ListKind::kList);
    }
    case ExprKind::kDict:
      return EvalDict(expr, scope);
    case ExprKind::kAttribute: {
      HGA_ASSIGN_OR_RETURN(const Value object, Eval(*expr.parts[0], scope));
      return Attribute(expr.offset, object, expr.name);
    }
    case ExprKind::kItem: {
      HGA_ASSIGN_OR_RETURN(const Value object, Eval(*expr.parts[0], scope));
      HGA_ASSIGN_OR_RETURN(const Value key, Eval(*expr.parts[1], scope));
      return Item(expr.offset, object, key);
    }
    case ExprKind::kSlice:
      return EvalSlice(expr, scope);
    case ExprKind::kCall:
      return EvalCall(expr, scope);
    case ExprKind::kFilter:
      return EvalFilter(expr, nullptr, scope);
    case ExprKind::kTest:
      return EvalTest(expr, scope);
    case ExprKind::kNot: {
      HGA_ASSIGN_OR_RETURN(const Value value, Eval(*expr.parts[0], scope));
      return Value(!value.Truth());
    }
    case ExprKind::kNegate:
    case ExprKind::kPlus:
      return EvalSign(expr, scope);
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      HGA_ASSIGN_OR_RETURN(Value left, Eval(*expr.parts[0], scope));
      if (left.Truth() == (expr.kind == ExprKind::kOr)) return left;
      return Eval(*expr.parts[1], scope);
    }
    case ExprKind::kCondition:
      return EvalCondition(expr, scope);
    case ExprKind::kCompare:
      return EvalCompare(expr, scope);
    case ExprKind::kBinary:
      return EvalBinary(expr, scope);
    case ExprKind::kConcat:
      return EvalConcat(expr, scope);
  }
  return Error(expr.offset, "an expression of no kind");
}

Result<Value> Evaluator::EvalName(const Expr& expr, Scope* scope) {
  for (const Scope* s = scope; s != nullptr; s = s->parent) {
    const auto found = s->variables.find(expr.name);
    if (found != s->variables.end()) return found->second;
  }
  return Value(Undefined{expr.name});
}

Result<std::vector<Value>> Evaluator::EvalParts(const Expr& expr, size_t first, Scope* scope) {
  std::vector<Value> values;
  values.reserve(expr.parts.size() - first);
  for (size_t i = first; i < expr.parts.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(Value value, Eval(*expr.parts[i], scope));
    values.push_back(std::move(value));
  }
  return values;
}

Result<Value> Evaluator::EvalDict(const Expr& expr, Scope* scope) {
  DictValue dict;
  for (size_t i = 0; i < expr.parts.size(); i += 2) {
    HGA_ASSIGN_OR_RETURN(Value key, Eval(*expr.parts[i], scope));
    HGA_ASSIGN_OR_RETURN(Value value, Eval(*expr.parts[i + 1], scope));
    const std::string type = key.TypeName();
    if (!dict.Set(std::move(key), std::move(value))) {
      return Error(expr.parts[i]->offset, type + " can't be a key");
    }
  }
  return MakeDict(expr.offset, std::move(dict));
}

Result<Value> Evaluator::EvalCondition(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value condition, Eval(*expr.parts[1], scope));
  if (condition.Truth()) return Eval(*expr.parts[0], scope);
  if (expr.parts[2]) return Eval(*expr.parts[2], scope);
  return Value(Undefined{"an 'if' without 'else'"});
}

Result<Value> Evaluator::EvalConcat(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const std::vector<Value> values, EvalParts(expr, 0, scope));
  TrackedText all;
  for (const Value& value : values) {
    HGA_ASSIGN_OR_RETURN(const Value::Text text, ToText(expr.offset, value));
    HGA_RETURN_IF_ERROR(CheckSize(expr.offset, all.size() + text->size()));
    all.Append(*text);
  }
  return MakeText(expr.offset, std::move(all));
}

Result<Value> Evaluator::EvalSign(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value value, Eval(*expr.parts[0], scope));
  const bool negate = expr.kind == ExprKind::kNegate;
  if (const auto* real = value.As<double>()) {
    return Value(negate ? -*real : *real, value.from_input());
  }
  const std::optional<int64_t> whole = Whole(value);
  if (!whole || *whole == std::numeric_limits<int64_t>::min()) {
    return Error(expr.offset, value.TypeName() + " can't have a sign");
  }
  return Value(negate ? -*whole : *whole, value.from_input());
}

Result<Value> Evaluator::EvalCompare(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(Value left, Eval(*expr.parts[0], scope));
  for (size_t i = 0; i < expr.words.size(); ++i) {
    HGA_ASSIGN_OR_RETURN(Value right, Eval(*expr.parts[i + 1], scope));
    HGA_ASSIGN_OR_RETURN(const bool holds, CompareOne(expr, expr.words[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<bool> Evaluator::CompareOne(const Expr& expr, const std::string& op, const Value& a,
                                   const Value& b) {
  if (op == "==") return Equal(expr.offset, a, b);
  if (op == "in") return Contains(expr.offset, b, a);
  if (op == "!=") {
    HGA_ASSIGN_OR_RETURN(const bool equal, Equal(expr.offset, a, b));
    return !equal;
  }
  if (op == "not in") {
    HGA_ASSIGN_OR_RETURN(const bool contains, Contains(expr.offset, b, a));
    return !contains;
  }
  HGA_ASSIGN_OR_RETURN(const int order, Compare(expr.offset, a, b));
  if (op == "<") return order == -1;
  if (op == "<=") return order == -1 || order == 0;
  if (op == ">") return order == 1;
  return order == 1 || order == 0;
}

Result<Value> Evaluator::EvalBinary(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value a, Eval(*expr.parts[0], scope));
  HGA_ASSIGN_OR_RETURN(const Value b, Eval(*expr.parts[1], scope));
  for (const Value* value : {&a, &b}) {
    if (const auto* undefined = value->As<Undefined>()) {
      return Error(expr.offset, fmt::format("'{}' is undefined", undefined->name));
    }
  }
  if (expr.name == "+" && !a.IsNumber()) return Add(expr, a, b);
  if (expr.name == "*") return Multiply(expr, a, b);
  return Arithmetic(expr, a, b);
}

Result<Value> Evaluator::Add(const Expr& expr, const Value& a, const Value& b) {
  if (a.text() != nullptr && b.text() != nullptr) {
    HGA_RETURN_IF_ERROR(CheckSize(expr.offset, a.text()->size() + b.text()->size()));
    TrackedText all = *a.text();
    all.Append(*b.text());
    return MakeText(expr.offset, std::move(all));
  }
  const ListValue* first = a.list();
  const ListValue* second = b.list();
  if (first != nullptr && second != nullptr && first->plain() && first->kind == second->kind) {
    HGA_RETURN_IF_ERROR(Charge(expr.offset, (first->items.size() + second->items.size()) / 4));
    std::vector<Value> items = first->items;
    items.insert(items.end(), second->items.begin(), second->items.end());
    return MakeList(expr.offset, std::move(items), first->kind);
  }
  return Error(expr.offset, fmt::format("can't add {} and {}", a.TypeName(), b.TypeName()));
}

Result<Value> Evaluator::Multiply(const Expr& expr, const Value& a, const Value& b) {
  for (const auto& [value, count] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (value->text() == nullptr && (value->list() == nullptr || !value->list()->plain())) continue;
    if (const auto times = Whole(*count)) return Repeat(expr, *value, std::max<int64_t>(*times, 0));
  }
  return Arithmetic(expr, a, b);
}

Result<Value> Evaluator::Repeat(const Expr& expr, const Value& value, int64_t times) {
  const auto count = static_cast<size_t>(times);
  if (const TrackedText* text = value.text()) {
    if (text->empty()) return value;
    if (count > limits_.text_bytes / text->size()) {
      return CheckSize(expr.offset, limits_.text_bytes + 1);
    }
    HGA_RETURN_IF_ERROR(Charge(expr.offset, count / 16));
    TrackedText all;
    for (size_t i = 0; i < count; ++i) all.Append(*text);
    return MakeText(expr.offset, std::move(all));
  }
  const ListValue& list = *value.list();
  if (!list.items.empty()) {
    HGA_RETURN_IF_ERROR(
        Charge(expr.offset, std::min(count, limits_.steps) * (list.items.size() / 4 + 1)));
  }
  std::vector<Value> items;
  for (size_t i = 0; i < (list.items.empty() ? 0 : count); ++i) {
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return MakeList(expr.offset, std::move(items), list.kind);
}

Result<Value> Evaluator::Arithmetic(const Expr& expr, const Value& a, const Value& b) {
  const std::string& op = expr.name;
  const bool from_input = a.from_input() || b.from_input();
  const std::optional<double> x = Real(a), y = Real(b);
  if (!x || !y) {
    return Error(expr.offset,
                 fmt::format("{} {} {} is not possible here", a.TypeName(), op, b.TypeName()));
  }
  if (*y == 0 && (op == "/" || op == "//" || op == "%")) {
    return Error(expr.offset, "division by zero");
  }
  const std::optional<int64_t> i = Whole(a), j = Whole(b);
  if (i && j && op != "/" && !(op == "**" && *j < 0)) {
    const std::optional<int64_t> whole = WholeResult(op, *i, *j);
    if (whole) return Value(*whole, from_input);
    return Error(expr.offset, "a whole number beyond 64 bits");
  }
  double real = 0;
  if (op == "+") real = *x + *y;
  if (op == "-") real = *x - *y;
  if (op == "*") real = *x * *y;
  if (op == "/") real = *x / *y;
  if (op == "//") real = FloorDivide(*x, *y);
  if (op == "%") real = FloorMod(*x, *y);
  if (op == "**") real = std::pow(*x, *y);
  if (!std::isfinite(real)) return Error(expr.offset, "a number that is too large");
  return Value(real, from_input);
}

Result<Value> Evaluator::EvalSlice(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value object, Eval(*expr.parts[0], scope));
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    bounds[i] = Value(None{});
    if (expr.parts[i + 1]) {
      HGA_ASSIGN_OR_RETURN(bounds[i], Eval(*expr.parts[i + 1], scope));
    }
    if (!bounds[i].Is<None>() && !Whole(bounds[i])) {
      return Error(expr.offset, bounds[i].TypeName() + " can't bound a slice");
    }
  }
  if (Whole(bounds[2]) == 0) return Error(expr.offset, "a slice's step can't be 0");
  if (const TrackedText* text = object.text()) return SliceText(expr.offset, *text, bounds);
  const ListValue* list = object.list();
  if (list == nullptr || !list->plain()) {
    return Error(expr.offset, object.TypeName() + " can't be sliced");
  }
  const std::optional<int64_t> whole[3] = {Whole(bounds[0]), Whole(bounds[1]), Whole(bounds[2])};
  std::vector<Value> items;
  for (const size_t i : Chosen(Clamped(whole, static_cast<int64_t>(list->items.size())))) {
    items.push_back(list->items[i]);
  }
  return MakeList(expr.offset, std::move(items), list->kind);
}

Result<Value> Evaluator::SliceText(size_t offset, const TrackedText& text, const Value* bounds) {
  HGA_RETURN_IF_ERROR(ChargeBytes(offset, text.size()));
  const std::vector<size_t> places = CharacterOffsets(text.bytes());
  const std::optional<int64_t> whole[3] = {Whole(bounds[0]), Whole(bounds[1]), Whole(bounds[2])};
  const Steps steps = Clamped(whole, static_cast<int64_t>(places.size()) - 1);
  if (steps.step == 1) {
    const auto begin = static_cast<size_t>(steps.begin);
    const auto end = static_cast<size_t>(std::max(steps.begin, steps.end));
    return MakeText(offset, text.Part(places[begin], places[end]));
  }
  TrackedText out;
  for (const size_t i : Chosen(steps)) out.AppendPart(text, places[i], places[i + 1]);
  return MakeText(offset, std::move(out));
}

Result<Call> Evaluator::EvalArguments(const Expr& expr, std::string_view name, Scope* scope) {
  Call call;
  call.offset = expr.offset;
  call.name = name;
  HGA_ASSIGN_OR_RETURN(call.arguments, EvalParts(expr, 1, scope));
  const size_t plain = call.arguments.size() - expr.words.size();
  for (size_t i = 0; i < expr.words.size(); ++i) {
    call.named.emplace_back(expr.words[i], std::move(call.arguments[plain + i]));
  }
  call.arguments.resize(plain);
  return call;
}

Result<Value> Evaluator::EvalCall(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value callee, Eval(*expr.parts[0], scope));
  const auto* callable = callee.As<Value::Callable>();
  if (callable == nullptr) {
    if (const auto* undefined = callee.As<Undefined>()) {
      return Error(expr.offset,
                   fmt::format("the function {} is not known", Quoted(undefined->name)));
    }
    return Error(expr.offset, callee.TypeName() + " can't be called");
  }
  const CallableValue& function = **callable;
  HGA_ASSIGN_OR_RETURN(const Call call, EvalArguments(expr, function.name, scope));
  switch (function.kind) {
    case CallableValue::kMacro:
      return CallMacro(function, call);
    case CallableValue::kMethod:
      return RunMethod(*this, function.self, call);
    case CallableValue::kFunction:
      return RunFunction(*this, call);
  }
  return Error(expr.offset, "a function of no kind");
}

Result<Value> Evaluator::EvalFilter(const Expr& expr, const Value* input, Scope* scope) {
  Value value;
  if (expr.parts[0] == nullptr) {
    value = *input;
  } else if (input != nullptr) {
    HGA_ASSIGN_OR_RETURN(value, EvalFilter(*expr.parts[0], input, scope));
  } else {
    HGA_ASSIGN_OR_RETURN(value, Eval(*expr.parts[0], scope));
  }
  HGA_ASSIGN_OR_RETURN(const Call call, EvalArguments(expr, expr.name, scope));
  return RunFilter(*this, value, call);
}

Result<Value> Evaluator::EvalTest(const Expr& expr, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value value, Eval(*expr.parts[0], scope));
  HGA_ASSIGN_OR_RETURN(const Call call, EvalArguments(expr, expr.name, scope));
  HGA_ASSIGN_OR_RETURN(const bool holds, RunTest(*this, value, call));
  return Value(holds);
}

}  // namespace hga::chat
