// SPDX-License-Identifier: Apache-2.0
// `hga tokenize`: text to ids and back, without weights.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.h"
#include "common.h"
#include "hga/tokenizer.h"
#include "run_prompt.h"

namespace hga::cli {
namespace {

using nlohmann::json;

struct TokenizeFlags {
  std::string model;
  std::string revision;
  std::string text;
  std::string file;
  std::string ids;  // to decode
  std::string show = "ids";
  bool special = false;
  bool json = false;
  bool has_text = false;
};

std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<std::vector<std::string>> Pieces(const Tokenizer& tokenizer,
                                        const std::vector<int32_t>& ids) {
  std::vector<std::string> pieces;
  for (int32_t id : ids) {
    HGA_ASSIGN_OR_RETURN(std::string piece, tokenizer.Decode({&id, 1}, true));
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

Result<std::string> Encoded(const TokenizeFlags& flags, const Tokenizer& tokenizer) {
  std::string text = flags.text;
  if (!flags.file.empty()) {
    HGA_ASSIGN_OR_RETURN(text, ReadTextFile(flags.file, kMaxPromptBytes));
  } else if (text == "-") {
    HGA_ASSIGN_OR_RETURN(text, ReadTextFile("-", kMaxPromptBytes));
  }
  HGA_RETURN_IF_ERROR(CheckUtf8(text, flags.file.empty() ? "the text" : flags.file));
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(text, flags.special));
  std::string out;
  if (flags.json) {
    HGA_ASSIGN_OR_RETURN(const auto pieces, Pieces(tokenizer, ids));
    return Dump({{"ids", ids}, {"pieces", pieces}, {"count", ids.size()}}) + "\n";
  }
  if (flags.show == "count") return fmt::format("{}\n", ids.size());
  if (flags.show == "ids") {
    for (int32_t id : ids) out += fmt::format("{}{}", out.empty() ? "" : " ", id);
    return out + "\n";
  }
  HGA_ASSIGN_OR_RETURN(const auto pieces, Pieces(tokenizer, ids));
  for (size_t i = 0; i < ids.size(); ++i) out += fmt::format("{}\t{}\n", ids[i], Dump(pieces[i]));
  return out;
}

Result<std::string> Decoded(const TokenizeFlags& flags, const Tokenizer& tokenizer) {
  std::string text = flags.ids;
  if (text == "-") {
    HGA_ASSIGN_OR_RETURN(text, ReadTextFile("-", kMaxPromptBytes));
  }
  HGA_ASSIGN_OR_RETURN(const auto ids, ParseIds(text, "--ids", tokenizer.vocab_size()));
  HGA_ASSIGN_OR_RETURN(std::string decoded, tokenizer.Decode(ids, true));
  if (flags.json) return Dump({{"text", decoded}, {"count", ids.size()}}) + "\n";
  return decoded;
}

Status CheckFlags(const TokenizeFlags& flags) {
  const int inputs = static_cast<int>(flags.has_text) + static_cast<int>(!flags.file.empty()) +
                     static_cast<int>(!flags.ids.empty());
  if (inputs == 1) return OkStatus();
  return InvalidArgument(
      fmt::format("give one of TEXT, --file FILE and --ids IDS; {} are there", inputs));
}

int Tokenize(const TokenizeFlags& flags) {
  if (const Status status = CheckFlags(flags); !status.ok()) return FailUsage(status);
  const auto directory = ResolveModel(flags.model, flags.revision);
  if (!directory.ok()) return Fail(directory.status());
  const auto tokenizer = Tokenizer::Load(*directory);
  if (!tokenizer.ok()) return Fail(tokenizer.status());
  const auto text = flags.ids.empty() ? Encoded(flags, **tokenizer) : Decoded(flags, **tokenizer);
  if (!text.ok()) return Fail(text.status());
  const Status written = WriteStdout(*text);
  return written.ok() ? kExitOk : Fail(written);
}

}  // namespace

void AddTokenizeCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* verb = app.add_subcommand("tokenize", "Text to token ids and back");
  const auto flags = std::make_shared<TokenizeFlags>();
  verb->add_option("-m,--model", flags->model, "Checkpoint: a directory, or ORG/NAME")
      ->type_name("DIR|ORG/NAME")
      ->required();
  verb->add_option("--revision", flags->revision, "Branch, tag or commit of ORG/NAME [main]");
  CLI::Option* text = verb->add_option("text,--text", flags->text, "Text; - is stdin");
  verb->add_option("-f,--file", flags->file, "File of text; - is stdin")->type_name("FILE");
  verb->add_option("--ids", flags->ids, "Ids to turn into text (exact bytes); - is stdin")
      ->type_name("IDS");
  verb->add_option("--show", flags->show, "What to print of a text")
      ->check(CLI::IsMember({"ids", "pieces", "count"}))
      ->capture_default_str();
  verb->add_flag("--special", flags->special, "Special tokens written in the text are that");
  verb->add_flag("--json", flags->json, "One JSON object");
  verb->callback([flags, text, exit_code] {
    flags->has_text = text->count() > 0;
    *exit_code = Tokenize(*flags);
  });
}

}  // namespace hga::cli
