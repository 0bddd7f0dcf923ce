// SPDX-License-Identifier: Apache-2.0
// A tokenizer for tests of constraints: every byte is a token, with any others behind them.
#ifndef HGA_TESTS_BYTE_TOKENIZER_H_
#define HGA_TESTS_BYTE_TOKENIZER_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "hga/tokenizer.h"

namespace hga {

// Ids 0 to 255 are bytes, id 256 is special.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kSpecial = 256;

  explicit ByteTokenizer(std::vector<std::string> more = {}) {
    for (int byte = 0; byte < 256; ++byte) texts_.emplace_back(1, static_cast<char>(byte));
    texts_.emplace_back("<|end|>");
    for (std::string& text : more) texts_.push_back(std::move(text));
  }

  Result<std::vector<int32_t>> Encode(std::string_view text, bool) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  Result<std::vector<int32_t>> EncodeTrusted(std::string_view text,
                                             std::span<const TextRange>) const override {
    return Encode(text, false);
  }
  Result<std::string> Decode(std::span<const int32_t> ids, bool keep_special) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) return InvalidArgument("no such token");
      if (id != kSpecial || keep_special) text += texts_[static_cast<size_t>(id)];
    }
    return text;
  }
  std::optional<int32_t> TokenId(std::string_view text) const override {
    const auto found = std::find(texts_.begin(), texts_.end(), text);
    if (found == texts_.end()) return std::nullopt;
    return static_cast<int32_t>(found - texts_.begin());
  }
  bool IsSpecial(int32_t id) const override { return id == kSpecial; }
  int vocab_size() const override { return static_cast<int>(texts_.size()); }
  std::span<const int32_t> prefix_ids() const override { return {}; }

 private:
  std::vector<std::string> texts_;
};

}  // namespace hga

#endif  // HGA_TESTS_BYTE_TOKENIZER_H_
