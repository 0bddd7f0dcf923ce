// SPDX-License-Identifier: Apache-2.0
// The filters, tests, methods and functions that chat templates can name.
#ifndef HGA_MODEL_CHAT_TEMPLATE_BUILTINS_H_
#define HGA_MODEL_CHAT_TEMPLATE_BUILTINS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "model/chat_template_eval.h"
#include "model/chat_template_value.h"

namespace hga::chat {

using FilterFunction = Result<Value> (*)(Evaluator& run, const Value& input, const Call& call);

bool IsFilter(std::string_view name);
bool IsTest(std::string_view name);
// Names of functions, each a variable of every template.
std::vector<std::string> FunctionNames();

// kInvalidArgument for names that are not known.
Result<Value> RunFilter(Evaluator& run, const Value& input, const Call& call);
Result<bool> RunTest(Evaluator& run, const Value& input, const Call& call);
Result<Value> RunFunction(Evaluator& run, const Call& call);
Result<Value> RunMethod(Evaluator& run, const Value& self, const Call& call);

// What a method's name means for a type of Python.
enum class MethodKind { kNone, kKnown, kUnknown };  // no such method; can be called; can't be
MethodKind TextMethod(std::string_view name);
MethodKind DictMethod(std::string_view name);
MethodKind ListMethod(std::string_view name);

// Parts of the tables, by file.
FilterFunction FindTextFilter(std::string_view name);
FilterFunction FindListFilter(std::string_view name);
Result<Value> ToJson(Evaluator& run, const Value& input, const Call& call);

// str.strip() and its kin: white space, or the characters of `chars` if it is not null.
enum class Side { kBoth, kLeft, kRight };
TrackedText Strip(const TrackedText& text, const std::string* chars, Side side);
Result<Value> Replace(Evaluator& run, const TrackedText& text, const Call& call);
// Texts of `items` with `separator` between them.
Result<Value> Join(Evaluator& run, size_t offset, const std::vector<Value>& items,
                   const TrackedText& separator);

// Byte offset of each character and of the end.
std::vector<size_t> CharacterOffsets(std::string_view text);
size_t CountCharacters(std::string_view text);
// A whole number as an argument; kInvalidArgument with the parameter's name otherwise.
Result<int64_t> IntegerArgument(Evaluator& run, const Call& call, const Value& value,
                                std::string_view name);
Result<const TrackedText*> TextArgument(Evaluator& run, const Call& call, const Value& value,
                                        std::string_view name);

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_BUILTINS_H_
