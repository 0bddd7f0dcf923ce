// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding as a tokenizer.json says: added tokens, NFC, splits, byte-pair merging.
#include "hga/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/utf8.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_regex.h"
#include "model/tokenizer_spec.h"
#include "model/tokenizer_unicode.h"

namespace hga {
namespace {

constexpr int64_t kFileBytesMax = int64_t{256} << 20;
// Positions inside a text are 32-bit; this leaves room for what normalisation adds.
constexpr size_t kTextBytesMax = size_t{512} << 20;

struct TokenText {
  uint32_t offset = 0;  // into the arena
  uint32_t bytes = 0;
  bool known = false;
  bool special = false;
};

// Contents of the added tokens whose "normalized" is `normalized`, special ones first: of equal
// contents the first counts.
std::vector<AddedToken> AddedOfKind(const TokenizerSpec& spec, bool normalized) {
  std::vector<AddedToken> tokens;
  for (const bool special : {true, false}) {
    for (const AddedToken& token : spec.added) {
      if (token.special != special || token.normalized != normalized) continue;
      tokens.push_back(token);
      if (normalized && spec.nfc) tokens.back().content = NormalizeNfc(token.content);
    }
  }
  return tokens;
}

// A stretch of text between added tokens, in normal form if there is one.
struct NormalText {
  std::string_view text;
  std::vector<TextRange> trusted;
  std::string owned;  // what `text` points to once it was changed
};

// The parts of `ranges` inside of [begin, begin + size), from its begin.
std::vector<TextRange> RangesWithin(std::span<const TextRange> ranges, size_t begin, size_t size) {
  std::vector<TextRange> within;
  auto range = std::lower_bound(ranges.begin(), ranges.end(), begin,
                                [](const TextRange& r, size_t at) { return r.end <= at; });
  for (; range != ranges.end() && range->begin < begin + size; ++range) {
    within.push_back(
        {std::max(range->begin, begin) - begin, std::min(range->end, begin + size) - begin});
  }
  return within;
}

// NFC of the whole text. Ranges shrink to where pieces can be normalised alone: nothing composes
// over the place before an ASCII character.
void Normalize(NormalText* normal) {
  const std::string_view text = normal->text;
  const auto ascii = [text](size_t at) { return static_cast<unsigned char>(text[at]) < 0x80; };
  std::vector<TextRange> ranges;
  size_t done = 0;
  const auto append = [&](size_t end) {
    normal->owned += NormalizeNfc(text.substr(done, end - done));
    done = end;
    return normal->owned.size();
  };
  for (TextRange range : normal->trusted) {
    while (range.begin > 0 && range.begin < range.end && !ascii(range.begin)) ++range.begin;
    while (range.end > range.begin && range.end < text.size() && !ascii(range.end)) --range.end;
    if (range.begin == range.end) continue;
    const size_t begin = append(range.begin);
    ranges.push_back({begin, append(range.end)});
  }
  append(text.size());
  normal->text = normal->owned;
  normal->trusted = std::move(ranges);
}

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(TokenizerSpec spec, std::vector<std::unique_ptr<SplitPattern>> splits)
      : spec_(std::move(spec)),
        splits_(std::move(splits)),
        merges_(spec_.merges),
        raw_added_(AddedOfKind(spec_, false)),
        normalized_added_(AddedOfKind(spec_, true)) {
    spec_.merges = {};
    tokens_.resize(static_cast<size_t>(spec_.vocab_size));
    for (const auto& [text, id] : spec_.vocab) AddText(text, static_cast<size_t>(id));
    for (const AddedToken& token : spec_.added) {
      tokens_[IndexOf(token)].special |= token.special;
      // `tokenizers` shows such a token in its normalised form.
      if (token.normalized && spec_.nfc) AddText(NormalizeNfc(token.content), IndexOf(token));
    }
    if (spec_.ignore_merges) FillWhole();
  }

  Result<std::vector<int32_t>> Encode(std::string_view text, bool parse_special) const override;
  Result<std::vector<int32_t>> EncodeTrusted(std::string_view text,
                                             std::span<const TextRange> trusted) const override;
  Result<std::string> Decode(std::span<const int32_t> ids, bool keep_special) const override;
  std::optional<int32_t> TokenId(std::string_view text) const override;
  bool IsSpecial(int32_t id) const override { return Has(id) && Token(id).special; }
  int vocab_size() const override { return spec_.vocab_size; }
  std::span<const int32_t> prefix_ids() const override { return spec_.prefix_ids; }

 private:
  friend class EncodeCall;

  bool Has(int32_t id) const { return id >= 0 && id < spec_.vocab_size && Token(id).known; }
  const TokenText& Token(int32_t id) const { return tokens_[static_cast<size_t>(id)]; }

  static size_t IndexOf(const AddedToken& token) { return static_cast<size_t>(token.id); }

  // A spelling outside the byte alphabet stands for its own UTF-8 bytes.
  void AddText(const std::string& spelling, size_t id) {
    const std::optional<std::string> bytes = BytesOfSpelling(spelling);
    const std::string& shown = bytes ? *bytes : spelling;
    tokens_[id].offset = static_cast<uint32_t>(arena_.size());
    tokens_[id].bytes = static_cast<uint32_t>(shown.size());
    tokens_[id].known = true;
    arena_ += shown;
  }

  void FillWhole() {
    for (const auto& [text, id] : spec_.vocab) {
      if (const auto bytes = BytesOfSpelling(text)) whole_.emplace(*bytes, id);
    }
    for (const AddedToken& token : spec_.added) {
      const auto bytes = BytesOfSpelling(token.content);
      if (bytes && !token.in_model) whole_.erase(*bytes);
    }
  }

  TokenizerSpec spec_;
  std::vector<std::unique_ptr<SplitPattern>> splits_;
  MergeTable merges_;
  AddedTokenFinder raw_added_;         // matched in the text as it is
  AddedTokenFinder normalized_added_;  // matched after normalisation
  std::string arena_;
  std::vector<TokenText> tokens_;  // [vocab_size]
  Vocabulary whole_;               // bytes of a model's token -> id, with ignore_merges only
};

// The state of one Encode: everything that changes, so that the tokenizer itself never does.
class EncodeCall {
 public:
  EncodeCall(const BpeTokenizer& tokenizer, size_t text_bytes)
      : tokenizer_(tokenizer), bpe_(tokenizer.merges_, tokenizer.spec_.byte_ids) {
    scratch_.reserve(tokenizer.splits_.size());
    for (const auto& split : tokenizer.splits_) scratch_.emplace_back(*split, text_bytes);
  }

  Status Run(std::string_view text, std::span<const TextRange> trusted) {
    for (const auto& raw : tokenizer_.raw_added_.Split(text, trusted)) {
      if (raw.id) {
        ids_.push_back(*raw.id);
        continue;
      }
      NormalText normal;
      normal.text = raw.text;
      if (tokenizer_.normalized_added_.has_special()) {
        normal.trusted = RangesWithin(trusted, static_cast<size_t>(raw.text.data() - text.data()),
                                      raw.text.size());
      }
      if (tokenizer_.spec_.nfc && !IsSurelyNfc(raw.text)) Normalize(&normal);
      for (const auto& segment : tokenizer_.normalized_added_.Split(normal.text, normal.trusted)) {
        if (segment.id) {
          ids_.push_back(*segment.id);
        } else {
          HGA_RETURN_IF_ERROR(Prefixed(segment.text));
        }
      }
    }
    return OkStatus();
  }

  std::vector<int32_t> TakeIds() { return std::move(ids_); }

 private:
  Status Prefixed(std::string_view text) {
    if (!tokenizer_.spec_.add_prefix_space || text.starts_with(' ')) return Cut(text, 0);
    std::string with_space = " ";
    with_space += text;
    return Cut(with_space, 0);
  }

  // The split of `step` and, on each piece, the later ones; at most 17 deep.
  Status Cut(std::string_view text, size_t step) {
    if (step == scratch_.size()) {
      Merge(text);
      return OkStatus();
    }
    PieceCutter cutter(&scratch_[step], text);
    while (true) {
      HGA_ASSIGN_OR_RETURN(const std::optional<std::string_view> piece, cutter.Next());
      if (!piece) return OkStatus();
      HGA_RETURN_IF_ERROR(Cut(*piece, step + 1));
    }
  }

  void Merge(std::string_view piece) {
    if (tokenizer_.spec_.ignore_merges) {
      const auto whole = tokenizer_.whole_.find(piece);
      if (whole != tokenizer_.whole_.end()) {
        ids_.push_back(whole->second);
        return;
      }
    }
    bpe_.Encode(piece, &ids_);
  }

  const BpeTokenizer& tokenizer_;
  BpeScratch bpe_;
  std::vector<SplitScratch> scratch_;  // one per split
  std::vector<int32_t> ids_;
};

Result<std::vector<int32_t>> BpeTokenizer::Encode(std::string_view text, bool parse_special) const {
  const TextRange all{0, text.size()};
  return EncodeTrusted(text, std::span(&all, parse_special ? 1 : 0));
}

Result<std::vector<int32_t>> BpeTokenizer::EncodeTrusted(std::string_view text,
                                                         std::span<const TextRange> trusted) const {
  if (text.size() > kTextBytesMax) {
    return InvalidArgument(fmt::format("the text has {} bytes, at most {} can be encoded at once",
                                       text.size(), kTextBytesMax));
  }
  if (const auto bad = FindInvalidUtf8(text)) {
    return InvalidArgument(fmt::format("the text is not UTF-8: byte 0x{:02X} at offset {} of {}",
                                       static_cast<unsigned char>(text[*bad]), *bad, text.size()));
  }
  EncodeCall call(*this, text.size());
  HGA_RETURN_IF_ERROR(call.Run(text, trusted));
  return call.TakeIds();
}

Result<std::string> BpeTokenizer::Decode(std::span<const int32_t> ids, bool keep_special) const {
  std::string out;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!Has(ids[i])) {
      return InvalidArgument(fmt::format("the id {} at index {} is no token; the highest is {}",
                                         ids[i], i, spec_.vocab_size - 1));
    }
    const TokenText& token = Token(ids[i]);
    if (token.special && !keep_special) continue;
    out.append(arena_, token.offset, token.bytes);
  }
  return out;
}

std::optional<int32_t> BpeTokenizer::TokenId(std::string_view text) const {
  const auto found = spec_.vocab.find(text);
  if (found == spec_.vocab.end()) return std::nullopt;
  return found->second;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const std::string json,
                       ReadSmallFile(directory, "tokenizer.json", kFileBytesMax));
  return Parse(json, directory + "/tokenizer.json");
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view json,
                                                    const std::string& name) {
  HGA_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerSpec(json, name));
  std::vector<std::unique_ptr<SplitPattern>> splits;
  for (size_t i = 0; i < spec.splits.size(); ++i) {
    const std::string where = fmt::format("{}: pre_tokenizer split {}", Quoted(name), i);
    HGA_ASSIGN_OR_RETURN(
        auto split, SplitPattern::Compile(spec.splits[i].pattern, spec.splits[i].literal, where));
    splits.push_back(std::move(split));
  }
  return std::unique_ptr<Tokenizer>(new BpeTokenizer(std::move(spec), std::move(splits)));
}

std::string Utf8Stream::Push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(at);
    const Utf8Step step = FirstUtf8(rest);
    if (step.kind == Utf8Kind::kIncomplete) break;
    out += step.kind == Utf8Kind::kCharacter ? rest.substr(0, step.bytes) : "\xEF\xBF\xBD";
    at += step.bytes;
  }
  pending_.erase(0, at);
  return out;
}

std::string Utf8Stream::Finish() {
  const bool cut = !pending_.empty();
  pending_.clear();
  return cut ? "\xEF\xBF\xBD" : "";
}

}  // namespace hga
