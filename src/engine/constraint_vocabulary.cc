// SPDX-License-Identifier: Apache-2.0
// Builds the token trie from the tokens in the order of their bytes.
#include "engine/constraint_vocabulary.h"

#include <fmt/core.h>

#include <algorithm>

namespace hga {
namespace {

constexpr int kMostTokens = 1 << 22;
constexpr uint16_t kMostEqual = 0xffff;
constexpr size_t kLongestToken = 4096;  // longer ones are never allowed

// Every byte that UTF-8 text can hold needs a token of its own, or an answer could get stuck where
// the grammar still has ways on.
Status CheckBytes(std::span<const std::string> texts) {
  std::vector<bool> alone(256, false);
  for (const std::string& text : texts) {
    if (text.size() == 1) alone[static_cast<unsigned char>(text[0])] = true;
  }
  for (int byte = 0; byte < 0xf5; ++byte) {
    if (byte == 0xc0 || byte == 0xc1 || alone[static_cast<size_t>(byte)]) continue;
    // Control characters may only be written as escapes, except these two.
    if (byte < 0x20 && byte != '\n' && byte != '\t') continue;
    return Unsupported(fmt::format(
        "constrained answers need a token for every byte; this tokenizer has none for 0x{:02x}",
        byte));
  }
  return OkStatus();
}

}  // namespace

Result<std::shared_ptr<const Grammar::Vocabulary>> Grammar::Vocabulary::Make(
    std::vector<std::string> texts) {
  for (std::string& text : texts) {
    if (text.size() > kLongestToken) text.clear();
  }
  HGA_RETURN_IF_ERROR(CheckBytes(texts));
  auto made = std::make_shared<Vocabulary>();
  std::vector<int32_t>& order = made->order_;
  for (size_t id = 0; id < texts.size(); ++id) {
    if (!texts[id].empty()) order.push_back(static_cast<int32_t>(id));
  }
  const auto text_of = [&texts](int32_t id) -> const std::string& {
    return texts[static_cast<size_t>(id)];
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return text_of(a) < text_of(b); });
  std::vector<Node>& nodes = made->nodes_;
  nodes.push_back({0, 0, 0, 0, 0, 0});
  std::vector<int32_t> path = {0};  // nodes of the last token's prefixes
  const auto close = [&](size_t kept) {
    for (; path.size() > kept; path.pop_back()) {
      Node& node = nodes[static_cast<size_t>(path.back())];
      node.end = static_cast<int32_t>(nodes.size());
      if (path.size() == 1) break;
      // Children are complete before their parents.
      Node& parent = nodes[static_cast<size_t>(path[path.size() - 2])];
      if (node.plain_height == kNotPlain || !IsPlain(node.byte)) {
        parent.plain_height = kNotPlain;
      } else if (parent.plain_height != kNotPlain) {
        parent.plain_height =
            std::max(parent.plain_height, static_cast<uint16_t>(node.plain_height + 1));
      }
    }
  };
  std::string_view last;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const std::string& text = text_of(order[rank]);
    const auto shared = static_cast<size_t>(
        std::mismatch(text.begin(), text.end(), last.begin(), last.end()).first - text.begin());
    close(shared + 1);
    for (size_t i = shared; i < text.size(); ++i) {
      path.push_back(static_cast<int32_t>(nodes.size()));
      nodes.push_back({0, static_cast<int32_t>(rank), 0, static_cast<uint16_t>(i + 1), 0,
                       static_cast<uint8_t>(text[i])});
    }
    uint16_t& count = nodes[static_cast<size_t>(path.back())].count;
    // Tokens of equal bytes beyond that are never allowed.
    if (count < kMostEqual) ++count;
    last = text;
    made->longest_ = std::max(made->longest_, static_cast<int>(text.size()));
  }
  close(0);
  nodes.push_back({0, static_cast<int32_t>(order.size()), 0, 0, 0, 0});
  made->texts_ = std::move(texts);
  return std::shared_ptr<const Vocabulary>(std::move(made));
}

Result<std::shared_ptr<const Grammar::Vocabulary>> Grammar::MakeVocabulary(
    const Tokenizer& tokenizer) {
  const int size = tokenizer.vocab_size();
  if (size < 1 || size > kMostTokens) {
    return Unsupported(
        fmt::format("constrained answers need a vocabulary of 1 to {} tokens, "
                    "this one has {}",
                    kMostTokens, size));
  }
  std::vector<std::string> texts(static_cast<size_t>(size));
  for (int32_t id = 0; id < size; ++id) {
    if (tokenizer.IsSpecial(id)) continue;
    // Ids in gaps of the vocabulary are unknown to Decode and stay without text.
    Result<std::string> text = tokenizer.Decode(std::span(&id, 1), false);
    if (text.ok()) texts[static_cast<size_t>(id)] = std::move(text).value();
  }
  return Vocabulary::Make(std::move(texts));
}

}  // namespace hga
