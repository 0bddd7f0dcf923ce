// SPDX-License-Identifier: Apache-2.0
// From the prompt options to token ids.
#ifndef HGA_APPS_CLI_RUN_PROMPT_H_
#define HGA_APPS_CLI_RUN_PROMPT_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "apps/common/utf8.h"
#include "hga/engine.h"
#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga::cli {

inline constexpr int64_t kMaxPromptBytes = int64_t{1} << 30;

struct PromptFlags {
  std::string prompt;              // "-" is stdin
  std::vector<std::string> files;  // "-" is stdin
  std::string system;
  std::string tokens_file;
  bool raw = false;
  bool special = false;

  bool empty() const { return prompt.empty() && files.empty() && tokens_file.empty(); }
};

struct Prompt {
  std::vector<int32_t> ids;
  std::set<int32_t> turn_end;  // ends an answer beside the model's own end-of-text tokens
};

void AddPromptOptions(CLI::App& verb, PromptFlags* flags);

// kInvalidArgument for contradicting flags and for an empty prompt.
Status CheckPrompt(const PromptFlags& flags);
// Reads files and stdin, applies the template. Errors name the file and, for bytes that are not
// UTF-8, the offset.
Result<Prompt> MakePrompt(const PromptFlags& flags, const std::string& directory,
                          const Tokenizer& tokenizer);
// Decimal ids separated by blanks, commas or brackets.
Result<std::vector<int32_t>> ParseIds(std::string_view text, const std::string& name, int vocab);
using apps::FirstInvalidUtf8;
// kInvalidArgument names `name` and the offset.
Status CheckUtf8(std::string_view text, const std::string& name);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_RUN_PROMPT_H_
