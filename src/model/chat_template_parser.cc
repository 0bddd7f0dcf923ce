// SPDX-License-Identifier: Apache-2.0
// Statements: one function per tag; what Jinja has and chat templates don't use is refused by name.
#include "model/chat_template_parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/utf8.h"

namespace hga::chat {
namespace {

std::string Shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kPrintEnd:
      return "}}";
    case TokenKind::kBlockEnd:
      return "%}";
    case TokenKind::kString:
      return fmt::format("the text {}", Quoted(token.text));
    default:
      return Quoted(token.text);
  }
}

}  // namespace

Status Parser::Advance() {
  if (next_) {
    current_ = *std::move(next_);
    next_.reset();
    return OkStatus();
  }
  HGA_ASSIGN_OR_RETURN(current_, lexer_.Next());
  return OkStatus();
}

Result<const Token*> Parser::Look() {
  if (!next_) {
    HGA_ASSIGN_OR_RETURN(next_, lexer_.Next());
  }
  return &*next_;
}

Status Parser::Error(size_t offset, std::string_view what) const {
  return InvalidArgument(PlacedMessage(source_, offset, what));
}

Status Parser::Unexpected(std::string_view wanted) const {
  return Error(current_.offset, fmt::format("{} where {} should be", Shown(current_), wanted));
}

Status Parser::Enter(const Nested&) const {
  if (level_ <= kNestingMax) return OkStatus();
  return ResourceExhausted(PlacedMessage(source_, current_.offset,
                                         fmt::format("nested more than {} deep", kNestingMax)));
}

Result<bool> Parser::Skip(std::string_view op) {
  if (!current_.IsOperator(op)) return false;
  HGA_RETURN_IF_ERROR(Advance());
  return true;
}

Status Parser::Expect(std::string_view op) {
  if (!current_.IsOperator(op)) return Unexpected(fmt::format("'{}'", op));
  return Advance();
}

Status Parser::ExpectBlockEnd() {
  if (current_.kind != TokenKind::kBlockEnd) return Unexpected("%}");
  return Advance();
}

Result<std::string> Parser::ExpectName(std::string_view what) {
  if (current_.kind != TokenKind::kName) return Unexpected(what);
  std::string name = current_.text;
  HGA_RETURN_IF_ERROR(Advance());
  return name;
}

Result<StatementPtr> Parser::NewStatement(StatementKind kind) {
  if (++nodes_ > kNodesMax) {
    return ResourceExhausted(PlacedMessage(
        source_, current_.offset, fmt::format("the template has more than {} parts", kNodesMax)));
  }
  auto statement = std::make_unique<Statement>();
  statement->kind = kind;
  statement->offset = current_.offset;
  return statement;
}

Result<Parser::Body> Parser::Run() {
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(Body body, ParseBody({}));
  return body;
}

Result<Parser::Body> Parser::ParseBody(std::initializer_list<std::string_view> ends) {
  const Nested level(this);
  HGA_RETURN_IF_ERROR(Enter(level));
  const size_t begin = current_.offset;
  Body body;
  while (current_.kind != TokenKind::kEnd) {
    if (current_.kind == TokenKind::kData) {
      HGA_ASSIGN_OR_RETURN(StatementPtr text, NewStatement(StatementKind::kText));
      text->text = TextValue(std::move(current_.text), true);
      body.push_back(std::move(text));
      HGA_RETURN_IF_ERROR(Advance());
    } else if (current_.kind == TokenKind::kPrintBegin) {
      HGA_ASSIGN_OR_RETURN(StatementPtr print, ParsePrint());
      body.push_back(std::move(print));
    } else {
      HGA_RETURN_IF_ERROR(Advance());  // "{%"
      if (current_.kind != TokenKind::kName) return Unexpected("the name of a tag");
      if (std::find(ends.begin(), ends.end(), current_.text) != ends.end()) return body;
      HGA_ASSIGN_OR_RETURN(StatementPtr statement, ParseStatement());
      body.push_back(std::move(statement));
    }
  }
  if (ends.size() == 0) return body;
  return Error(begin, fmt::format("there is no '{}' to what is open here", *(ends.end() - 1)));
}

Result<Parser::Body> Parser::ParseBlock(std::string_view end) {
  HGA_RETURN_IF_ERROR(ExpectBlockEnd());
  HGA_ASSIGN_OR_RETURN(Body body, ParseBody({end}));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_RETURN_IF_ERROR(ExpectBlockEnd());
  return body;
}

Result<StatementPtr> Parser::ParsePrint() {
  HGA_ASSIGN_OR_RETURN(StatementPtr print, NewStatement(StatementKind::kPrint));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(print->value, ParseTuple(true, false));
  if (current_.kind != TokenKind::kPrintEnd) return Unexpected("}}");
  HGA_RETURN_IF_ERROR(Advance());
  return print;
}

Result<StatementPtr> Parser::ParseStatement() {
  const std::string& name = current_.text;
  if (name == "if") return ParseIf();
  if (name == "for") return ParseFor();
  if (name == "set") return ParseSet();
  if (name == "macro") return ParseMacro();
  if (name == "break") return ParseLoopControl(StatementKind::kBreak);
  if (name == "continue") return ParseLoopControl(StatementKind::kContinue);
  if (name == "with" || name == "generation") return ParseWith();
  if (name == "filter") return ParseFilterBlock();
  return Error(current_.offset, fmt::format("the tag {} is not known here", Quoted(name)));
}

Result<StatementPtr> Parser::ParseIf() {
  HGA_ASSIGN_OR_RETURN(StatementPtr statement, NewStatement(StatementKind::kIf));
  while (!current_.IsName("endif")) {
    const bool last = current_.IsName("else");
    HGA_RETURN_IF_ERROR(Advance());
    Branch branch;
    if (!last) {
      HGA_ASSIGN_OR_RETURN(branch.condition, ParseTuple(false, false));
    }
    HGA_RETURN_IF_ERROR(ExpectBlockEnd());
    HGA_ASSIGN_OR_RETURN(branch.body,
                         last ? ParseBody({"endif"}) : ParseBody({"elif", "else", "endif"}));
    if (last) {
      statement->otherwise = std::move(branch.body);
    } else {
      statement->branches.push_back(std::move(branch));
    }
  }
  HGA_RETURN_IF_ERROR(Advance());
  HGA_RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

Result<StatementPtr> Parser::ParseFor() {
  HGA_ASSIGN_OR_RETURN(StatementPtr loop, NewStatement(StatementKind::kFor));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(loop->target, ParseTarget(false));
  if (!current_.IsName("in")) return Unexpected("'in'");
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(loop->value, ParseTuple(false, false));
  if (current_.IsName("if")) {
    HGA_RETURN_IF_ERROR(Advance());
    HGA_ASSIGN_OR_RETURN(loop->condition, ParseCondition());
  }
  if (current_.IsName("recursive")) return Error(current_.offset, "loops can't be recursive here");
  HGA_RETURN_IF_ERROR(ExpectBlockEnd());
  loops_.push_back(loop.get());
  Result<Body> body = ParseBody({"else", "endfor"});
  loops_.pop_back();
  HGA_ASSIGN_OR_RETURN(loop->body, std::move(body));
  const bool otherwise = current_.IsName("else");
  HGA_RETURN_IF_ERROR(Advance());
  if (otherwise) {
    HGA_ASSIGN_OR_RETURN(loop->otherwise, ParseBlock("endfor"));
  } else {
    HGA_RETURN_IF_ERROR(ExpectBlockEnd());
  }
  return loop;
}

Result<StatementPtr> Parser::ParseSet() {
  HGA_ASSIGN_OR_RETURN(StatementPtr set, NewStatement(StatementKind::kSet));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(set->target, ParseTarget(true));
  HGA_ASSIGN_OR_RETURN(const bool value, Skip("="));
  if (value) {
    HGA_ASSIGN_OR_RETURN(set->value, ParseTuple(true, false));
    HGA_RETURN_IF_ERROR(ExpectBlockEnd());
    return set;
  }
  set->kind = StatementKind::kSetBlock;
  if (current_.IsOperator("|")) {
    HGA_ASSIGN_OR_RETURN(set->value, ParseFilters(nullptr, false));
  }
  HGA_ASSIGN_OR_RETURN(set->body, ParseBlock("endset"));
  return set;
}

Result<StatementPtr> Parser::ParseMacro() {
  HGA_ASSIGN_OR_RETURN(StatementPtr macro, NewStatement(StatementKind::kMacro));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(macro->name, ExpectName("the macro's name"));
  HGA_RETURN_IF_ERROR(Expect("("));
  while (!current_.IsOperator(")")) {
    if (!macro->parameters.empty()) HGA_RETURN_IF_ERROR(Expect(","));
    const size_t offset = current_.offset;
    HGA_ASSIGN_OR_RETURN(std::string name, ExpectName("a parameter"));
    macro->parameters.push_back(std::move(name));
    HGA_ASSIGN_OR_RETURN(const bool given, Skip("="));
    if (given) {
      HGA_ASSIGN_OR_RETURN(ExprPtr value, ParseCondition());
      macro->defaults.push_back(std::move(value));
    } else if (!macro->defaults.empty()) {
      return Error(offset, "a parameter without a default behind one that has it");
    }
  }
  HGA_RETURN_IF_ERROR(Expect(")"));
  const size_t outside = std::exchange(loops_outside_, loops_.size());
  Result<Body> body = ParseBlock("endmacro");
  loops_outside_ = outside;
  HGA_ASSIGN_OR_RETURN(macro->body, std::move(body));
  return macro;
}

Result<StatementPtr> Parser::ParseWith() {
  HGA_ASSIGN_OR_RETURN(StatementPtr with, NewStatement(StatementKind::kWith));
  const bool generation = current_.IsName("generation");
  HGA_RETURN_IF_ERROR(Advance());
  while (!generation && current_.kind != TokenKind::kBlockEnd) {
    if (!with->settings.empty()) HGA_RETURN_IF_ERROR(Expect(","));
    HGA_ASSIGN_OR_RETURN(ExprPtr target, ParseTargetName());
    HGA_RETURN_IF_ERROR(Expect("="));
    HGA_ASSIGN_OR_RETURN(ExprPtr value, ParseCondition());
    with->settings.emplace_back(std::move(target), std::move(value));
  }
  // The body of a generation block is a macro of its own to Jinja: no break leaves it.
  const size_t outside = std::exchange(loops_outside_, generation ? loops_.size() : loops_outside_);
  Result<Body> body = ParseBlock(generation ? "endgeneration" : "endwith");
  loops_outside_ = outside;
  HGA_ASSIGN_OR_RETURN(with->body, std::move(body));
  return with;
}

Result<StatementPtr> Parser::ParseFilterBlock() {
  HGA_ASSIGN_OR_RETURN(StatementPtr block, NewStatement(StatementKind::kFilterBlock));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_ASSIGN_OR_RETURN(block->value, ParseFilters(nullptr, true));
  HGA_ASSIGN_OR_RETURN(block->body, ParseBlock("endfilter"));
  return block;
}

Result<StatementPtr> Parser::ParseLoopControl(StatementKind kind) {
  if (loops_.size() == loops_outside_) {
    return Error(current_.offset, fmt::format("'{}' outside of a loop", current_.text));
  }
  HGA_ASSIGN_OR_RETURN(StatementPtr statement, NewStatement(kind));
  HGA_RETURN_IF_ERROR(Advance());
  HGA_RETURN_IF_ERROR(ExpectBlockEnd());
  return statement;
}

Result<ExprPtr> Parser::ParseTargetName() {
  const size_t offset = current_.offset;
  HGA_ASSIGN_OR_RETURN(std::string name, ExpectName("the name of a variable"));
  for (const char* constant : {"true", "false", "none", "True", "False", "None"}) {
    if (name == constant) return Error(offset, fmt::format("can't assign to '{}'", name));
  }
  return Node(ExprKind::kName, offset, std::move(name));
}

// A name, several in a row or in brackets; with `attribute` also a field of a namespace.
Result<ExprPtr> Parser::ParseTarget(bool attribute) {
  const Nested level(this);
  HGA_RETURN_IF_ERROR(Enter(level));
  const size_t offset = current_.offset;
  std::vector<ExprPtr> parts;
  bool tuple = false;
  do {
    if (current_.IsName("in") || current_.IsOperator(")") || current_.IsOperator("=")) break;
    ExprPtr part;
    HGA_ASSIGN_OR_RETURN(const bool brackets, Skip("("));
    if (brackets) {
      HGA_ASSIGN_OR_RETURN(part, ParseTarget(false));
      HGA_RETURN_IF_ERROR(Expect(")"));
    } else {
      HGA_ASSIGN_OR_RETURN(part, ParseTargetName());
    }
    HGA_ASSIGN_OR_RETURN(const bool dot,
                         attribute&& parts.empty() && !brackets ? Skip(".") : false);
    if (dot) {
      HGA_ASSIGN_OR_RETURN(std::string name, ExpectName("the name of a field"));
      return Node(ExprKind::kAttribute, offset, std::move(name), std::move(part));
    }
    parts.push_back(std::move(part));
    tuple = current_.IsOperator(",") || parts.size() > 1;
    HGA_ASSIGN_OR_RETURN(const bool more, Skip(","));
    if (!more) break;
  } while (true);
  if (parts.empty()) return Unexpected("the name of a variable");
  if (!tuple) return std::move(parts[0]);
  HGA_ASSIGN_OR_RETURN(ExprPtr all, NewExpr(ExprKind::kTuple, offset));
  all->parts = std::move(parts);
  return Done(std::move(all));
}

Result<std::unique_ptr<const Program>> ParseTemplate(std::string_view source) {
  if (source.size() > kSourceBytesMax) {
    return ResourceExhausted(fmt::format("the chat template has {} bytes, at most {} are allowed",
                                         source.size(), kSourceBytesMax));
  }
  if (const auto bad = FindInvalidUtf8(source)) {
    return InvalidArgument(fmt::format("the chat template is not UTF-8: byte 0x{:02X} at offset {}",
                                       static_cast<unsigned char>(source[*bad]), *bad));
  }
  auto program = std::make_unique<Program>();
  program->source = NormalizeNewlines(source);
  Parser parser(program->source);
  HGA_ASSIGN_OR_RETURN(program->body, parser.Run());
  return std::unique_ptr<const Program>(std::move(program));
}

}  // namespace hga::chat
