// SPDX-License-Identifier: Apache-2.0
// The parallel loop that stands in for TBB's in the thread-sanitizer build (see task_arena.h).
#ifndef HGA_TESTS_TSAN_TBB_PARALLEL_FOR_H_
#define HGA_TESTS_TSAN_TBB_PARALLEL_FOR_H_

#include "tbb/task_arena.h"

namespace tbb {

template <class Index>
class blocked_range {
 public:
  blocked_range(Index begin, Index end, size_t grain = 1)
      : begin_(begin), end_(end), grain_(grain > 0 ? grain : 1) {}
  Index begin() const { return begin_; }
  Index end() const { return end_; }
  size_t size() const { return static_cast<size_t>(end_ - begin_); }
  bool empty() const { return !(begin_ < end_); }
  size_t grainsize() const { return grain_; }

 private:
  Index begin_;
  Index end_;
  size_t grain_;
};

struct simple_partitioner {};
struct auto_partitioner {};
struct static_partitioner {};

template <class Index, class Body, class Partitioner = simple_partitioner>
void parallel_for(const blocked_range<Index>& range, const Body& body, Partitioner&& = {}) {
  if (range.empty()) return;
  const auto grain = static_cast<Index>(range.grainsize());
  const int64_t pieces = static_cast<int64_t>((range.size() + range.grainsize() - 1) / grain);
  // Relaxed: an ordering here would hide races between the pieces.
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (;;) {
      const int64_t piece = next.fetch_add(1, std::memory_order_relaxed);
      if (piece >= pieces) return;
      const Index first = range.begin() + static_cast<Index>(piece) * grain;
      body(blocked_range<Index>(first, std::min<Index>(first + grain, range.end()), grain));
    }
  };
  if (tsan::inside) return work();
  const int threads =
      static_cast<int>(std::min<int64_t>(pieces, this_task_arena::max_concurrency()));
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) {
    others.emplace_back([&work, i] {
      tsan::index = i;
      tsan::inside = true;
      work();
    });
  }
  tsan::inside = true;
  work();
  tsan::inside = false;
  for (std::thread& other : others) other.join();
}

template <class Index, class Body>
void parallel_for(Index first, Index last, const Body& body) {
  parallel_for(blocked_range<Index>(first, last), [&](const blocked_range<Index>& range) {
    for (Index i = range.begin(); i < range.end(); ++i) body(i);
  });
}

}  // namespace tbb

#endif  // HGA_TESTS_TSAN_TBB_PARALLEL_FOR_H_
