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
    int32_t end;      // index behind this node's subtree
    int32_t token;    // one whose bytes end here, -1 without; others of equal bytes by NextEqual
    uint16_t length;  // bytes from the root
    uint8_t byte;     // the last of them
  };

  // `texts[id]` is empty for tokens that are never allowed.
  static Result<std::shared_ptr<const Vocabulary>> Make(std::vector<std::string> texts);

  int size() const { return static_cast<int>(texts_.size()); }
  size_t mask_words() const { return (texts_.size() + 63) / 64; }
  // Preorder; node 0 is the root, of no bytes.
  std::span<const Node> nodes() const { return nodes_; }
  int32_t NextEqual(int32_t token) const { return next_equal_[static_cast<size_t>(token)]; }
  std::string_view text(int32_t token) const { return texts_[static_cast<size_t>(token)]; }
  int longest() const { return longest_; }

 private:
  std::vector<std::string> texts_;
  std::vector<Node> nodes_;
  std::vector<int32_t> next_equal_;
  int longest_ = 0;
};

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_VOCABULARY_H_
