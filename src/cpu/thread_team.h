// SPDX-License-Identifier: Apache-2.0
// Worker threads that share the tasks of one loop after another. A decoded token is some fifty
// loops of a few microseconds, so between loops the workers spin for a while before they sleep.
#ifndef HGA_CPU_THREAD_TEAM_H_
#define HGA_CPU_THREAD_TEAM_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace hga::cpu {

// Belongs to one caller at a time; tasks must not call Run.
class ThreadTeam {
 public:
  // `threads` counts the caller: one less is started.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // f(task, worker) for every task in [0, count), worker in [0, size()); returns when all are done.
  template <class F>
  void Run(int64_t count, const F& f) {
    if (count <= 1 || workers_.empty()) {
      for (int64_t i = 0; i < count; ++i) f(i, 0);
      return;
    }
    const auto call = [](const void* context, int64_t task, int worker) {
      (*static_cast<const F*>(context))(task, worker);
    };
    for (int64_t first = 0; first < count; first += kMostTasks) {
      const int64_t n = count - first < kMostTasks ? count - first : kMostTasks;
      RunJob({call, &f, first}, n);
    }
  }

 private:
  struct Job {
    void (*call)(const void* context, int64_t task, int worker) = nullptr;
    const void* context = nullptr;
    int64_t first = 0;
  };
  // The ticket packs {number of the job, its tasks, the next task}: a worker that wakes late finds
  // nothing left to claim and touches nothing else.
  static constexpr int kTaskBits = 22;
  static constexpr int64_t kMostTasks = (int64_t{1} << kTaskBits) - 1;

  void RunJob(const Job& job, int64_t count);
  bool RunTasks(int worker);  // false: nothing to claim
  void Work(int worker);

  std::vector<std::thread> workers_;
  Job job_;
  uint64_t jobs_ = 0;
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

// Cores this process may use.
int UsableCores();

}  // namespace hga::cpu

#endif  // HGA_CPU_THREAD_TEAM_H_
