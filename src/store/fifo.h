// SPDX-License-Identifier: Apache-2.0
// A queue that keeps its memory: std::deque gives pieces back and asks for them again for ever.
#ifndef HGA_STORE_FIFO_H_
#define HGA_STORE_FIFO_H_

#include <cstddef>
#include <utility>
#include <vector>

namespace hga {

// First in, first out. Grows by doubling, never shrinks: once it was at its largest, nothing is
// allocated any more.
template <typename T>
class Fifo {
 public:
  explicit Fifo(size_t capacity = 16) : ring_(capacity > 0 ? capacity : 1) {}

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  T& front() { return ring_[head_]; }

  void push(T value) {
    if (size_ == ring_.size()) Grow();
    ring_[(head_ + size_) % ring_.size()] = std::move(value);
    ++size_;
  }
  T pop() {
    T value = std::move(ring_[head_]);
    head_ = (head_ + 1) % ring_.size();
    --size_;
    return value;
  }

 private:
  void Grow() {
    std::vector<T> larger(ring_.size() * 2);
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move(ring_[(head_ + i) % ring_.size()]);
    ring_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> ring_;
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace hga

#endif  // HGA_STORE_FIFO_H_
