// SPDX-License-Identifier: Apache-2.0
// Which tokens may come next: answers that must match a grammar.
#ifndef HGA_CONSTRAINT_H_
#define HGA_CONSTRAINT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga {

// The state of one answer. Not thread-safe.
class Constraint {
 public:
  virtual ~Constraint() = default;
  // Bit i (word i / 64, bit i % 64) says whether token i may come next; [ceil(vocab / 64)] words.
  // Valid until Accept. Stop tokens are not in it: they may come when MayEnd(). Never all zero
  // unless MayEnd().
  virtual std::span<const uint64_t> Allowed() = 0;
  virtual bool MayEnd() const = 0;
  // Reads a token that comes next. kInvalidArgument for one that is not allowed; the state is then
  // as before.
  virtual Status Accept(int32_t id) = 0;
};

// A tool a model may call.
struct ToolSpec {
  std::string name;
  std::string parameters;  // JSON schema as text; "": any object
};

// Compiled once per request, shared by its answers. Immutable, thread-safe; holds what it needs of
// the tokenizer. What exactly is understood: docs/structured-output.md.
class Grammar {
 public:
  // The bytes of every token, prepared once per tokenizer for all grammars. Special tokens and
  // ids without text are never allowed. kUnsupported where a byte has no token of its own.
  class Vocabulary;
  static Result<std::shared_ptr<const Vocabulary>> MakeVocabulary(const Tokenizer& tokenizer);

  // Any JSON object (`response_format` json_object).
  static Result<std::shared_ptr<const Grammar>> JsonObject(
      std::shared_ptr<const Vocabulary> vocabulary);
  // Answers are JSON texts that validate against `schema` (JSON text). Keywords that are not
  // understood and could forbid an answer are refused by name (kUnsupported) with their path;
  // kInvalidArgument for what is no schema, one that no value fulfils, or one beyond the limits of
  // depth, size and states.
  static Result<std::shared_ptr<const Grammar>> JsonSchema(
      std::shared_ptr<const Vocabulary> vocabulary, std::string_view schema);
  // Calls in the Hermes form: <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>. With
  // `required` the answer is one call (or several with `parallel`); else it is free text in which
  // whatever follows a <tool_call> is bound until </tool_call>; without `parallel` it ends there.
  // 1 to 128 tools with names of their own; errors as JsonSchema, naming the tool.
  static Result<std::shared_ptr<const Grammar>> ToolCalls(
      std::shared_ptr<const Vocabulary> vocabulary, std::span<const ToolSpec> tools, bool required,
      bool parallel);
  // Answers of one or the other; both of one vocabulary.
  static std::shared_ptr<const Grammar> Either(std::shared_ptr<const Grammar> a,
                                               std::shared_ptr<const Grammar> b);

  virtual ~Grammar() = default;
  virtual std::unique_ptr<Constraint> Start() const = 0;
};

}  // namespace hga

#endif  // HGA_CONSTRAINT_H_
