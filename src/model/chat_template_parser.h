// SPDX-License-Identifier: Apache-2.0
// Tokens of a chat template to its tree, by Jinja's own grammar.
#ifndef HGA_MODEL_CHAT_TEMPLATE_PARSER_H_
#define HGA_MODEL_CHAT_TEMPLATE_PARSER_H_

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hga/status.h"
#include "model/chat_template_ast.h"
#include "model/chat_template_lexer.h"

namespace hga::chat {

inline constexpr size_t kSourceBytesMax = size_t{4} << 20;
inline constexpr int kNestingMax = 100;       // of brackets and blocks
inline constexpr int kHeightMax = 250;        // of a tree: chains of operators count as well
inline constexpr size_t kNodesMax = 100'000;  // of a template; real ones have some thousands

// `source` as in a file. kInvalidArgument with line and column for what is wrong or unknown
// (statements, filters and tests by name), kResourceExhausted beyond a limit above.
Result<std::unique_ptr<const Program>> ParseTemplate(std::string_view source);

class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source), lexer_(source) {}
  Result<std::vector<StatementPtr>> Run();

 private:
  using Body = std::vector<StatementPtr>;
  class Nested;  // counts a level while it lives

  Status Advance();
  Result<const Token*> Look();  // at the token behind the current one
  Status Error(size_t offset, std::string_view what) const;
  Status Unexpected(std::string_view wanted) const;
  Status Enter(const Nested& level) const;
  Result<bool> Skip(std::string_view op);  // passes an operator if it is next
  Status Expect(std::string_view op);
  Status ExpectBlockEnd();
  Result<std::string> ExpectName(std::string_view what);

  // Statements. `ends`: tags that end the body; the current token is then that name.
  Result<Body> ParseBody(std::initializer_list<std::string_view> ends);
  // The body of a tag up to `end`, which is passed.
  Result<Body> ParseBlock(std::string_view end);
  Result<StatementPtr> ParseStatement();
  Result<StatementPtr> ParsePrint();
  Result<StatementPtr> ParseIf();
  Result<StatementPtr> ParseFor();
  Result<StatementPtr> ParseSet();
  Result<StatementPtr> ParseMacro();
  Result<StatementPtr> ParseWith();
  Result<StatementPtr> ParseFilterBlock();
  Result<StatementPtr> ParseLoopControl(StatementKind kind);
  Result<ExprPtr> ParseTarget(bool attribute);
  Result<ExprPtr> ParseTargetName();
  Result<StatementPtr> NewStatement(StatementKind kind);

  // Expressions, from the loosest binding down.
  Result<ExprPtr> ParseTuple(bool condition, bool brackets);
  Result<ExprPtr> ParseCondition();
  Result<ExprPtr> ParseOr();
  Result<ExprPtr> ParseAnd();
  Result<ExprPtr> ParseNot();
  Result<ExprPtr> ParseCompare();
  Result<std::optional<std::string>> CompareOperator();
  Result<ExprPtr> ParseSum();
  Result<ExprPtr> ParseConcat();
  Result<ExprPtr> ParseProduct();
  Result<ExprPtr> ParsePower();
  Result<ExprPtr> ParseUnary(bool filters);
  Result<ExprPtr> ParsePrimary();
  Result<ExprPtr> ParseNameOrConstant();
  Result<ExprPtr> ParseNumber();
  Result<ExprPtr> ParseList();
  Result<ExprPtr> ParseDict();
  Result<ExprPtr> ParsePostfix(ExprPtr object);
  Result<ExprPtr> ParseSubscript(ExprPtr object);
  Result<ExprPtr> ParseFilters(ExprPtr object, bool first_bar_read);
  Result<ExprPtr> ParseFilter(ExprPtr input);
  Result<ExprPtr> ParseTest(ExprPtr input);
  // "(a, b, c=d)" into `call`, whose other parts are there already.
  Status ParseArguments(Expr* call);
  bool AtTupleEnd() const;

  Result<ExprPtr> NewExpr(ExprKind kind, size_t offset);
  // Counts the height of a finished node.
  Result<ExprPtr> Done(ExprPtr expr);
  template <typename... Parts>
  Result<ExprPtr> Node(ExprKind kind, size_t offset, std::string name, Parts... parts) {
    HGA_ASSIGN_OR_RETURN(ExprPtr expr, NewExpr(kind, offset));
    expr->name = std::move(name);
    (expr->parts.push_back(std::move(parts)), ...);
    return Done(std::move(expr));
  }

  std::string_view source_;
  Lexer lexer_;
  Token current_;
  std::optional<Token> next_;
  int level_ = 0;
  size_t nodes_ = 0;
  std::vector<Statement*> loops_;  // open around the current token, innermost last
  size_t loops_outside_ = 0;       // of these, outside of the innermost macro
};

class Parser::Nested {
 public:
  explicit Nested(Parser* parser) : parser_(parser) { ++parser_->level_; }
  ~Nested() { --parser_->level_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  Parser* parser_;
};

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_PARSER_H_
