// SPDX-License-Identifier: Apache-2.0
// The bytes of all tokens as a trie laid out in preorder: a grammar tries each shared prefix once.
#ifndef HGA_ENGINE_CONSTRAINT_VOCABULARY_H_
#define HGA_ENGINE_CONSTRAINT_VOCABULARY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/constraint.h"

namespace hga {

// Immutable.
class Grammar::Vocabulary {
 public:
  struct Node {
    int32_t end;            // index behind this node's subtree
    int32_t first;          // in order(): tokens whose bytes end here, or else in the subtree
    uint16_t count;         // of tokens that end here
    uint16_t length;        // bytes from the root
    uint16_t plain_height;  // most bytes below, if IsPlain holds for all of them, else kNotPlain
    uint8_t byte;           // the last one
  };
  static constexpr uint16_t kNotPlain = 0xffff;
  // Bytes that stand for themselves in a JSON string.
  static bool IsPlain(uint8_t byte) {
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
  }

  // `texts[id]` is empty for tokens that are never allowed.
  static Result<std::shared_ptr<const Vocabulary>> Make(std::vector<std::string> texts);

  int size() const { return static_cast<int>(texts_.size()); }
  size_t mask_words() const { return (texts_.size() + 63) / 64; }
  // Preorder; node 0 is the root, of no bytes. Behind the last one stands one more, whose `first`
  // is the number of tokens.
  std::span<const Node> nodes() const { return nodes_; }
  // Tokens by their bytes.
  std::span<const int32_t> order() const { return order_; }
  std::string_view text(int32_t token) const { return texts_[static_cast<size_t>(token)]; }
  int longest() const { return longest_; }

 private:
  std::vector<std::string> texts_;
  std::vector<Node> nodes_;
  std::vector<int32_t> order_;
  int longest_ = 0;
};

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_VOCABULARY_H_
