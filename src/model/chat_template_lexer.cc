// SPDX-License-Identifier: Apache-2.0
// The rules of Jinja's own lexer, including the odd ones: "-" strips all white space on its side,
// "+" keeps a line's beginning, a print tag never loses the newline behind it.
#include "model/chat_template_lexer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/utf8.h"
#include "model/chat_template_value.h"

namespace hga::chat {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

char SignAt(std::string_view source, size_t at) {
  return at < source.size() && (source[at] == '-' || source[at] == '+') ? source[at] : '\0';
}

// Digits with single underscores between them; where they end.
size_t Digits(std::string_view source, size_t at) {
  size_t end = at;
  while (end < source.size() &&
         (IsDigit(source[end]) || (source[end] == '_' && end > at && source[end - 1] != '_' &&
                                   end + 1 < source.size() && IsDigit(source[end + 1])))) {
    ++end;
  }
  return end;
}

std::string WithoutUnderscores(std::string_view text) {
  std::string out(text);
  std::erase(out, '_');
  return out;
}

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The escape behind a backslash at `*at`, as Python's "unicode-escape" reads it. Null: it is wrong.
bool Unescape(std::string_view body, size_t* at, std::string* out) {
  constexpr std::string_view kLetters = "\\'\"abfnrtv";
  constexpr std::string_view kMeant = "\\'\"\a\b\f\n\r\t\v";
  const char c = body[(*at)++];
  if (const size_t known = kLetters.find(c); known != std::string_view::npos) {
    *out += kMeant[known];
    return true;
  }
  if (c == '\n') return true;
  char32_t code = 0;
  if (c >= '0' && c <= '7') {
    code = static_cast<char32_t>(c - '0');
    for (int i = 0; i < 2 && *at < body.size() && body[*at] >= '0' && body[*at] <= '7'; ++i) {
      code = code * 8 + static_cast<char32_t>(body[(*at)++] - '0');
    }
    AppendUtf8(code, out);
    return true;
  }
  const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (digits == 0) {
    if (c == 'N') return false;
    *out += '\\';
    --*at;
    return true;
  }
  for (int i = 0; i < digits; ++i) {
    const int digit = *at < body.size() ? HexDigit(body[*at]) : -1;
    if (digit < 0) return false;
    ++*at;
    code = code << 4 | static_cast<char32_t>(digit);
  }
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
  AppendUtf8(code, out);
  return true;
}

}  // namespace

std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::string PlacedMessage(std::string_view source, size_t offset, std::string_view what) {
  const std::string_view before = source.substr(0, std::min(offset, source.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  const auto column = std::count_if(before.begin() + static_cast<std::ptrdiff_t>(start),
                                    before.end(), [](char c) { return (c & 0xC0) != 0x80; }) +
                      1;
  return fmt::format("chat template, line {}, column {}: {}", line, column, what);
}

Status Lexer::Error(size_t offset, std::string_view what) const {
  return InvalidArgument(PlacedMessage(source_, offset, what));
}

size_t Lexer::SkipSpace(size_t at) const {
  while (at < source_.size()) {
    const Utf8Step step = FirstUtf8(source_.substr(at));
    if (!IsPythonSpace(step.code_point)) break;
    at += step.bytes;
  }
  return at;
}

void Lexer::GoTo(size_t at) {
  line_starting_ = at > 0 && source_[at - 1] == '\n';
  at_ = at;
}

size_t Lexer::StripBefore(size_t begin, size_t end, char sign, bool print) const {
  if (sign == '-') {
    // Backwards over white space, one character at a time.
    while (end > begin) {
      size_t start = end - 1;
      while (start > begin && (static_cast<unsigned char>(source_[start]) & 0xC0) == 0x80) --start;
      if (!IsPythonSpace(FirstUtf8(source_.substr(start)).code_point)) break;
      end = start;
    }
    return end;
  }
  if (sign == '+' || print) return end;
  size_t line = begin;
  bool at_line = line_starting_;
  if (end > begin) {
    const size_t newline = source_.substr(begin, end - begin).rfind('\n');
    if (newline != std::string_view::npos) {
      line = begin + newline + 1;
      at_line = true;
    }
  }
  return at_line && SkipSpace(line) >= end ? line : end;
}

Status Lexer::Comment() {
  const size_t body = at_ + 2 + (SignAt(source_, at_ + 2) != '\0' ? 1 : 0);
  const size_t end = source_.find("#}", body);
  if (end == std::string_view::npos) return Error(at_, "the comment has no end");
  const char sign = end > body ? SignAt(source_, end - 1) : '\0';
  size_t next = end + 2;
  if (sign == '-') next = SkipSpace(next);
  if (sign == '\0' && next < source_.size() && source_[next] == '\n') ++next;
  GoTo(next);
  return OkStatus();
}

Result<std::optional<std::string>> Lexer::Raw() {
  size_t at = SkipSpace(at_ + 2 + (SignAt(source_, at_ + 2) != '\0' ? 1 : 0));
  if (!source_.substr(at).starts_with("raw")) return std::optional<std::string>();
  at = SkipSpace(at + 3);
  const bool strips = source_.substr(at).starts_with("-%}");
  if (!strips && !source_.substr(at).starts_with("%}")) return std::optional<std::string>();
  const size_t begin = at_;
  const size_t body = strips ? SkipSpace(at + 3) : at + 2;
  GoTo(body);
  for (size_t tag = source_.find("{%", body); tag != std::string_view::npos;
       tag = source_.find("{%", tag + 2)) {
    const char sign = SignAt(source_, tag + 2);
    at = SkipSpace(tag + 2 + (sign != '\0' ? 1 : 0));
    if (!source_.substr(at).starts_with("endraw")) continue;
    at = SkipSpace(at + 6);
    const char closing = SignAt(source_, at);
    const size_t close = at + (closing != '\0' ? 1 : 0);
    if (!source_.substr(close).starts_with("%}")) continue;
    const size_t end = StripBefore(body, tag, sign, false);
    size_t next = close + 2;
    if (closing == '-') next = SkipSpace(next);
    if (closing == '\0' && next < source_.size() && source_[next] == '\n') ++next;
    GoTo(next);
    return std::optional<std::string>(source_.substr(body, end - body));
  }
  return Error(begin, "the raw section has no end");
}

Result<Token> Lexer::Next() {
  if (held_) {
    Token token = *std::move(held_);
    held_.reset();
    return token;
  }
  return mode_ == Mode::kData ? Data() : Inside();
}

Result<Token> Lexer::Data() {
  while (at_ < source_.size()) {
    const size_t begin = at_;
    size_t tag = source_.find('{', at_);
    while (tag != std::string_view::npos &&
           (tag + 1 == source_.size() ||
            std::string_view("{%#").find(source_[tag + 1]) == std::string_view::npos)) {
      tag = source_.find('{', tag + 1);
    }
    if (tag == std::string_view::npos) {
      at_ = source_.size();
      return Token{TokenKind::kData, begin, std::string(source_.substr(begin))};
    }
    const char kind = source_[tag + 1];
    const char sign = SignAt(source_, tag + 2);
    const size_t end = StripBefore(begin, tag, sign, kind == '{');
    Token data{TokenKind::kData, begin, std::string(source_.substr(begin, end - begin))};
    at_ = tag;
    if (kind == '#') {
      HGA_RETURN_IF_ERROR(Comment());
    } else {
      std::optional<std::string> raw;
      if (kind == '%') {
        HGA_ASSIGN_OR_RETURN(raw, Raw());
      }
      if (raw) {
        if (!raw->empty()) held_ = Token{TokenKind::kData, tag, *std::move(raw)};
      } else {
        GoTo(tag + 2 + (sign != '\0' ? 1 : 0));
        mode_ = kind == '%' ? Mode::kBlock : Mode::kPrint;
        held_ = Token{kind == '%' ? TokenKind::kBlockBegin : TokenKind::kPrintBegin, tag, ""};
      }
    }
    if (!data.text.empty()) return data;
    if (held_) return Next();
  }
  return Token{TokenKind::kEnd, source_.size(), ""};
}

std::optional<Token> Lexer::TagEnd() {
  if (!open_.empty()) return std::nullopt;
  const bool block = mode_ == Mode::kBlock;
  const std::string_view end = block ? "%}" : "}}";
  char sign = SignAt(source_, at_);
  if (sign == '+' && !block) sign = '\0';
  const size_t close = at_ + (sign != '\0' ? 1 : 0);
  if (!source_.substr(close).starts_with(end)) return std::nullopt;
  Token token{block ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, at_, ""};
  size_t next = close + 2;
  if (sign == '-') next = SkipSpace(next);
  if (sign == '\0' && block && next < source_.size() && source_[next] == '\n') ++next;
  GoTo(next);
  mode_ = Mode::kData;
  return token;
}

Result<Token> Lexer::Inside() {
  if (auto end = TagEnd()) return *std::move(end);
  at_ = SkipSpace(at_);
  if (at_ >= source_.size()) return Token{TokenKind::kEnd, at_, ""};
  if (auto end = TagEnd()) return *std::move(end);
  const char c = source_[at_];
  if (IsDigit(c)) return Number();
  if (c == '\'' || c == '"') return String();
  if (!IsNameStart(c)) return Operator();
  const size_t begin = at_;
  while (at_ < source_.size() && (IsNameStart(source_[at_]) || IsDigit(source_[at_]))) ++at_;
  return Token{TokenKind::kName, begin, std::string(source_.substr(begin, at_ - begin))};
}

Result<Token> Lexer::Number() {
  const size_t begin = at_;
  size_t end = Digits(source_, begin);
  bool real = false;
  if (begin == 0 || source_[begin - 1] != '.') {  // `a.0.1` are two subscripts
    if (end + 1 < source_.size() && source_[end] == '.' && IsDigit(source_[end + 1])) {
      end = Digits(source_, end + 1);
      real = true;
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t power = end + 1;
      if (SignAt(source_, power) != '\0') ++power;
      if (power < source_.size() && IsDigit(source_[power])) {
        end = Digits(source_, power);
        real = true;
      }
    }
  }
  const std::string text = WithoutUnderscores(source_.substr(begin, end - begin));
  const bool zeros = text.find_first_not_of('0') == std::string::npos;
  if ((!real && text[0] == '0' && !zeros) ||
      (end < source_.size() && IsNameStart(source_[end]) &&
       std::string_view("boxBOX").find(source_[end]) != std::string_view::npos)) {
    return Error(begin, "a number that is not decimal");
  }
  at_ = end;
  return Token{real ? TokenKind::kFloat : TokenKind::kInteger, begin, text};
}

Result<Token> Lexer::String() {
  const size_t begin = at_;
  size_t end = begin + 1;
  while (end < source_.size() && source_[end] != source_[begin]) {
    end += source_[end] == '\\' ? 2 : 1;
  }
  if (end >= source_.size()) return Error(begin, "the text in quotes has no end");
  const std::string_view body = source_.substr(begin + 1, end - begin - 1);
  Token token{TokenKind::kString, begin, ""};
  for (size_t at = 0; at < body.size();) {
    const char c = body[at++];
    if (c != '\\') {
      token.text += c;
    } else if (const size_t escape = at; !Unescape(body, &at, &token.text)) {
      return Error(begin + escape, "an escape that is not understood");
    }
  }
  at_ = end + 1;
  return token;
}

Result<Token> Lexer::Operator() {
  constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
  for (const std::string_view text : kOperators) {
    if (!source_.substr(at_).starts_with(text)) continue;
    if (text == "(" || text == "[" || text == "{") open_.push_back(text[0]);
    if (text == ")" || text == "]" || text == "}") {
      const char wanted = text == ")" ? '(' : text == "]" ? '[' : '{';
      if (open_.empty() || open_.back() != wanted) {
        return Error(at_, fmt::format("'{}' closes nothing", text));
      }
      open_.pop_back();
    }
    Token token{TokenKind::kOperator, at_, std::string(text)};
    at_ += text.size();
    return token;
  }
  const size_t bytes = FirstUtf8(source_.substr(at_)).bytes;
  return Error(at_, fmt::format("unexpected {}", Quoted(source_.substr(at_, bytes))));
}

}  // namespace hga::chat
