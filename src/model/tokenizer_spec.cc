// SPDX-License-Identifier: Apache-2.0
// The steps around the BPE model: what is known is resolved, everything else refused by name.
#include "model/tokenizer_spec.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "base/file.h"
#include "model/json_fields.h"
#include "model/tokenizer_json.h"

namespace hga {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kStepsMax = 16;
// The split of a ByteLevel step with use_regex, fixed by its definition (GPT-2).
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Status UnknownKind(const TokenizerNode& node, std::string_view type, std::string_view known) {
  return Unsupported(
      fmt::format("{}: the type {} is not supported, only {}", node.place(), Quoted(type), known));
}

// The steps of `node`: the entries of a Sequence's list `key`, or the node alone. Sequences inside
// sequences are kept as entries and refused by the caller as an unknown kind.
Result<std::vector<TokenizerNode>> Steps(const TokenizerNode& node, std::string_view key) {
  std::vector<TokenizerNode> steps;
  HGA_ASSIGN_OR_RETURN(const std::string_view type, node.Text("type"));
  if (type != "Sequence") {
    steps.push_back(node);
    return steps;
  }
  HGA_RETURN_IF_ERROR(node.CheckKeys({"type", key}));
  HGA_ASSIGN_OR_RETURN(const dom::array list, node.List(key));
  for (const dom::element value : list) {
    const std::string place = fmt::format("{}[{}]", node.PlaceOf(key), steps.size());
    if (steps.size() == kStepsMax) return Unsupported(place + ": more than 16 steps");
    HGA_ASSIGN_OR_RETURN(TokenizerNode step, TokenizerNode::From(value, place));
    steps.push_back(std::move(step));
  }
  return steps;
}

Status ParseSplit(const TokenizerNode& node, TokenizerSpec* spec) {
  HGA_RETURN_IF_ERROR(node.CheckKeys({"type", "pattern", "behavior", "invert"}));
  HGA_ASSIGN_OR_RETURN(const std::string_view behavior, node.Text("behavior"));
  if (behavior != "Isolated") {
    return Unsupported(fmt::format("{}: {} is not supported, only \"Isolated\"",
                                   node.PlaceOf("behavior"), Quoted(behavior)));
  }
  HGA_ASSIGN_OR_RETURN(const bool invert, node.Flag("invert", false));
  if (invert) return Unsupported(node.PlaceOf("invert") + ": true is not supported");
  HGA_ASSIGN_OR_RETURN(const TokenizerNode pattern, node.Child("pattern"));
  HGA_RETURN_IF_ERROR(pattern.CheckKeys({"Regex", "String"}));
  const bool literal = pattern.Find("String").has_value();
  if (literal && pattern.Find("Regex")) {
    return DataLoss(pattern.place() + ": has both Regex and String");
  }
  HGA_ASSIGN_OR_RETURN(const std::string_view text, pattern.Text(literal ? "String" : "Regex"));
  spec->splits.push_back({std::string(text), literal});
  return OkStatus();
}

Status ParseByteLevel(const TokenizerNode& node, TokenizerSpec* spec) {
  HGA_RETURN_IF_ERROR(node.CheckKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  HGA_ASSIGN_OR_RETURN(spec->add_prefix_space, node.Flag("add_prefix_space", true));
  HGA_RETURN_IF_ERROR(node.Flag("trim_offsets", true).status());
  HGA_ASSIGN_OR_RETURN(const bool use_regex, node.Flag("use_regex", true));
  // A prefix space goes in front of the pieces that came before this step, ahead of its own split.
  if (spec->add_prefix_space && !spec->splits.empty()) {
    return Unsupported(node.PlaceOf("add_prefix_space") + ": true behind a Split is not supported");
  }
  if (use_regex) spec->splits.push_back({std::string(kByteLevelPattern), false});
  return OkStatus();
}

// One post-processing template: special tokens, then the text, nothing behind it.
Status ParseTemplate(const TokenizerNode& node, TokenizerSpec* spec) {
  HGA_RETURN_IF_ERROR(node.CheckKeys({"type", "single", "pair", "special_tokens"}));
  HGA_ASSIGN_OR_RETURN(const dom::array single, node.List("single"));
  bool text_seen = false;
  for (const dom::element value : single) {
    HGA_ASSIGN_OR_RETURN(const TokenizerNode piece,
                         TokenizerNode::From(value, node.PlaceOf("single")));
    HGA_RETURN_IF_ERROR(piece.CheckKeys({"Sequence", "SpecialToken"}));
    if (text_seen) {
      return Unsupported(node.PlaceOf("single") + ": anything behind the text is not supported");
    }
    if (piece.Find("Sequence")) {
      HGA_ASSIGN_OR_RETURN(const TokenizerNode sequence, piece.Child("Sequence"));
      HGA_ASSIGN_OR_RETURN(const std::string_view id, sequence.Text("id"));
      if (id != "A") return Unsupported(sequence.PlaceOf("id") + ": only \"A\" is supported");
      text_seen = true;
      continue;
    }
    HGA_ASSIGN_OR_RETURN(const TokenizerNode special, piece.Child("SpecialToken"));
    HGA_ASSIGN_OR_RETURN(const std::string_view text, special.Text("id"));
    const auto known = spec->vocab.find(text);
    if (known == spec->vocab.end()) {
      return DataLoss(fmt::format("{}: {} is not a token", special.PlaceOf("id"), Quoted(text)));
    }
    if (spec->prefix_ids.size() == kStepsMax) {
      return Unsupported(node.PlaceOf("single") + ": more than 16 special tokens");
    }
    spec->prefix_ids.push_back(known->second);
  }
  if (!text_seen) return DataLoss(node.PlaceOf("single") + ": has no place for the text");
  return OkStatus();
}

}  // namespace

Status ParseNormalizer(const TokenizerNode& root, TokenizerSpec* spec) {
  if (!root.Find("normalizer")) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const TokenizerNode node, root.Child("normalizer"));
  HGA_ASSIGN_OR_RETURN(const auto steps, Steps(node, "normalizers"));
  for (const TokenizerNode& step : steps) {
    HGA_ASSIGN_OR_RETURN(const std::string_view type, step.Text("type"));
    if (type != "NFC") return UnknownKind(step, type, "NFC and a flat Sequence of it");
    HGA_RETURN_IF_ERROR(step.CheckKeys({"type"}));
    spec->nfc = true;
  }
  return OkStatus();
}

Status ParsePreTokenizer(const TokenizerNode& root, TokenizerSpec* spec) {
  HGA_ASSIGN_OR_RETURN(const TokenizerNode node, root.Child("pre_tokenizer"));
  HGA_ASSIGN_OR_RETURN(const auto steps, Steps(node, "pretokenizers"));
  bool byte_level_seen = false;
  for (const TokenizerNode& step : steps) {
    HGA_ASSIGN_OR_RETURN(const std::string_view type, step.Text("type"));
    if (byte_level_seen) return Unsupported(step.place() + ": a step behind ByteLevel");
    if (type == "Split") {
      HGA_RETURN_IF_ERROR(ParseSplit(step, spec));
    } else if (type == "ByteLevel") {
      HGA_RETURN_IF_ERROR(ParseByteLevel(step, spec));
      byte_level_seen = true;
    } else {
      return UnknownKind(step, type, "Split, ByteLevel and a flat Sequence of them");
    }
  }
  if (!byte_level_seen) return Unsupported(node.place() + ": without ByteLevel at its end");
  return OkStatus();
}

Status ParseDecoder(const TokenizerNode& root, TokenizerSpec* spec) {
  HGA_ASSIGN_OR_RETURN(const TokenizerNode node, root.Child("decoder"));
  HGA_ASSIGN_OR_RETURN(const std::string_view type, node.Text("type"));
  if (type != "ByteLevel") return UnknownKind(node, type, "ByteLevel");
  return node.CheckKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

Status ParsePostProcessor(const TokenizerNode& root, TokenizerSpec* spec) {
  if (!root.Find("post_processor")) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const TokenizerNode node, root.Child("post_processor"));
  HGA_ASSIGN_OR_RETURN(const auto steps, Steps(node, "processors"));
  bool template_seen = false;
  for (const TokenizerNode& step : steps) {
    HGA_ASSIGN_OR_RETURN(const std::string_view type, step.Text("type"));
    if (type == "ByteLevel") continue;  // concerns offsets only
    if (type != "TemplateProcessing")
      return UnknownKind(step, type, "ByteLevel and TemplateProcessing");
    if (template_seen) return Unsupported(step.place() + ": a second TemplateProcessing");
    template_seen = true;
    HGA_RETURN_IF_ERROR(ParseTemplate(step, spec));
  }
  return OkStatus();
}

Result<TokenizerSpec> ParseTokenizerSpec(std::string_view json, const std::string& name) {
  dom::parser parser;
  HGA_ASSIGN_OR_RETURN(const dom::object object, ParseJsonObject(parser, json, name));
  const TokenizerNode root(object, Quoted(name) + ": ");
  // "truncation" and "padding" describe batches for training; callers of this library bound and
  // lay out their own.
  HGA_RETURN_IF_ERROR(
      root.CheckKeys({"version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"}));
  TokenizerSpec spec;
  if (root.Find("version")) {
    HGA_ASSIGN_OR_RETURN(const std::string_view version, root.Text("version"));
    if (version != "1.0") {
      return Unsupported(fmt::format("{}: {} is not supported, only \"1.0\"",
                                     root.PlaceOf("version"), Quoted(version)));
    }
  }
  HGA_RETURN_IF_ERROR(ParseBpeModel(root, &spec));
  HGA_RETURN_IF_ERROR(ParseAddedTokens(root, &spec));
  HGA_RETURN_IF_ERROR(ParseNormalizer(root, &spec));
  HGA_RETURN_IF_ERROR(ParsePreTokenizer(root, &spec));
  HGA_RETURN_IF_ERROR(ParseDecoder(root, &spec));
  HGA_RETURN_IF_ERROR(ParsePostProcessor(root, &spec));
  return spec;
}

}  // namespace hga
