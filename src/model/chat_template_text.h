// SPDX-License-Identifier: Apache-2.0
// Text that knows of every byte whether it comes from the template, so that what a user writes
// never becomes a special token.
#ifndef HGA_MODEL_CHAT_TEMPLATE_TEXT_H_
#define HGA_MODEL_CHAT_TEMPLATE_TEXT_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/tokenizer.h"

namespace hga::chat {

class TrackedText {
 public:
  TrackedText() = default;
  TrackedText(std::string bytes, bool trusted) : bytes_(std::move(bytes)) {
    if (trusted && !bytes_.empty()) trusted_.push_back({0, bytes_.size()});
  }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::span<const TextRange> trusted() const { return trusted_; }
  size_t cost() const { return bytes_.size() + trusted_.size() * sizeof(TextRange); }

  void Append(std::string_view bytes, bool trusted);
  void Append(const TrackedText& other) { AppendPart(other, 0, other.size()); }
  // Bytes [begin, end) of `other`, which is another text.
  void AppendPart(const TrackedText& other, size_t begin, size_t end);
  TrackedText Part(size_t begin, size_t end) const;
  // Forgets everything behind the first `size` bytes.
  void Truncate(size_t size);

 private:
  void Trust(size_t begin, size_t end);

  std::string bytes_;
  std::vector<TextRange> trusted_;  // ascending, disjoint, not adjacent
};

// Answers for ascending offsets whether a byte is trusted.
class TrustCursor {
 public:
  explicit TrustCursor(const TrackedText& text) : ranges_(text.trusted()) {}
  bool At(size_t offset) {
    while (next_ < ranges_.size() && ranges_[next_].end <= offset) ++next_;
    return next_ < ranges_.size() && ranges_[next_].begin <= offset;
  }

 private:
  std::span<const TextRange> ranges_;
  size_t next_ = 0;
};

}  // namespace hga::chat

#endif  // HGA_MODEL_CHAT_TEMPLATE_TEXT_H_
