// SPDX-License-Identifier: Apache-2.0
// What can stand behind `is`.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_case.h"

namespace hga::chat {
namespace {

using TestFunction = Result<bool> (*)(Evaluator& run, const Value& input, const Call& call);

template <bool (*holds)(const Value&)>
Result<bool> Kind(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  return holds(input);
}

bool IsDefined(const Value& v) { return !v.Is<Undefined>(); }
bool IsUndefined(const Value& v) { return v.Is<Undefined>(); }
bool IsNone(const Value& v) { return v.Is<None>(); }
bool IsString(const Value& v) { return v.text() != nullptr; }
bool IsMapping(const Value& v) { return v.dict() != nullptr; }
bool IsNumber(const Value& v) { return v.IsNumber(); }
bool IsInteger(const Value& v) { return v.Is<int64_t>() || v.Is<BigNumber>(); }
bool IsFloat(const Value& v) { return v.Is<double>(); }
bool IsBoolean(const Value& v) { return v.Is<bool>(); }
bool IsTrue(const Value& v) { return v.Is<bool>() && v.Truth(); }
bool IsFalse(const Value& v) { return v.Is<bool>() && !v.Truth(); }
bool IsCallable(const Value& v) { return v.Is<Value::Callable>() || v.Is<Value::Loop>(); }
bool IsIterable(const Value& v) {
  return v.text() != nullptr || v.list() != nullptr || v.dict() != nullptr || v.Is<Undefined>() ||
         v.Is<Value::Loop>();
}
bool IsSequence(const Value& v) {
  return v.text() != nullptr || v.dict() != nullptr || v.Is<Undefined>() ||
         (v.list() != nullptr && (v.list()->plain() || v.list()->kind == ListKind::kRange));
}

// -1, 0 or 1 by the order of the input and the argument.
Result<bool> Ordered(Evaluator& run, const Value& input, const Call& call, int low, int high) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"other"}, 1));
  HGA_ASSIGN_OR_RETURN(const int order, run.Compare(call.offset, input, *given[0]));
  return order >= low && order <= high;
}
template <int low, int high>
Result<bool> Order(Evaluator& run, const Value& input, const Call& call) {
  return Ordered(run, input, call, low, high);
}

template <bool wanted>
Result<bool> Equals(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"other"}, 1));
  HGA_ASSIGN_OR_RETURN(const bool equal, run.Equal(call.offset, input, *given[0]));
  return equal == wanted;
}

Result<bool> In(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"seq"}, 1));
  return run.Contains(call.offset, *given[0], input);
}

Result<bool> DivisibleBy(Evaluator& run, const Value& input, const Call& call) {
  HGA_ASSIGN_OR_RETURN(const auto given, run.Bind(call, {"num"}, 1));
  HGA_ASSIGN_OR_RETURN(const int64_t number, IntegerArgument(run, call, input, "value"));
  HGA_ASSIGN_OR_RETURN(const int64_t by, IntegerArgument(run, call, *given[0], "num"));
  if (by == 0) return run.Error(call.offset, "division by zero");
  return by == -1 || number % by == 0;
}

template <bool odd>
Result<bool> Parity(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(const int64_t number, IntegerArgument(run, call, input, "value"));
  return (number % 2 != 0) == odd;
}

// str.isupper() or str.islower(): all letters that have a case, and there is one.
template <bool upper>
Result<bool> AllCase(Evaluator& run, const Value& input, const Call& call) {
  HGA_RETURN_IF_ERROR(run.Bind(call, {}).status());
  HGA_ASSIGN_OR_RETURN(const Value::Text text, run.ToText(call.offset, input));
  HGA_RETURN_IF_ERROR(run.ChargeBytes(call.offset, text->size() * 8));
  bool any = false;
  for (size_t at = 0; at < text->size();) {
    const Utf8Step step = FirstUtf8(std::string_view(text->bytes()).substr(at));
    at += step.bytes;
    if (upper ? IsLowerLetter(step.code_point) : IsUpperLetter(step.code_point)) return false;
    any |= upper ? IsUpperLetter(step.code_point) : IsLowerLetter(step.code_point);
  }
  return any;
}

struct Entry {
  std::string_view name;
  TestFunction function;
};
constexpr Entry kTests[] = {
    {"boolean", Kind<IsBoolean>},
    {"callable", Kind<IsCallable>},
    {"defined", Kind<IsDefined>},
    {"divisibleby", DivisibleBy},
    {"eq", Equals<true>},
    {"equalto", Equals<true>},
    {"==", Equals<true>},
    {"even", Parity<false>},
    {"false", Kind<IsFalse>},
    {"float", Kind<IsFloat>},
    {"ge", Order<0, 1>},
    {"greaterthan", Order<1, 1>},
    {"gt", Order<1, 1>},
    {"in", In},
    {"integer", Kind<IsInteger>},
    {"iterable", Kind<IsIterable>},
    {"le", Order<-1, 0>},
    {"lessthan", Order<-1, -1>},
    {"lower", AllCase<false>},
    {"lt", Order<-1, -1>},
    {"mapping", Kind<IsMapping>},
    {"ne", Equals<false>},
    {"!=", Equals<false>},
    {"none", Kind<IsNone>},
    {"number", Kind<IsNumber>},
    {"odd", Parity<true>},
    {"sequence", Kind<IsSequence>},
    {"string", Kind<IsString>},
    {"true", Kind<IsTrue>},
    {"undefined", Kind<IsUndefined>},
    {"upper", AllCase<true>},
    {">", Order<1, 1>},
    {">=", Order<0, 1>},
    {"<", Order<-1, -1>},
    {"<=", Order<-1, 0>},
};

TestFunction FindTest(std::string_view name) {
  for (const Entry& entry : kTests) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

}  // namespace

bool IsTest(std::string_view name) { return FindTest(name) != nullptr; }

Result<bool> RunTest(Evaluator& run, const Value& input, const Call& call) {
  const TestFunction test = FindTest(call.name);
  if (test != nullptr) return test(run, input, call);
  return run.Error(call.offset, fmt::format("the test {} is not known", Quoted(call.name)));
}

}  // namespace hga::chat
