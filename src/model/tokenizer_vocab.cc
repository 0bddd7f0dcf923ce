// SPDX-License-Identifier: Apache-2.0
// The BPE model and the added tokens of a tokenizer.json: every id and every merge is checked here,
// so that encoding can index without looking.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "base/file.h"
#include "base/utf8.h"
#include "model/tokenizer_json.h"

namespace hga {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kVocabMax = 1u << 22;
constexpr size_t kMergesMax = 1u << 22;
constexpr size_t kAddedMax = 1u << 20;
constexpr size_t kAddedBytesMax = 1024;
// Ids may leave gaps, but a table over them must stay in proportion to the file.
constexpr int64_t kGapMax = 65536;

// code_point_of[byte] of GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes
// take the characters from U+0100 on, in order.
struct Alphabet {
  std::array<char32_t, 256> code_point_of{};
  std::array<int16_t, 0x144> byte_of{};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  alphabet.byte_of.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
    alphabet.code_point_of[static_cast<size_t>(byte)] = c;
    alphabet.byte_of[c] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

Result<int32_t> Id(dom::element value, size_t entries, const std::string& place) {
  int64_t id = -1;
  if (value.get_int64().get(id)) return DataLoss(place + ": must be a whole number below 2^31");
  const int64_t limit = 2 * static_cast<int64_t>(entries) + kGapMax;
  if (id < 0 || id >= limit) {
    return DataLoss(fmt::format("{}: the id {} is not in [0, {}), the range for {} entries", place,
                                id, limit, entries));
  }
  return static_cast<int32_t>(id);
}

Status ParseVocab(const TokenizerNode& model, size_t added_count, TokenizerSpec* spec) {
  HGA_ASSIGN_OR_RETURN(const TokenizerNode node, model.Child("vocab"));
  size_t count = 0;
  for (const dom::key_value_pair entry : node.object()) {
    (void)entry;
    ++count;
  }
  if (count > kVocabMax) {
    return Unsupported(
        fmt::format("{}: {} entries, at most {} are supported", node.place(), count, kVocabMax));
  }
  spec->vocab.reserve(count + added_count);
  std::vector<bool> used;
  for (const dom::key_value_pair entry : node.object()) {
    const std::string place = node.PlaceOf(Quoted(entry.key));
    HGA_ASSIGN_OR_RETURN(const int32_t id, Id(entry.value, count + added_count, place));
    if (!spec->vocab.emplace(entry.key, id).second) return DataLoss(place + ": comes twice");
    const size_t index = static_cast<size_t>(id);
    if (index >= used.size()) used.resize(index + 1);
    if (used[index]) return DataLoss(fmt::format("{}: the id {} is already taken", place, id));
    used[index] = true;
  }
  spec->vocab_size = static_cast<int>(used.size());
  return OkStatus();
}

struct MergeText {
  std::string_view left;
  std::string_view right;
};

// Both spellings: "left right", and ["left", "right"]; one file keeps to one of them.
Result<MergeText> SplitMerge(dom::element value, bool as_pairs, const std::string& place) {
  MergeText merge;
  std::string_view text;
  if (as_pairs) {
    dom::array pair;
    if (value.get_array().get(pair)) {
      return DataLoss(place + ": must be a list of two strings, as the first merge is");
    }
    size_t parts = 0;
    for (const dom::element part : pair) {
      if (part.get_string().get(parts == 0 ? merge.left : merge.right) || ++parts > 2) parts = 3;
      if (parts > 2) break;
    }
    if (parts != 2) return DataLoss(place + ": must be a list of exactly two strings");
  } else {
    if (value.get_string().get(text))
      return DataLoss(place + ": must be a string, as the first merge is");
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return DataLoss(
          fmt::format("{}: {} must be two parts with one space between", place, Quoted(text)));
    }
    merge = {text.substr(0, space), text.substr(space + 1)};
  }
  if (merge.left.empty() || merge.right.empty()) return DataLoss(place + ": a part is empty");
  return merge;
}

Result<int32_t> KnownToken(const TokenizerSpec& spec, std::string_view text,
                           const std::string& place) {
  const auto found = spec.vocab.find(text);
  if (found == spec.vocab.end()) {
    return DataLoss(fmt::format("{}: {} is not in the vocabulary", place, Quoted(text)));
  }
  return found->second;
}

Status ParseMerges(const TokenizerNode& model, TokenizerSpec* spec) {
  HGA_ASSIGN_OR_RETURN(const dom::array list, model.List("merges"));
  const std::string place = model.PlaceOf("merges");
  size_t count = 0;
  bool as_pairs = false;
  for (const dom::element value : list) {
    if (count == 0) as_pairs = value.is_array();
    ++count;
  }
  if (count > kMergesMax) {
    return Unsupported(
        fmt::format("{}: {} entries, at most {} are supported", place, count, kMergesMax));
  }
  spec->merges.reserve(count);
  std::string joined;
  for (const dom::element value : list) {
    const std::string here = fmt::format("{}[{}]", place, spec->merges.size());
    HGA_ASSIGN_OR_RETURN(const MergeText text, SplitMerge(value, as_pairs, here));
    joined.assign(text.left).append(text.right);
    MergeRule rule;
    HGA_ASSIGN_OR_RETURN(rule.left, KnownToken(*spec, text.left, here));
    HGA_ASSIGN_OR_RETURN(rule.right, KnownToken(*spec, text.right, here));
    HGA_ASSIGN_OR_RETURN(rule.result, KnownToken(*spec, joined, here));
    spec->merges.push_back(rule);
  }
  return OkStatus();
}

// Settings that change ids are accepted only where they change nothing: with all 256 bytes in the
// vocabulary no piece is ever unknown, so unk_token, fuse_unk and byte_fallback never act.
Status CheckModelSettings(const TokenizerNode& model, const TokenizerSpec& spec) {
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.Find(key)) continue;
    HGA_ASSIGN_OR_RETURN(const std::string_view text, model.Text(key));
    if (!text.empty()) return Unsupported(model.PlaceOf(key) + ": only null or \"\" is supported");
  }
  if (const auto dropout = model.Find("dropout")) {
    double rate = 0;
    if (dropout->get_double().get(rate))
      return DataLoss(model.PlaceOf("dropout") + ": must be a number");
    if (rate != 0) return Unsupported(model.PlaceOf("dropout") + ": only null or 0 is supported");
  }
  if (model.Find("unk_token")) {
    HGA_ASSIGN_OR_RETURN(const std::string_view text, model.Text("unk_token"));
    HGA_RETURN_IF_ERROR(KnownToken(spec, text, model.PlaceOf("unk_token")).status());
  }
  HGA_RETURN_IF_ERROR(model.Flag("fuse_unk", false).status());
  HGA_ASSIGN_OR_RETURN(const bool byte_fallback, model.Flag("byte_fallback", false));
  for (int byte = 0; byte_fallback && byte < 256; ++byte) {
    const std::string token = fmt::format("<0x{:02X}>", byte);
    HGA_RETURN_IF_ERROR(KnownToken(spec, token, model.PlaceOf("byte_fallback")).status());
  }
  return OkStatus();
}

Status ParseAddedToken(const TokenizerNode& node, size_t entries, AddedToken* token) {
  HGA_RETURN_IF_ERROR(node.CheckKeys(
      {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  HGA_ASSIGN_OR_RETURN(const dom::element id, node.Get("id"));
  HGA_ASSIGN_OR_RETURN(token->id, Id(id, entries, node.PlaceOf("id")));
  HGA_ASSIGN_OR_RETURN(token->content, node.Text("content"));
  if (token->content.empty() || token->content.size() > kAddedBytesMax) {
    return DataLoss(fmt::format("{}: {} bytes, must be 1 to {}", node.PlaceOf("content"),
                                token->content.size(), kAddedBytesMax));
  }
  HGA_ASSIGN_OR_RETURN(token->single_word, node.Flag("single_word", std::nullopt));
  HGA_ASSIGN_OR_RETURN(token->lstrip, node.Flag("lstrip", std::nullopt));
  HGA_ASSIGN_OR_RETURN(token->rstrip, node.Flag("rstrip", std::nullopt));
  HGA_ASSIGN_OR_RETURN(token->normalized, node.Flag("normalized", std::nullopt));
  HGA_ASSIGN_OR_RETURN(token->special, node.Flag("special", std::nullopt));
  return OkStatus();
}

// A content that the vocabulary has must have its id; a new one must have an id of its own.
Status CheckAddedIds(const std::string& place, TokenizerSpec* spec) {
  std::unordered_map<int32_t, std::string_view> owners;
  for (const auto& [text, id] : spec->vocab) owners.emplace(id, text);
  for (const AddedToken& token : spec->added) {
    const auto known = spec->vocab.find(token.content);
    const auto owner = owners.find(token.id);
    if (known != spec->vocab.end() && known->second != token.id) {
      return DataLoss(fmt::format("{}: {} has the id {} here and {} elsewhere", place,
                                  Quoted(token.content), token.id, known->second));
    }
    if (known == spec->vocab.end() && owner != owners.end()) {
      return DataLoss(fmt::format("{}: the id {} belongs to {} and to {}", place, token.id,
                                  Quoted(owner->second), Quoted(token.content)));
    }
    owners.emplace(token.id, token.content);
  }
  return OkStatus();
}

Result<size_t> CountAdded(const TokenizerNode& root) {
  size_t count = 0;
  if (!root.Find("added_tokens")) return count;
  HGA_ASSIGN_OR_RETURN(const dom::array list, root.List("added_tokens"));
  for (const dom::element value : list) {
    (void)value;
    ++count;
  }
  if (count > kAddedMax) {
    return Unsupported(fmt::format("{}: {} entries, at most {} are supported",
                                   root.PlaceOf("added_tokens"), count, kAddedMax));
  }
  return count;
}

}  // namespace

std::optional<std::string> BytesOfSpelling(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = FirstUtf8(text.substr(at));
    if (step.kind != Utf8Kind::kCharacter || step.code_point >= kAlphabet.byte_of.size())
      return std::nullopt;
    const int16_t byte = kAlphabet.byte_of[step.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += step.bytes;
  }
  return bytes;
}

std::string SpellingOfByte(uint8_t byte) {
  std::string text;
  AppendUtf8(kAlphabet.code_point_of[byte], &text);
  return text;
}

Status ParseBpeModel(const TokenizerNode& root, TokenizerSpec* spec) {
  HGA_ASSIGN_OR_RETURN(const TokenizerNode model, root.Child("model"));
  std::string_view type = "BPE";  // files of before 2020 do not say
  if (model.Find("type")) {
    HGA_ASSIGN_OR_RETURN(type, model.Text("type"));
  }
  if (type != "BPE") {
    return Unsupported(
        fmt::format("{}: {} is not supported, only \"BPE\"", model.PlaceOf("type"), Quoted(type)));
  }
  HGA_RETURN_IF_ERROR(model.CheckKeys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                                       "end_of_word_suffix", "fuse_unk", "byte_fallback",
                                       "ignore_merges", "vocab", "merges"}));
  HGA_ASSIGN_OR_RETURN(const size_t added_count, CountAdded(root));
  HGA_RETURN_IF_ERROR(ParseVocab(model, added_count, spec));
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling = SpellingOfByte(static_cast<uint8_t>(byte));
    const auto found = spec->vocab.find(spelling);
    if (found == spec->vocab.end()) {
      return Unsupported(
          fmt::format("{}: no token for the byte 0x{:02X} (spelled {}): only byte-level "
                      "vocabularies are supported",
                      model.PlaceOf("vocab"), byte, Quoted(spelling)));
    }
    spec->byte_ids[static_cast<size_t>(byte)] = found->second;
  }
  HGA_RETURN_IF_ERROR(CheckModelSettings(model, *spec));
  HGA_ASSIGN_OR_RETURN(spec->ignore_merges, model.Flag("ignore_merges", false));
  return ParseMerges(model, spec);
}

Status ParseAddedTokens(const TokenizerNode& root, TokenizerSpec* spec) {
  HGA_ASSIGN_OR_RETURN(const size_t count, CountAdded(root));
  if (count == 0) return OkStatus();
  const std::string place = root.PlaceOf("added_tokens");
  HGA_ASSIGN_OR_RETURN(const dom::array list, root.List("added_tokens"));
  const size_t entries = spec->vocab.size() + count;
  spec->added.reserve(count);
  for (const dom::element value : list) {
    const std::string here = fmt::format("{}[{}]", place, spec->added.size());
    HGA_ASSIGN_OR_RETURN(const TokenizerNode node, TokenizerNode::From(value, here));
    AddedToken token;
    HGA_RETURN_IF_ERROR(ParseAddedToken(node, entries, &token));
    spec->added.push_back(std::move(token));
  }
  HGA_RETURN_IF_ERROR(CheckAddedIds(place, spec));
  for (AddedToken& token : spec->added) {
    token.in_model = !spec->vocab.emplace(token.content, token.id).second;
    spec->vocab_size = std::max(spec->vocab_size, token.id + 1);
  }
  return OkStatus();
}

}  // namespace hga
