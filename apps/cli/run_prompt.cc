// SPDX-License-Identifier: Apache-2.0
// Prompt parts are checked with their names here, because the tokenizer sees only their sum.
#include "run_prompt.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "common.h"
#include "run_template.h"

namespace hga::cli {
namespace {

constexpr const char* kPromptGroup = "Prompt";

// The parts of the prompt in order: files, then the prompt text.
Result<std::vector<std::string>> ReadParts(const PromptFlags& flags) {
  std::vector<std::string> parts;
  for (const std::string& file : flags.files) {
    HGA_ASSIGN_OR_RETURN(std::string text, ReadTextFile(file, kMaxPromptBytes));
    HGA_RETURN_IF_ERROR(CheckUtf8(text, file == "-" ? "stdin" : file));
    parts.push_back(std::move(text));
  }
  if (flags.prompt == "-") {
    HGA_ASSIGN_OR_RETURN(std::string text, ReadTextFile("-", kMaxPromptBytes));
    HGA_RETURN_IF_ERROR(CheckUtf8(text, "stdin"));
    parts.push_back(std::move(text));
  } else if (!flags.prompt.empty()) {
    HGA_RETURN_IF_ERROR(CheckUtf8(flags.prompt, "the prompt"));
    parts.push_back(flags.prompt);
  }
  return parts;
}

// As they are for --raw; else with a blank line between them, so that a question does not stick to
// the document before it.
std::string Join(const std::vector<std::string>& parts, bool raw) {
  std::string text;
  for (const std::string& part : parts) {
    if (!raw && !text.empty()) {
      while (text.size() < 2 || text.compare(text.size() - 2, 2, "\n\n") != 0) text += '\n';
    }
    text += part;
  }
  return text;
}

Result<Prompt> WithTemplate(const PromptFlags& flags, const std::string& text,
                            const std::string& directory, const Tokenizer& tokenizer) {
  HGA_ASSIGN_OR_RETURN(const PromptTemplate chat, PromptTemplate::Load(directory, tokenizer));
  HGA_RETURN_IF_ERROR(CheckUtf8(flags.system, "--system"));
  std::vector<Message> messages;
  if (!flags.system.empty()) messages.push_back({"system", flags.system});
  messages.push_back({"user", text});
  HGA_ASSIGN_OR_RETURN(const ChatText rendered, chat.Render(messages));
  Prompt prompt;
  HGA_ASSIGN_OR_RETURN(prompt.ids, EncodeChat(tokenizer, rendered));
  if (prompt.ids.empty()) return InvalidArgument("the chat template makes no prompt of this");
  prompt.turn_end = chat.turn_end();
  return prompt;
}

}  // namespace

void AddPromptOptions(CLI::App& verb, PromptFlags* flags) {
  verb.add_option("prompt,-p,--prompt", flags->prompt, "The question, after the files; - is stdin")
      ->type_name("TEXT")
      ->group(kPromptGroup);
  verb.add_option("-f,--file", flags->files, "Document before the question; repeatable; - is stdin")
      ->type_name("FILE")
      ->allow_extra_args(false)
      ->group(kPromptGroup);
  verb.add_option("--system", flags->system, "System message")
      ->type_name("TEXT")
      ->group(kPromptGroup);
  verb.add_flag("--raw", flags->raw, "No chat template: the model goes on with the text as it is")
      ->group(kPromptGroup);
  verb.add_flag("--special", flags->special,
                "With --raw: special tokens written in the text are that, not text")
      ->group(kPromptGroup);
  verb.add_option("--prompt-tokens", flags->tokens_file, "File of token ids instead of any text")
      ->type_name("FILE")
      ->group(kPromptGroup);
}

Status CheckPrompt(const PromptFlags& flags) {
  const bool text = !flags.prompt.empty() || !flags.files.empty();
  if (!flags.tokens_file.empty() && (text || !flags.system.empty() || flags.raw || flags.special)) {
    return InvalidArgument("--prompt-tokens stands alone: no prompt, --file, --system or --raw");
  }
  if (flags.tokens_file.empty() && !text) {
    return InvalidArgument("there is no prompt: give a text, --file FILE, or - for stdin");
  }
  if (flags.raw && !flags.system.empty()) {
    return InvalidArgument("--system needs the chat template, which --raw leaves out");
  }
  if (flags.special && !flags.raw) return InvalidArgument("--special needs --raw");
  const auto inputs = std::count(flags.files.begin(), flags.files.end(), "-") +
                      static_cast<int>(flags.prompt == "-");
  if (inputs > 1) {
    return InvalidArgument(fmt::format("stdin can be read once, but - is there {} times", inputs));
  }
  return OkStatus();
}

Result<Prompt> MakePrompt(const PromptFlags& flags, const std::string& directory,
                          const Tokenizer& tokenizer) {
  if (!flags.tokens_file.empty()) {
    HGA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(flags.tokens_file, kMaxPromptBytes));
    Prompt prompt;
    HGA_ASSIGN_OR_RETURN(prompt.ids, ParseIds(text, flags.tokens_file, tokenizer.vocab_size()));
    if (prompt.ids.empty()) return InvalidArgument(flags.tokens_file + ": no token ids");
    return prompt;
  }
  HGA_ASSIGN_OR_RETURN(const std::vector<std::string> parts, ReadParts(flags));
  const std::string text = Join(parts, flags.raw);
  if (text.empty()) return InvalidArgument("the prompt is empty");
  if (!flags.raw) return WithTemplate(flags, text, directory, tokenizer);
  Prompt prompt;
  HGA_ASSIGN_OR_RETURN(const auto ids, tokenizer.Encode(text, flags.special));
  if (ids.empty()) return InvalidArgument("the prompt has no tokens");
  const std::span<const int32_t> prefix = tokenizer.prefix_ids();
  prompt.ids.assign(prefix.begin(), prefix.end());
  prompt.ids.insert(prompt.ids.end(), ids.begin(), ids.end());
  return prompt;
}

Result<std::vector<int32_t>> ParseIds(std::string_view text, const std::string& name, int vocab) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<int32_t> ids;
  size_t at = text.find_first_not_of(kBetween);
  while (at != std::string_view::npos) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    int64_t id = 0;
    for (size_t i = at; i < end; ++i) {
      if (text[i] < '0' || text[i] > '9' || end - at > 10) {
        return InvalidArgument(fmt::format("{}: '{}' at byte {} is not a token id", name,
                                           text.substr(at, std::min<size_t>(end - at, 32)), at));
      }
      id = id * 10 + (text[i] - '0');
    }
    if (id >= vocab) {
      return InvalidArgument(fmt::format("{}: token {} at byte {} is outside the vocabulary of {}",
                                         name, id, at, vocab));
    }
    ids.push_back(static_cast<int32_t>(id));
    at = text.find_first_not_of(kBetween, end);
  }
  return ids;
}

Status CheckUtf8(std::string_view text, const std::string& name) {
  const size_t at = FirstInvalidUtf8(text);
  if (at == std::string_view::npos) return OkStatus();
  return InvalidArgument(fmt::format("{}: byte 0x{:02x} at offset {} is not UTF-8", name,
                                     static_cast<unsigned char>(text[at]), at));
}

}  // namespace hga::cli
