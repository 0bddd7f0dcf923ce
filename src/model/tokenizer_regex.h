// SPDX-License-Identifier: Apache-2.0
// The split pattern of a tokenizer.json: Oniguruma syntax, run by PCRE2 with the same results.
#ifndef HGA_MODEL_TOKENIZER_REGEX_H_
#define HGA_MODEL_TOKENIZER_REGEX_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "hga/status.h"

namespace hga {

// Rewrites `pattern` from Oniguruma's (Ruby) syntax into PCRE2's. Only constructs that mean the
// same in both after rewriting are let through: literals, classes without nesting, \p{..} of
// general categories, \s \S \d \D, escapes of single characters, groups, look-around, |,
// quantifiers. The rest is kUnsupported and named, with its offset; so are shapes that can take
// exponential time (repeats inside repeats, many optional parts). `where` starts each message.
Result<std::string> TranslatePattern(std::string_view pattern, const std::string& where);

class SplitScratch;

// A compiled pattern; immutable, thread-safe.
class SplitPattern {
 public:
  // kDataLoss if the pattern does not compile, with PCRE2's reason and offset; kUnsupported as
  // TranslatePattern. `literal`: the pattern is plain text.
  static Result<std::unique_ptr<SplitPattern>> Compile(std::string_view pattern, bool literal,
                                                       const std::string& where);
  ~SplitPattern();
  SplitPattern(const SplitPattern&) = delete;
  SplitPattern& operator=(const SplitPattern&) = delete;

 private:
  friend class SplitScratch;
  struct Code;
  explicit SplitPattern(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

struct TextSpan {
  size_t begin;
  size_t end;
};

// What one thread needs to run one pattern: made once per call of Encode, used for many pieces.
class SplitScratch {
 public:
  // `text_bytes`: longest text that will be searched; sets the limit on steps per match.
  SplitScratch(const SplitPattern& pattern, size_t text_bytes);
  ~SplitScratch();
  SplitScratch(SplitScratch&&) noexcept;
  SplitScratch& operator=(SplitScratch&&) = delete;

  // First match at or after `from` in `text` (valid UTF-8); nothing when there is none.
  // kResourceExhausted: the pattern needs more steps or memory than the limits, with the offset.
  Result<std::optional<TextSpan>> Find(std::string_view text, size_t from);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Cuts a text at the matches of a pattern; matches and the parts between them are pieces
// (behaviour "Isolated"). Ids depend on where an empty match is tried again, so that follows the
// Rust binding of Oniguruma: not directly behind the last match, one character further instead.
class PieceCutter {
 public:
  PieceCutter(SplitScratch* scratch, std::string_view text) : scratch_(scratch), text_(text) {}
  // The next piece, never empty; nothing at the end.
  Result<std::optional<std::string_view>> Next();

 private:
  SplitScratch* scratch_;
  std::string_view text_;
  size_t emitted_ = 0;  // pieces up to here have been given out
  size_t search_from_ = 0;
  std::optional<size_t> last_match_end_;
  std::optional<TextSpan> pending_;  // a match found behind a gap that was given out first
  bool searched_all_ = false;
};

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_REGEX_H_
