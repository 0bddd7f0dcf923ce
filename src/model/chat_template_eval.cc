// SPDX-License-Identifier: Apache-2.0
// Statements, limits and names. Loops and macros open scopes, conditions don't, as in Jinja.
#include "model/chat_template_eval.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_lexer.h"

namespace hga::chat {
namespace {

// Processor time, so that a busy machine refuses nobody.
double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

class Evaluator::Deeper {
 public:
  explicit Deeper(Evaluator* run) : run_(run) { ++run_->depth_; }
  ~Deeper() { --run_->depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
  bool TooDeep() const { return run_->depth_ > run_->limits_.depth; }

 private:
  Evaluator* run_;
};

Evaluator::Evaluator(const Program& program, const Limits& limits)
    : program_(program), limits_(limits), meter_(std::make_shared<Meter>()) {}

Result<TrackedText> Evaluator::Run(std::map<std::string, Value, std::less<>> variables) {
  start_ = ThreadSeconds();
  Scope given;
  given.variables = std::move(variables);
  for (const std::string& name : FunctionNames()) {
    CallableValue function;
    function.name = name;
    given.variables.emplace(name,
                            Value(Value::Callable(std::make_shared<CallableValue>(function))));
  }
  Scope root{&given, {}};
  return Capture(program_.body, &root);
}

Status Evaluator::Error(size_t offset, std::string_view what) const {
  return InvalidArgument(PlacedMessage(program_.source, offset, what));
}

Status Evaluator::Exhausted(size_t offset, std::string_view what) const {
  return ResourceExhausted(PlacedMessage(program_.source, offset, what));
}

Status Evaluator::Charge(size_t offset, size_t steps) {
  constexpr size_t kLookEvery = 1024;
  steps_ += steps;
  if (steps_ > limits_.steps) {
    return Exhausted(offset, fmt::format("more than {} steps", limits_.steps));
  }
  if (steps_ < next_look_) return OkStatus();
  next_look_ = steps_ + kLookEvery;
  if (ThreadSeconds() - start_ <= limits_.seconds) return OkStatus();
  return Exhausted(offset, fmt::format("more than {} s of time", limits_.seconds));
}

Status Evaluator::CheckSize(size_t offset, size_t bytes) const {
  if (bytes <= limits_.text_bytes) return OkStatus();
  return Exhausted(offset, fmt::format("a text of more than {} bytes", limits_.text_bytes));
}

Result<Value> Evaluator::MakeText(size_t offset, TrackedText text) {
  HGA_RETURN_IF_ERROR(CheckSize(offset, text.size()));
  HGA_RETURN_IF_ERROR(ChargeBytes(offset, text.cost()));
  const size_t cost = text.cost();
  if (meter_->live + cost > limits_.live_bytes) {
    return Exhausted(offset, fmt::format("more than {} bytes of texts", limits_.live_bytes));
  }
  meter_->live += cost;
  return Value(
      Value::Text(new TrackedText(std::move(text)), [meter = meter_, cost](const TrackedText* t) {
        meter->live -= cost;
        delete t;
      }));
}

Result<Value> Evaluator::MakeList(size_t offset, std::vector<Value> items, ListKind kind) {
  HGA_RETURN_IF_ERROR(Charge(offset, items.size() / 4 + 1));
  for (const Value& item : items) {
    if (!item.IsData()) return Error(offset, item.TypeName() + " can't be in a list");
  }
  Value list = ListOf(std::move(items), kind);
  if (list.depth() > Value::kDepth) return Exhausted(offset, "lists nested too deep");
  return list;
}

Result<Value> Evaluator::MakeDict(size_t offset, DictValue dict) {
  HGA_RETURN_IF_ERROR(Charge(offset, dict.items.size() / 4 + 1));
  for (const auto& [key, value] : dict.items) {
    if (!value.IsData()) return Error(offset, value.TypeName() + " can't be in a dict");
  }
  if (dict.depth > Value::kDepth) return Exhausted(offset, "dicts nested too deep");
  return DictOf(std::move(dict));
}

Result<Evaluator::Flow> Evaluator::RunBody(const std::vector<StatementPtr>& body, Scope* scope) {
  for (const StatementPtr& statement : body) {
    HGA_ASSIGN_OR_RETURN(const Flow flow, RunStatement(*statement, scope));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::RunStatement(const Statement& statement, Scope* scope) {
  const Deeper deeper(this);
  if (deeper.TooDeep()) return Exhausted(statement.offset, "nested too deep");
  HGA_RETURN_IF_ERROR(Charge(statement.offset, 1));
  switch (statement.kind) {
    case StatementKind::kText:
      HGA_RETURN_IF_ERROR(Print(statement.offset, *statement.text.text()));
      return Flow::kNext;
    case StatementKind::kPrint: {
      HGA_ASSIGN_OR_RETURN(const Value value, Eval(*statement.value, scope));
      HGA_ASSIGN_OR_RETURN(const Value::Text text, ToText(statement.offset, value));
      HGA_RETURN_IF_ERROR(Print(statement.offset, *text));
      return Flow::kNext;
    }
    case StatementKind::kIf:
      return RunIf(statement, scope);
    case StatementKind::kFor:
      return RunFor(statement, scope);
    case StatementKind::kWith:
      return RunWith(statement, scope);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
    case StatementKind::kSet: {
      HGA_ASSIGN_OR_RETURN(Value value, Eval(*statement.value, scope));
      HGA_RETURN_IF_ERROR(Assign(*statement.target, std::move(value), scope));
      return Flow::kNext;
    }
    case StatementKind::kSetBlock:
    case StatementKind::kFilterBlock:
      HGA_RETURN_IF_ERROR(RunCaptured(statement, scope));
      return Flow::kNext;
    case StatementKind::kMacro: {
      CallableValue macro;
      macro.kind = CallableValue::kMacro;
      macro.name = statement.name;
      macro.macro = &statement;
      macro.scope = scope;
      scope->variables[statement.name] =
          Value(Value::Callable(std::make_shared<CallableValue>(std::move(macro))));
      return Flow::kNext;
    }
  }
  return Flow::kNext;
}

Result<Evaluator::Flow> Evaluator::RunIf(const Statement& statement, Scope* scope) {
  for (const Branch& branch : statement.branches) {
    HGA_ASSIGN_OR_RETURN(const Value value, Eval(*branch.condition, scope));
    if (value.Truth()) return RunBody(branch.body, scope);
  }
  return RunBody(statement.otherwise, scope);
}

Result<bool> Evaluator::Passes(const Statement& loop, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value value, Eval(*loop.condition, scope));
  return value.Truth();
}

Result<std::vector<Value>> Evaluator::Filtered(const Statement& loop, std::vector<Value> items,
                                               Scope* scope) {
  std::vector<Value> passed;
  for (Value& item : items) {
    Scope inner{scope, {}};
    HGA_RETURN_IF_ERROR(Assign(*loop.target, item, &inner));
    HGA_ASSIGN_OR_RETURN(const bool passes, Passes(loop, &inner));
    if (passes) passed.push_back(std::move(item));
  }
  return passed;
}

Result<Evaluator::Flow> Evaluator::RunFor(const Statement& statement, Scope* scope) {
  HGA_ASSIGN_OR_RETURN(const Value iterable, Eval(*statement.value, scope));
  HGA_ASSIGN_OR_RETURN(std::vector<Value> items, Items(statement.offset, iterable));
  // Who asks for `loop` wants to know what comes, so all items are looked at before the first;
  // else the condition is asked as late as Jinja does it.
  const bool late = statement.condition && !statement.uses_loop;
  if (statement.condition && !late) {
    HGA_ASSIGN_OR_RETURN(items, Filtered(statement, std::move(items), scope));
  }
  const auto loop = std::make_shared<LoopValue>();
  loop->items = std::move(items);
  bool ended = false;  // some run of the body came to its end
  for (; loop->index < loop->items.size(); ++loop->index) {
    HGA_RETURN_IF_ERROR(Charge(statement.offset, 1));
    Scope inner{scope, {}};
    HGA_RETURN_IF_ERROR(Assign(*statement.target, loop->items[loop->index], &inner));
    if (late) {
      HGA_ASSIGN_OR_RETURN(const bool passes, Passes(statement, &inner));
      if (!passes) continue;
    }
    if (statement.uses_loop) inner.variables["loop"] = Value(Value::Loop(loop));
    HGA_ASSIGN_OR_RETURN(const Flow flow, RunBody(statement.body, &inner));
    if (flow == Flow::kBreak) break;
    ended |= flow == Flow::kNext;
  }
  if (ended) return Flow::kNext;
  Scope inner{scope, {}};
  return RunBody(statement.otherwise, &inner);
}

Result<Evaluator::Flow> Evaluator::RunWith(const Statement& statement, Scope* scope) {
  Scope inner{scope, {}};
  for (const auto& [target, value] : statement.settings) {
    HGA_ASSIGN_OR_RETURN(inner.variables[target->name], Eval(*value, scope));
  }
  return RunBody(statement.body, &inner);
}

Result<TrackedText> Evaluator::Capture(const std::vector<StatementPtr>& body, Scope* scope) {
  TrackedText text;
  TrackedText* const outer = std::exchange(out_, &text);
  const Result<Flow> flow = RunBody(body, scope);
  out_ = outer;
  if (!flow.ok()) return flow.status();
  return text;
}

// A block whose text is set or filtered.
Status Evaluator::RunCaptured(const Statement& statement, Scope* scope) {
  Scope inner{scope, {}};
  // Inside of the block the name it sets is not what the caller gave, only what the template did.
  if (statement.target && statement.target->kind == ExprKind::kName) {
    const std::string& name = statement.target->name;
    const Scope* s = scope;
    while (s->parent != nullptr && !s->variables.contains(name)) s = s->parent;
    if (s->parent == nullptr) inner.variables[name] = Value(Undefined{name});
  }
  HGA_ASSIGN_OR_RETURN(TrackedText text, Capture(statement.body, &inner));
  HGA_ASSIGN_OR_RETURN(Value value, MakeText(statement.offset, std::move(text)));
  if (statement.value) {
    HGA_ASSIGN_OR_RETURN(value, EvalFilter(*statement.value, &value, scope));
  }
  if (statement.kind == StatementKind::kSetBlock) {
    return Assign(*statement.target, std::move(value), scope);
  }
  HGA_ASSIGN_OR_RETURN(const Value::Text shown, ToText(statement.offset, value));
  return Print(statement.offset, *shown);
}

Status Evaluator::Print(size_t offset, const TrackedText& text) {
  HGA_RETURN_IF_ERROR(CheckSize(offset, out_->size() + text.size()));
  HGA_RETURN_IF_ERROR(ChargeBytes(offset, text.cost()));
  out_->Append(text);
  return OkStatus();
}

Status Evaluator::Assign(const Expr& target, Value value, Scope* scope) {
  if (target.kind == ExprKind::kName) {
    scope->variables[target.name] = std::move(value);
    return OkStatus();
  }
  if (target.kind == ExprKind::kAttribute) {
    HGA_ASSIGN_OR_RETURN(const Value object, Eval(*target.parts[0], scope));
    const auto* space = object.As<Value::Namespace>();
    if (space == nullptr) {
      return Error(target.offset,
                   "a field can be set of a namespace only, not of " + object.TypeName());
    }
    if (!value.IsData()) return Error(target.offset, value.TypeName() + " can't be kept");
    (*space)->fields[target.name] = std::move(value);
    return OkStatus();
  }
  HGA_ASSIGN_OR_RETURN(std::vector<Value> items, Items(target.offset, value));
  if (items.size() != target.parts.size()) {
    return Error(target.offset,
                 fmt::format("{} values for {} variables", items.size(), target.parts.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    HGA_RETURN_IF_ERROR(Assign(*target.parts[i], std::move(items[i]), scope));
  }
  return OkStatus();
}

Result<Value> Evaluator::CallMacro(const CallableValue& callable, const Call& call) {
  const Statement& macro = *callable.macro;
  if (call.arguments.size() > macro.parameters.size()) {
    return Error(call.offset, fmt::format("{} takes {} arguments, not {}", macro.name,
                                          macro.parameters.size(), call.arguments.size()));
  }
  Scope inner{callable.scope, {}};
  for (const auto& [name, value] : call.named) {
    if (std::find(macro.parameters.begin(), macro.parameters.end(), name) ==
        macro.parameters.end()) {
      return Error(call.offset, fmt::format("{} has no parameter {}", macro.name, Quoted(name)));
    }
    inner.variables[name] = value;
  }
  const size_t plain = macro.parameters.size() - macro.defaults.size();
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const std::string& name = macro.parameters[i];
    const bool named = inner.variables.contains(name);
    if (i < call.arguments.size()) {
      if (named) return Error(call.offset, fmt::format("'{}' is given twice", name));
      inner.variables[name] = call.arguments[i];
    } else if (!named && i >= plain) {
      HGA_ASSIGN_OR_RETURN(inner.variables[name], Eval(*macro.defaults[i - plain], &inner));
    } else if (!named) {
      inner.variables[name] = Value(Undefined{name});
    }
  }
  HGA_ASSIGN_OR_RETURN(TrackedText text, Capture(macro.body, &inner));
  return MakeText(call.offset, std::move(text));
}

Result<Value> Evaluator::Eval(const Expr& expr, Scope* scope) {
  const Deeper deeper(this);
  if (deeper.TooDeep()) return Exhausted(expr.offset, "nested too deep");
  HGA_RETURN_IF_ERROR(Charge(expr.offset, 1));
  return EvalKind(expr, scope);
}

Result<std::vector<const Value*>> Evaluator::Bind(const Call& call,
                                                  std::initializer_list<std::string_view> names,
                                                  size_t needed) {
  std::vector<const Value*> values(names.size());
  if (call.arguments.size() > names.size()) {
    return Error(call.offset, fmt::format("{} takes at most {} arguments, not {}", call.name,
                                          names.size(), call.arguments.size()));
  }
  for (size_t i = 0; i < call.arguments.size(); ++i) values[i] = &call.arguments[i];
  for (const auto& [name, value] : call.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      return Error(call.offset, fmt::format("{} has no parameter {}", call.name, Quoted(name)));
    }
    const Value*& place = values[static_cast<size_t>(found - names.begin())];
    if (place != nullptr) return Error(call.offset, fmt::format("'{}' is given twice", name));
    place = &value;
  }
  for (size_t i = 0; i < needed; ++i) {
    if (values[i] != nullptr) continue;
    return Error(call.offset, fmt::format("{} needs '{}'", call.name, *(names.begin() + i)));
  }
  return values;
}

}  // namespace hga::chat
