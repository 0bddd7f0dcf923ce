// SPDX-License-Identifier: Apache-2.0
// A chat template's source as tokens, with white space taken away as Jinja does under trim_blocks
// and lstrip_blocks.
#ifndef HGA_MODEL_CHAT_TEMPLATE_LEXER_H_
#define HGA_MODEL_CHAT_TEMPLATE_LEXER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga::chat {

enum class TokenKind {
  kData,  // text outside of tags, never empty
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,   // escapes resolved
  kInteger,  // digits only
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  size_t offset = 0;  // into the source
  std::string text;

  bool Is(TokenKind wanted, std::string_view words) const {
    return kind == wanted && text == words;
  }
  bool IsOperator(std::string_view words) const { return Is(TokenKind::kOperator, words); }
  bool IsName(std::string_view words) const { return Is(TokenKind::kName, words); }
};

// One newline character everywhere, none at the very end.
std::string NormalizeNewlines(std::string_view source);
// "chat template, line L, column C: WHAT"; columns count characters.
std::string PlacedMessage(std::string_view source, size_t offset, std::string_view what);

class Lexer {
 public:
  // `source` is UTF-8 with normal newlines and outlives this.
  explicit Lexer(std::string_view source) : source_(source) {}
  Result<Token> Next();  // kInvalidArgument with the place

 private:
  enum class Mode { kData, kPrint, kBlock };

  Result<Token> Data();
  Result<Token> Inside();
  std::optional<Token> TagEnd();
  Result<Token> Number();
  Result<Token> String();
  Result<Token> Operator();
  Status Comment();
  // At "{%": passes a whole raw section and returns its text. Nothing when it is another tag.
  Result<std::optional<std::string>> Raw();
  size_t SkipSpace(size_t at) const;
  // Where the text [begin, end) ends when a tag with `sign` follows.
  size_t StripBefore(size_t begin, size_t end, char sign, bool print) const;
  void GoTo(size_t at);
  Status Error(size_t offset, std::string_view what) const;

  std::string_view source_;
  size_t at_ = 0;
  Mode mode_ = Mode::kData;
  bool line_starting_ = true;  // the last tag took a newline with it
  std::vector<char> open_;     // brackets inside the tag
  std::optional<Token> held_;  // behind the data that was returned
};

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_LEXER_H_
