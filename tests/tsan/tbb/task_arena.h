// SPDX-License-Identifier: Apache-2.0
// Stands in for TBB in the thread-sanitizer build: libtbb is not instrumented, so every hand-over
// of its own would be reported. Here plain threads do the work, and races that remain are ours.
#ifndef HGA_TESTS_TSAN_TBB_TASK_ARENA_H_
#define HGA_TESTS_TSAN_TBB_TASK_ARENA_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

namespace tbb {

namespace tsan {
inline thread_local int concurrency = 0;  // of the arena this thread runs in; 0: none
inline thread_local int index = 0;        // of this thread in it
inline thread_local bool inside = false;  // already in a parallel region: stay on this thread
}  // namespace tsan

namespace info {
inline int default_concurrency() {
  return std::max(2, static_cast<int>(std::thread::hardware_concurrency()));
}
}  // namespace info

class task_arena {
 public:
  static constexpr int automatic = -1;
  explicit task_arena(int concurrency = automatic)
      : concurrency_(concurrency > 0 ? concurrency : info::default_concurrency()) {}

  int max_concurrency() const { return concurrency_; }

  template <class F>
  auto execute(F&& f) -> decltype(f()) {
    struct Restore {
      int concurrency = tsan::concurrency;
      ~Restore() { tsan::concurrency = concurrency; }
    } restore;
    tsan::concurrency = concurrency_;
    return std::forward<F>(f)();
  }

 private:
  int concurrency_;
};

namespace this_task_arena {
inline int current_thread_index() { return tsan::index; }
inline int max_concurrency() {
  return tsan::concurrency > 0 ? tsan::concurrency : info::default_concurrency();
}
}  // namespace this_task_arena

}  // namespace tbb

#endif  // HGA_TESTS_TSAN_TBB_TASK_ARENA_H_
