// SPDX-License-Identifier: Apache-2.0
// Runs a parsed chat template within limits of depth, steps, text and time.
#ifndef HGA_MODEL_CHAT_TEMPLATE_EVAL_H_
#define HGA_MODEL_CHAT_TEMPLATE_EVAL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "model/chat_template_ast.h"
#include "model/chat_template_value.h"

namespace hga::chat {

struct Limits {
  size_t steps = 1'000'000;               // nodes run, and work on long values
  size_t text_bytes = size_t{16} << 20;   // of the output and of any text made on the way
  size_t live_bytes = size_t{128} << 20;  // of all texts made and still in use
  double seconds = 1;                     // of this thread's processor time
  int depth = 400;                        // nodes inside of each other, through macros
};

struct Scope {
  Scope* parent = nullptr;
  std::map<std::string, Value, std::less<>> variables;
};

// The arguments of a function, filter, test or method.
struct Call {
  size_t offset = 0;
  std::string_view name;
  std::vector<Value> arguments;
  std::vector<std::pair<std::string, Value>> named;
};

// One rendering. Errors are kInvalidArgument with line and column, kResourceExhausted at a limit.
class Evaluator {
 public:
  Evaluator(const Program& program, const Limits& limits);

  // `variables` and, behind them, the functions that every template has.
  Result<TrackedText> Run(std::map<std::string, Value, std::less<>> variables);

  // What filters, tests and methods need.
  const Limits& limits() const { return limits_; }
  Status Error(size_t offset, std::string_view what) const;
  Status Exhausted(size_t offset, std::string_view what) const;
  Status Charge(size_t offset, size_t steps);
  Status ChargeBytes(size_t offset, size_t bytes) { return Charge(offset, bytes / 1024 + 1); }
  Status CheckSize(size_t offset, size_t bytes) const;  // of a text to be made
  Result<Value> MakeText(size_t offset, TrackedText text);
  Result<Value> MakeList(size_t offset, std::vector<Value> items, ListKind kind = ListKind::kList);
  Result<Value> MakeDict(size_t offset, DictValue dict);
  // str(value); undefined is "".
  Result<Value::Text> ToText(size_t offset, const Value& value);
  // What a loop over `value` meets; nothing for undefined.
  Result<std::vector<Value>> Items(size_t offset, const Value& value);
  Result<bool> Equal(size_t offset, const Value& a, const Value& b);
  Result<int> Compare(size_t offset, const Value& a, const Value& b);  // -1, 0, 1
  Result<bool> Contains(size_t offset, const Value& all, const Value& one);
  Result<Value> Attribute(size_t offset, const Value& object, const std::string& name);
  Result<Value> Item(size_t offset, const Value& object, const Value& key);
  // Values by name of parameter, null for those that are not given. At least `needed` must be.
  Result<std::vector<const Value*>> Bind(const Call& call,
                                         std::initializer_list<std::string_view> names,
                                         size_t needed = 0);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class Deeper;

  // Statements.
  Result<Flow> RunBody(const std::vector<StatementPtr>& body, Scope* scope);
  Result<Flow> RunStatement(const Statement& statement, Scope* scope);
  Result<Flow> RunIf(const Statement& statement, Scope* scope);
  Result<Flow> RunFor(const Statement& statement, Scope* scope);
  Result<Flow> RunWith(const Statement& statement, Scope* scope);
  // The items that pass a loop's condition.
  Result<std::vector<Value>> Filtered(const Statement& loop, std::vector<Value> items,
                                      Scope* scope);
  Result<bool> Passes(const Statement& loop, Scope* scope);
  Result<TrackedText> Capture(const std::vector<StatementPtr>& body, Scope* scope);
  Status RunCaptured(const Statement& statement, Scope* scope);
  Status Print(size_t offset, const TrackedText& text);
  Status Assign(const Expr& target, Value value, Scope* scope);
  Result<Value> CallMacro(const CallableValue& macro, const Call& call);

  // Expressions.
  Result<Value> Eval(const Expr& expr, Scope* scope);
  Result<Value> EvalKind(const Expr& expr, Scope* scope);
  Result<Value> EvalName(const Expr& expr, Scope* scope);
  Result<Value> EvalDict(const Expr& expr, Scope* scope);
  Result<Value> EvalCondition(const Expr& expr, Scope* scope);
  Result<Value> EvalCompare(const Expr& expr, Scope* scope);
  Result<Value> EvalConcat(const Expr& expr, Scope* scope);
  Result<Value> EvalBinary(const Expr& expr, Scope* scope);
  Result<Value> EvalSign(const Expr& expr, Scope* scope);
  Result<Value> EvalSlice(const Expr& expr, Scope* scope);
  Result<Value> EvalCall(const Expr& expr, Scope* scope);
  Result<Value> EvalFilter(const Expr& expr, const Value* input, Scope* scope);
  Result<Value> EvalTest(const Expr& expr, Scope* scope);
  Result<std::vector<Value>> EvalParts(const Expr& expr, size_t first, Scope* scope);
  Result<Call> EvalArguments(const Expr& expr, std::string_view name, Scope* scope);
  Result<Value> Add(const Expr& expr, const Value& a, const Value& b);
  Result<Value> Multiply(const Expr& expr, const Value& a, const Value& b);
  Result<Value> Repeat(const Expr& expr, const Value& value, int64_t times);
  Result<Value> Arithmetic(const Expr& expr, const Value& a, const Value& b);
  Result<bool> CompareOne(const Expr& expr, const std::string& op, const Value& a, const Value& b);
  Result<Value> SliceText(size_t offset, const TrackedText& text, const Value* bounds);
  Status AppendRepr(size_t offset, const Value& value, std::string* out);

  struct Meter {
    size_t live = 0;
  };

  const Program& program_;
  Limits limits_;
  std::shared_ptr<Meter> meter_;
  size_t steps_ = 0;
  size_t next_look_ = 0;  // at the clock
  double start_ = 0;
  int depth_ = 0;
  TrackedText* out_ = nullptr;
};

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_EVAL_H_
