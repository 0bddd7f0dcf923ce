// SPDX-License-Identifier: Apache-2.0
// PCRE2 with JIT behind SplitPattern; limits on steps and memory for every match.
#include "model/tokenizer_regex.h"

#include <algorithm>
#include <limits>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "base/utf8.h"

namespace hga {
namespace {

constexpr uint32_t kStepsMin = 10'000'000;
constexpr uint32_t kStepsPerByte = 8;
constexpr uint32_t kDepthMax = 1'000'000;
constexpr uint32_t kHeapKibMax = 256 * 1024;
constexpr size_t kJitStackMin = 32 * 1024;
constexpr size_t kJitStackMax = 16 * 1024 * 1024;

std::string Reason(int code) {
  PCRE2_UCHAR buffer[256];
  const int length = pcre2_get_error_message(code, buffer, sizeof(buffer));
  if (length < 0) return fmt::format("PCRE2 error {}", code);
  return std::string(reinterpret_cast<const char*>(buffer), static_cast<size_t>(length));
}

PCRE2_SPTR Bytes(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};

using CompileContext = std::unique_ptr<pcre2_compile_context, Freed<pcre2_compile_context_free>>;

}  // namespace

struct SplitPattern::Code {
  std::unique_ptr<pcre2_code, Freed<pcre2_code_free>> code;
  std::string where;
};

SplitPattern::SplitPattern(std::unique_ptr<Code> code) : code_(std::move(code)) {}
SplitPattern::~SplitPattern() = default;

Result<std::unique_ptr<SplitPattern>> SplitPattern::Compile(std::string_view pattern, bool literal,
                                                            const std::string& where) {
  std::string source(pattern);
  if (literal && pattern.empty()) return Unsupported(where + ": an empty pattern");
  if (!literal) {
    HGA_ASSIGN_OR_RETURN(source, TranslatePattern(pattern, where));
  }
  CompileContext context(pcre2_compile_context_create(nullptr));
  if (context == nullptr) return ResourceExhausted(where + ": no memory for the pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 64);
  // Ruby's ^ and $ always match at line ends, hence MULTILINE.
  const uint32_t options = literal
                               ? PCRE2_UTF | PCRE2_LITERAL
                               : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  code->where = where;
  code->code.reset(
      pcre2_compile(Bytes(source), source.size(), options, &error, &offset, context.get()));
  if (code->code == nullptr) {
    return DataLoss(
        fmt::format("{}: the pattern does not compile: {} (offset {} of {} rewritten bytes)", where,
                    Reason(error), offset, source.size()));
  }
  // Where machine code can't be made (hardened systems) matching goes on without, only slower.
  (void)pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE);
  return std::unique_ptr<SplitPattern>(new SplitPattern(std::move(code)));
}

struct SplitScratch::State {
  const SplitPattern::Code* code;
  std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>> data;
  std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>> context;
  std::unique_ptr<pcre2_jit_stack, Freed<pcre2_jit_stack_free>> jit_stack;

  int Match(std::string_view text, size_t from) {
    return pcre2_match(code->code.get(), Bytes(text), text.size(), from, PCRE2_NO_UTF_CHECK,
                       data.get(), context.get());
  }
};

SplitScratch::SplitScratch(const SplitPattern& pattern, size_t text_bytes)
    : state_(std::make_unique<State>()) {
  state_->code = pattern.code_.get();
  state_->data.reset(pcre2_match_data_create(1, nullptr));
  state_->context.reset(pcre2_match_context_create(nullptr));
  if (state_->context == nullptr) return;
  // A run of one kind of character is matched, and given back, in steps in proportion to its
  // length.
  const uint64_t steps = kStepsMin + uint64_t{kStepsPerByte} * text_bytes;
  pcre2_set_match_limit(state_->context.get(),
                        static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
  pcre2_set_depth_limit(state_->context.get(), kDepthMax);
  pcre2_set_heap_limit(state_->context.get(), kHeapKibMax);
}

SplitScratch::~SplitScratch() = default;
SplitScratch::SplitScratch(SplitScratch&&) noexcept = default;

Result<std::optional<TextSpan>> SplitScratch::Find(std::string_view text, size_t from) {
  const std::string& where = state_->code->where;
  if (state_->data == nullptr || state_->context == nullptr) {
    return ResourceExhausted(where + ": no memory to run the pattern");
  }
  int found = state_->Match(text, from);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT && state_->jit_stack == nullptr) {
    state_->jit_stack.reset(pcre2_jit_stack_create(kJitStackMin, kJitStackMax, nullptr));
    if (state_->jit_stack != nullptr) {
      pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->jit_stack.get());
      found = state_->Match(text, from);
    }
  }
  if (found == PCRE2_ERROR_NOMATCH) return std::optional<TextSpan>();
  if (found < 0) {
    return ResourceExhausted(fmt::format("{}: the pattern gave up at byte {} of a text of {}: {}",
                                         where, from, text.size(), Reason(found)));
  }
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(state_->data.get());
  return std::optional<TextSpan>(TextSpan{span[0], span[1]});
}

Result<std::optional<std::string_view>> PieceCutter::Next() {
  const auto piece = [&](size_t begin, size_t end) {
    emitted_ = end;
    return std::optional<std::string_view>(text_.substr(begin, end - begin));
  };
  while (true) {
    if (pending_) {
      const TextSpan match = *pending_;
      pending_.reset();
      if (match.begin != match.end) return piece(match.begin, match.end);
    }
    if (searched_all_ || search_from_ > text_.size()) break;
    HGA_ASSIGN_OR_RETURN(const std::optional<TextSpan> match, scratch_->Find(text_, search_from_));
    if (!match) break;
    if (match->begin == match->end && last_match_end_ == match->end) {
      const std::string_view rest = text_.substr(search_from_);
      search_from_ += rest.empty() ? 1 : FirstUtf8(rest).bytes;
      continue;
    }
    search_from_ = match->end;
    last_match_end_ = match->end;
    pending_ = match;
    if (emitted_ < match->begin) return piece(emitted_, match->begin);
  }
  searched_all_ = true;
  if (emitted_ < text_.size()) return piece(emitted_, text_.size());
  return std::optional<std::string_view>();
}

}  // namespace hga
