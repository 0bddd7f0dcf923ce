// SPDX-License-Identifier: Apache-2.0
// What a chat template computes with: the few types of Python that it can see.
#ifndef HGA_MODEL_CHAT_TEMPLATE_VALUE_H_
#define HGA_MODEL_CHAT_TEMPLATE_VALUE_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "model/chat_template_text.h"
#include "model/tokenizer_spec.h"

namespace hga::chat {

struct Statement;
struct Scope;
class Value;

struct Undefined {
  std::string name;  // of what is not there, for messages
};
struct None {};
// A whole number beyond 64 bits: kept as it is spelled, nothing is computed with it.
struct BigNumber {
  std::shared_ptr<const std::string> digits;
};
struct ListValue;
struct DictValue;
struct NamespaceValue;
struct LoopValue;
struct CallableValue;

// Cheap to copy. Lists and dicts never change once made and hold data only (no namespaces, loops
// or functions), so values form no cycles, and they are at most kDepth deep.
class Value {
 public:
  using Text = std::shared_ptr<const TrackedText>;
  using List = std::shared_ptr<const ListValue>;
  using Dict = std::shared_ptr<const DictValue>;
  using Namespace = std::shared_ptr<NamespaceValue>;
  using Loop = std::shared_ptr<LoopValue>;
  using Callable = std::shared_ptr<const CallableValue>;
  static constexpr int kDepth = 200;

  Value() = default;
  template <typename T>
  requires(!std::same_as<T, Value>) explicit Value(T data, bool from_input = true)
      : from_input_(from_input), data_(std::move(data)) {}

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data_);
  }
  template <typename T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }
  const TrackedText* text() const { return Is<Text>() ? As<Text>()->get() : nullptr; }
  const ListValue* list() const { return Is<List>() ? As<List>()->get() : nullptr; }
  const DictValue* dict() const { return Is<Dict>() ? As<Dict>()->get() : nullptr; }
  // Of numbers, booleans and none: whether the input had a part in it. Texts know it themselves.
  bool from_input() const { return from_input_; }

  bool IsNumber() const { return Is<bool>() || Is<int64_t>() || Is<double>() || Is<BigNumber>(); }
  // Data may stand in lists, dicts and namespaces.
  bool IsData() const;
  int depth() const;             // 0 without parts
  std::string TypeName() const;  // as in messages
  bool Truth() const;

 private:
  bool from_input_ = true;
  std::variant<Undefined, None, bool, int64_t, double, BigNumber, Text, List, Dict, Namespace, Loop,
               Callable>
      data_;
};

// kView: what dict.items() gives; it is iterated over and counted. kRange has items by number as
// well. kLazy: what filters
// such as map give; it can be iterated over once and is always true.
enum class ListKind { kList, kTuple, kRange, kView, kLazy };

struct ListValue {
  std::vector<Value> items;
  ListKind kind = ListKind::kList;
  std::shared_ptr<bool> used;  // of kLazy
  int depth = 1;

  bool plain() const { return kind == ListKind::kList || kind == ListKind::kTuple; }
};

struct DictValue {
  std::vector<std::pair<Value, Value>> items;  // in the order of their first insertion
  std::unordered_map<std::string, size_t, StringHash, std::equal_to<>> index;
  int depth = 1;

  const Value* Find(std::string_view key) const;  // of a text
  const Value* Find(const Value& key) const;
  // False when `key` can't be one (a list, say). A later value replaces an earlier one.
  bool Set(Value key, Value value);
};

struct NamespaceValue {
  std::map<std::string, Value, std::less<>> fields;
};

// Of the innermost loop; alive as long as it runs.
struct LoopValue {
  std::vector<Value> items;
  size_t index = 0;
  int depth = 1;
};

struct CallableValue {
  enum Kind { kFunction, kMethod, kMacro } kind = kFunction;
  std::string name;
  Value self;                        // of a method
  const Statement* macro = nullptr;  // owned by the program
  Scope* scope = nullptr;            // where the macro was defined; outlives what can call it
};

Value TextValue(std::string bytes, bool trusted);
// Of data; counts the depth.
Value ListOf(std::vector<Value> items, ListKind kind = ListKind::kList);
Value DictOf(DictValue dict);

// Python's white space: what str.isspace() says of one character.
bool IsPythonSpace(char32_t code_point);
// Python's repr(float).
std::string FloatText(double value);

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_VALUE_H_
