// SPDX-License-Identifier: Apache-2.0
// Expressions of chat templates, with the precedence that Jinja has (a filter binds looser
// than a sign and tighter than all else, `a ~ b + c` is `(a ~ b) + c`).
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>

#include "base/file.h"
#include "model/chat_template_builtins.h"
#include "model/chat_template_parser.h"

namespace hga::chat {

Result<ExprPtr> Parser::NewExpr(ExprKind kind, size_t offset) {
  if (++nodes_ > kNodesMax) {
    return ResourceExhausted(PlacedMessage(
        source_, offset, fmt::format("the template has more than {} parts", kNodesMax)));
  }
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->offset = offset;
  return expr;
}

Result<ExprPtr> Parser::Done(ExprPtr expr) {
  for (const ExprPtr& part : expr->parts) {
    if (part) expr->height = std::max(expr->height, part->height + 1);
  }
  if (expr->height <= kHeightMax) return expr;
  return ResourceExhausted(PlacedMessage(
      source_, expr->offset, fmt::format("an expression is more than {} deep", kHeightMax)));
}

bool Parser::AtTupleEnd() const {
  return current_.kind == TokenKind::kPrintEnd || current_.kind == TokenKind::kBlockEnd ||
         current_.IsOperator(")");
}

// One expression, or several with commas between them. With `brackets` there may be none.
Result<ExprPtr> Parser::ParseTuple(bool condition, bool brackets) {
  const size_t offset = current_.offset;
  std::vector<ExprPtr> parts;
  bool tuple = false;
  while (true) {
    if (!parts.empty()) HGA_RETURN_IF_ERROR(Expect(","));
    if (AtTupleEnd()) break;
    HGA_ASSIGN_OR_RETURN(ExprPtr part, condition ? ParseCondition() : ParseOr());
    parts.push_back(std::move(part));
    if (!current_.IsOperator(",")) break;
    tuple = true;
  }
  if (!tuple && !parts.empty()) return std::move(parts[0]);
  if (!tuple && !brackets) return Unexpected("an expression");
  HGA_ASSIGN_OR_RETURN(ExprPtr expr, NewExpr(ExprKind::kTuple, offset));
  expr->parts = std::move(parts);
  return Done(std::move(expr));
}

Result<ExprPtr> Parser::ParseCondition() {
  const Nested level(this);
  HGA_RETURN_IF_ERROR(Enter(level));
  HGA_ASSIGN_OR_RETURN(ExprPtr value, ParseOr());
  while (current_.IsName("if")) {
    const size_t offset = current_.offset;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    ExprPtr other;
    if (current_.IsName("else")) {
      HGA_RETURN_IF_ERROR(Advance());
      HGA_ASSIGN_OR_RETURN(other, ParseCondition());
    }
    HGA_ASSIGN_OR_RETURN(value, Node(ExprKind::kCondition, offset, "", std::move(value),
                                     std::move(condition), std::move(other)));
  }
  return value;
}

Result<ExprPtr> Parser::ParseOr() {
  HGA_ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (current_.IsName("or")) {
    const size_t offset = current_.offset;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr right, ParseAnd());
    HGA_ASSIGN_OR_RETURN(left, Node(ExprKind::kOr, offset, "", std::move(left), std::move(right)));
  }
  return left;
}

Result<ExprPtr> Parser::ParseAnd() {
  HGA_ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (current_.IsName("and")) {
    const size_t offset = current_.offset;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr right, ParseNot());
    HGA_ASSIGN_OR_RETURN(left, Node(ExprKind::kAnd, offset, "", std::move(left), std::move(right)));
  }
  return left;
}

Result<ExprPtr> Parser::ParseNot() {
  if (!current_.IsName("not")) return ParseCompare();
  const Nested level(this);
  HGA_RETURN_IF_ERROR(Enter(level));
  const size_t offset = current_.offset;
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(ExprPtr operand, ParseNot());
  return Node(ExprKind::kNot, offset, "", std::move(operand));
}

// Passes the operator of a comparison, if one is next.
Result<std::optional<std::string>> Parser::CompareOperator() {
  std::string op;
  if (current_.kind == TokenKind::kOperator) {
    for (const char* known : {"==", "!=", "<", "<=", ">", ">="}) {
      if (current_.text == known) op = known;
    }
  } else if (current_.IsName("in")) {
    op = "in";
  } else if (current_.IsName("not")) {
    HGA_ASSIGN_OR_RETURN(const Token* next, Look());
    if (!next->IsName("in")) return std::optional<std::string>();
    HGA_RETURN_IF_ERROR(Advance());
    op = "not in";
  }
  if (op.empty()) return std::optional<std::string>();
  HGA_RETURN_IF_ERROR(Advance());
  return std::optional<std::string>(op);
}

Result<ExprPtr> Parser::ParseCompare() {
  const size_t offset = current_.offset;
  HGA_ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  ExprPtr all;
  while (true) {
    HGA_ASSIGN_OR_RETURN(std::optional<std::string> op, CompareOperator());
    if (!op) break;
    if (!all) {
      HGA_ASSIGN_OR_RETURN(all, NewExpr(ExprKind::kCompare, offset));
      all->parts.push_back(std::move(first));
    }
    all->words.push_back(*std::move(op));
    HGA_ASSIGN_OR_RETURN(ExprPtr next, ParseSum());
    all->parts.push_back(std::move(next));
  }
  return all ? Done(std::move(all)) : Result<ExprPtr>(std::move(first));
}

Result<ExprPtr> Parser::ParseSum() {
  HGA_ASSIGN_OR_RETURN(ExprPtr left, ParseConcat());
  while (current_.IsOperator("+") || current_.IsOperator("-")) {
    const Token op = current_;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr right, ParseConcat());
    HGA_ASSIGN_OR_RETURN(
        left, Node(ExprKind::kBinary, op.offset, op.text, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExprPtr> Parser::ParseConcat() {
  const size_t offset = current_.offset;
  HGA_ASSIGN_OR_RETURN(ExprPtr first, ParseProduct());
  if (!current_.IsOperator("~")) return first;
  HGA_ASSIGN_OR_RETURN(ExprPtr all, NewExpr(ExprKind::kConcat, offset));
  all->parts.push_back(std::move(first));
  while (true) {
    HGA_ASSIGN_OR_RETURN(const bool more, Skip("~"));
    if (!more) return Done(std::move(all));
    HGA_ASSIGN_OR_RETURN(ExprPtr next, ParseProduct());
    all->parts.push_back(std::move(next));
  }
}

Result<ExprPtr> Parser::ParseProduct() {
  HGA_ASSIGN_OR_RETURN(ExprPtr left, ParsePower());
  while (current_.IsOperator("*") || current_.IsOperator("/") || current_.IsOperator("//") ||
         current_.IsOperator("%")) {
    const Token op = current_;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr right, ParsePower());
    HGA_ASSIGN_OR_RETURN(
        left, Node(ExprKind::kBinary, op.offset, op.text, std::move(left), std::move(right)));
  }
  return left;
}

Result<ExprPtr> Parser::ParsePower() {
  HGA_ASSIGN_OR_RETURN(ExprPtr left, ParseUnary(true));
  while (current_.IsOperator("**")) {
    const size_t offset = current_.offset;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr right, ParseUnary(true));
    HGA_ASSIGN_OR_RETURN(left,
                         Node(ExprKind::kBinary, offset, "**", std::move(left), std::move(right)));
  }
  return left;
}

Result<ExprPtr> Parser::ParseUnary(bool filters) {
  const Nested level(this);
  HGA_RETURN_IF_ERROR(Enter(level));
  const size_t offset = current_.offset;
  ExprPtr expr;
  if (current_.IsOperator("-") || current_.IsOperator("+")) {
    const ExprKind kind = current_.IsOperator("-") ? ExprKind::kNegate : ExprKind::kPlus;
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(ExprPtr operand, ParseUnary(false));
    HGA_ASSIGN_OR_RETURN(expr, Node(kind, offset, "", std::move(operand)));
  } else {
    HGA_ASSIGN_OR_RETURN(expr, ParsePrimary());
  }
  HGA_ASSIGN_OR_RETURN(expr, ParsePostfix(std::move(expr)));
  if (!filters) return expr;
  return ParseFilters(std::move(expr), false);
}

Result<ExprPtr> Parser::ParsePrimary() {
  switch (current_.kind) {
    case TokenKind::kName:
      return ParseNameOrConstant();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseNumber();
    case TokenKind::kString: {
      const size_t offset = current_.offset;
      std::string text;
      while (current_.kind == TokenKind::kString) {
        text += current_.text;
        HGA_RETURN_IF_ERROR(Advance());
      }
      HGA_ASSIGN_OR_RETURN(ExprPtr expr, NewExpr(ExprKind::kConstant, offset));
      expr->constant = TextValue(std::move(text), true);
      return expr;
    }
    default:
      break;
  }
  if (current_.IsOperator("[")) return ParseList();
  if (current_.IsOperator("{")) return ParseDict();
  if (!current_.IsOperator("(")) return Unexpected("an expression");
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(ExprPtr inside, ParseTuple(true, true));
  HGA_RETURN_IF_ERROR(Expect(")"));
  return inside;
}

Result<ExprPtr> Parser::ParseNameOrConstant() {
  const Token token = current_;
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(ExprPtr expr, NewExpr(ExprKind::kConstant, token.offset));
  if (token.text == "true" || token.text == "True") {
    expr->constant = Value(true, false);
  } else if (token.text == "false" || token.text == "False") {
    expr->constant = Value(false, false);
  } else if (token.text == "none" || token.text == "None") {
    expr->constant = Value(None{}, false);
  } else {
    expr->kind = ExprKind::kName;
    expr->name = token.text;
    if (token.text == "loop") {
      for (Statement* loop : loops_) loop->uses_loop = true;
    }
  }
  return expr;
}

Result<ExprPtr> Parser::ParseNumber() {
  const Token token = current_;
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(ExprPtr expr, NewExpr(ExprKind::kConstant, token.offset));
  const char* const end = token.text.data() + token.text.size();
  std::errc error;
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    error = std::from_chars(token.text.data(), end, value).ec;
    expr->constant = Value(value, false);
  } else {
    int64_t value = 0;
    error = std::from_chars(token.text.data(), end, value).ec;
    expr->constant = Value(value, false);
  }
  if (error != std::errc()) return Error(token.offset, "a number that is too large");
  return expr;
}

Result<ExprPtr> Parser::ParseList() {
  HGA_ASSIGN_OR_RETURN(ExprPtr list, NewExpr(ExprKind::kList, current_.offset));
  HGA_RETURN_IF_ERROR(Advance());
  while (!current_.IsOperator("]")) {
    if (!list->parts.empty()) HGA_RETURN_IF_ERROR(Expect(","));
    if (current_.IsOperator("]")) break;
    HGA_ASSIGN_OR_RETURN(ExprPtr item, ParseCondition());
    list->parts.push_back(std::move(item));
  }
  HGA_RETURN_IF_ERROR(Advance());
  return Done(std::move(list));
}

Result<ExprPtr> Parser::ParseDict() {
  HGA_ASSIGN_OR_RETURN(ExprPtr dict, NewExpr(ExprKind::kDict, current_.offset));
  HGA_RETURN_IF_ERROR(Advance());
  while (!current_.IsOperator("}")) {
    if (!dict->parts.empty()) HGA_RETURN_IF_ERROR(Expect(","));
    if (current_.IsOperator("}")) break;
    HGA_ASSIGN_OR_RETURN(ExprPtr key, ParseCondition());
    HGA_RETURN_IF_ERROR(Expect(":"));
    HGA_ASSIGN_OR_RETURN(ExprPtr value, ParseCondition());
    dict->parts.push_back(std::move(key));
    dict->parts.push_back(std::move(value));
  }
  HGA_RETURN_IF_ERROR(Advance());
  return Done(std::move(dict));
}

Result<ExprPtr> Parser::ParsePostfix(ExprPtr object) {
  while (true) {
    if (current_.IsOperator(".") || current_.IsOperator("[")) {
      HGA_ASSIGN_OR_RETURN(object, ParseSubscript(std::move(object)));
    } else if (current_.IsOperator("(")) {
      HGA_ASSIGN_OR_RETURN(ExprPtr call, NewExpr(ExprKind::kCall, current_.offset));
      call->parts.push_back(std::move(object));
      HGA_RETURN_IF_ERROR(ParseArguments(call.get()));
      HGA_ASSIGN_OR_RETURN(object, Done(std::move(call)));
    } else {
      return object;
    }
  }
}

Result<ExprPtr> Parser::ParseSubscript(ExprPtr object) {
  const size_t offset = current_.offset;
  HGA_ASSIGN_OR_RETURN(const bool dot, Skip("."));
  if (dot && current_.kind == TokenKind::kInteger) {
    HGA_ASSIGN_OR_RETURN(ExprPtr index, ParseNumber());
    return Node(ExprKind::kItem, offset, "", std::move(object), std::move(index));
  }
  if (dot) {
    HGA_ASSIGN_OR_RETURN(std::string name, ExpectName("a name or a number"));
    return Node(ExprKind::kAttribute, offset, std::move(name), std::move(object));
  }
  HGA_RETURN_IF_ERROR(Advance());  // "["
  HGA_ASSIGN_OR_RETURN(ExprPtr slice, NewExpr(ExprKind::kSlice, offset));
  slice->parts.push_back(std::move(object));
  size_t colons = 0;
  bool pending = false;  // an expression stands behind the last colon
  ExprPtr bounds[3];
  while (!current_.IsOperator("]")) {
    HGA_ASSIGN_OR_RETURN(const bool colon, Skip(":"));
    if (colon) {
      if (++colons > 2) return Error(offset, "a slice with more than three parts");
      pending = false;
      continue;
    }
    if (pending) return Unexpected("']'");
    HGA_ASSIGN_OR_RETURN(bounds[colons], ParseCondition());
    pending = true;
  }
  HGA_RETURN_IF_ERROR(Advance());
  if (colons == 0 && !bounds[0]) return Error(offset, "an empty subscript");
  if (colons == 0) slice->kind = ExprKind::kItem;
  for (size_t i = 0; i < (colons == 0 ? 1 : 3); ++i) slice->parts.push_back(std::move(bounds[i]));
  return Done(std::move(slice));
}

Status Parser::ParseArguments(Expr* call) {
  HGA_RETURN_IF_ERROR(Expect("("));
  for (bool first = true; !current_.IsOperator(")"); first = false) {
    if (!first) HGA_RETURN_IF_ERROR(Expect(","));
    if (current_.IsOperator(")")) break;
    if (current_.IsOperator("*") || current_.IsOperator("**")) {
      return Error(current_.offset, "arguments can't be unpacked here");
    }
    HGA_ASSIGN_OR_RETURN(const Token* next, Look());
    if (current_.kind == TokenKind::kName && next->IsOperator("=")) {
      if (std::find(call->words.begin(), call->words.end(), current_.text) != call->words.end()) {
        return Error(current_.offset, fmt::format("'{}' is given twice", current_.text));
      }
      call->words.push_back(current_.text);
      HGA_RETURN_IF_ERROR(Advance());
      HGA_RETURN_IF_ERROR(Advance());
    } else if (!call->words.empty()) {
      return Error(current_.offset, "an argument without a name behind one that has it");
    }
    HGA_ASSIGN_OR_RETURN(ExprPtr value, ParseCondition());
    call->parts.push_back(std::move(value));
  }
  return Advance();
}

// Filters, tests and calls behind an expression; of a block (`object` is null) filters only.
// `first_bar_read`: a filter's name comes first.
Result<ExprPtr> Parser::ParseFilters(ExprPtr object, bool first_bar_read) {
  const bool block = object == nullptr;
  if (first_bar_read) {
    HGA_ASSIGN_OR_RETURN(object, ParseFilter(std::move(object)));
  }
  while (true) {
    HGA_ASSIGN_OR_RETURN(const bool bar, Skip("|"));
    if (bar) {
      HGA_ASSIGN_OR_RETURN(object, ParseFilter(std::move(object)));
    } else if (!block && current_.IsName("is")) {
      HGA_ASSIGN_OR_RETURN(object, ParseTest(std::move(object)));
    } else if (!block && current_.IsOperator("(")) {
      HGA_ASSIGN_OR_RETURN(ExprPtr call, NewExpr(ExprKind::kCall, current_.offset));
      call->parts.push_back(std::move(object));
      HGA_RETURN_IF_ERROR(ParseArguments(call.get()));
      HGA_ASSIGN_OR_RETURN(object, Done(std::move(call)));
    } else {
      return object;
    }
  }
}

Result<ExprPtr> Parser::ParseFilter(ExprPtr input) {
  HGA_ASSIGN_OR_RETURN(ExprPtr filter, NewExpr(ExprKind::kFilter, current_.offset));
  HGA_ASSIGN_OR_RETURN(filter->name, ExpectName("the name of a filter"));
  if (!IsFilter(filter->name)) {
    return Error(filter->offset, fmt::format("the filter {} is not known", Quoted(filter->name)));
  }
  filter->parts.push_back(std::move(input));
  if (current_.IsOperator("(")) HGA_RETURN_IF_ERROR(ParseArguments(filter.get()));
  return Done(std::move(filter));
}

Result<ExprPtr> Parser::ParseTest(ExprPtr input) {
  HGA_RETURN_IF_ERROR(Advance());  // "is"
  const size_t offset = current_.offset;
  const bool negated = current_.IsName("not");
  if (negated) HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(ExprPtr test, NewExpr(ExprKind::kTest, current_.offset));
  HGA_ASSIGN_OR_RETURN(test->name, ExpectName("the name of a test"));
  if (!IsTest(test->name)) {
    return Error(test->offset, fmt::format("the test {} is not known", Quoted(test->name)));
  }
  test->parts.push_back(std::move(input));
  bool argument = current_.kind == TokenKind::kString || current_.kind == TokenKind::kInteger ||
                  current_.kind == TokenKind::kFloat || current_.IsOperator("[") ||
                  current_.IsOperator("{");
  if (current_.kind == TokenKind::kName) {
    constexpr std::string_view kEnds[] = {"else", "or", "and"};  // "if" is a name here, to Jinja
    argument = std::find(std::begin(kEnds), std::end(kEnds), current_.text) == std::end(kEnds);
    if (current_.IsName("is")) return Unexpected("the end of a test; tests can't be chained");
  }
  if (current_.IsOperator("(")) {
    HGA_RETURN_IF_ERROR(ParseArguments(test.get()));
  } else if (argument) {
    HGA_ASSIGN_OR_RETURN(ExprPtr value, ParsePrimary());
    HGA_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
    test->parts.push_back(std::move(value));
  }
  HGA_ASSIGN_OR_RETURN(test, Done(std::move(test)));
  if (!negated) return test;
  return Node(ExprKind::kNot, offset, "", std::move(test));
}

}  // namespace hga::chat
