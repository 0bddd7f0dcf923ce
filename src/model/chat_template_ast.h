// SPDX-License-Identifier: Apache-2.0
// A parsed chat template: what the parser makes and the evaluator walks over.
#ifndef HGA_MODEL_CHAT_TEMPLATE_AST_H_
#define HGA_MODEL_CHAT_TEMPLATE_AST_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/chat_template_value.h"

namespace hga::chat {

enum class ExprKind {
  kConstant,
  kName,
  kList,
  kTuple,
  kDict,       // parts: key, value, key, value, ...
  kAttribute,  // parts: object; name
  kItem,       // parts: object, index
  kSlice,      // parts: object, start, stop, step; the last three may be null
  kCall,       // parts: function, arguments
  kFilter,     // parts: input (null for what a block wrote), arguments; name
  kTest,       // the same
  kNot,
  kNegate,
  kPlus,
  kAnd,
  kOr,
  kCondition,  // parts: value, condition, other value (may be null)
  kCompare,    // parts: n + 1 values; words: n operators
  kBinary,     // name: the operator
  kConcat,     // ~ of all parts
};

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  size_t offset = 0;  // into the source
  int height = 1;     // of the tree below
  std::string name;
  Value constant;
  std::vector<std::unique_ptr<Expr>> parts;
  std::vector<std::string> words;  // keywords of the last arguments; operators of a comparison
};
using ExprPtr = std::unique_ptr<Expr>;

enum class StatementKind {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kBreak,
  kContinue,
  kWith,  // a scope with `settings`; also of a `generation` block, which has none
  kFilterBlock,
};

struct Branch {
  ExprPtr condition;
  std::vector<std::unique_ptr<Statement>> body;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  size_t offset = 0;
  std::string name;   // of a macro
  Value text;         // kText
  ExprPtr target;     // kFor, kSet, kSetBlock: kName, kTuple of such, kAttribute of a kName
  ExprPtr value;      // printed, iterated over or set; the filters of a block, or null
  ExprPtr condition;  // of a loop's items, or null
  bool uses_loop = false;
  std::vector<Branch> branches;                       // kIf
  std::vector<std::pair<ExprPtr, ExprPtr>> settings;  // kWith
  std::vector<std::string> parameters;                // kMacro
  std::vector<ExprPtr> defaults;                      // of the last parameters
  std::vector<std::unique_ptr<Statement>> body;
  std::vector<std::unique_ptr<Statement>> otherwise;  // else
};
using StatementPtr = std::unique_ptr<Statement>;

struct Program {
  std::string source;  // with normal newlines
  std::vector<StatementPtr> body;
};

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_AST_H_
