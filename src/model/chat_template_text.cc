// SPDX-License-Identifier: Apache-2.0
// Ranges follow the bytes through appending and cutting.
#include "model/chat_template_text.h"

#include <algorithm>

namespace hga::chat {

void TrackedText::Trust(size_t begin, size_t end) {
  if (begin == end) return;
  if (!trusted_.empty() && trusted_.back().end == begin) {
    trusted_.back().end = end;
  } else {
    trusted_.push_back({begin, end});
  }
}

void TrackedText::Append(std::string_view bytes, bool trusted) {
  const size_t before = bytes_.size();
  bytes_ += bytes;
  if (trusted) Trust(before, bytes_.size());
}

void TrackedText::AppendPart(const TrackedText& other, size_t begin, size_t end) {
  const size_t before = bytes_.size();
  bytes_.append(other.bytes_, begin, end - begin);
  auto range = std::lower_bound(other.trusted_.begin(), other.trusted_.end(), begin,
                                [](const TextRange& r, size_t at) { return r.end <= at; });
  for (; range != other.trusted_.end() && range->begin < end; ++range) {
    Trust(before + std::max(range->begin, begin) - begin,
          before + std::min(range->end, end) - begin);
  }
}

TrackedText TrackedText::Part(size_t begin, size_t end) const {
  TrackedText part;
  part.AppendPart(*this, begin, end);
  return part;
}

void TrackedText::Truncate(size_t size) {
  bytes_.resize(size);
  while (!trusted_.empty() && trusted_.back().begin >= size) trusted_.pop_back();
  if (!trusted_.empty()) trusted_.back().end = std::min(trusted_.back().end, size);
}

}  // namespace hga::chat
