// SPDX-License-Identifier: Apache-2.0
// Claiming, waiting and waking.
#include "cpu/thread_team.h"

#include <sched.h>

#include <chrono>

namespace hga::cpu {
namespace {

// How long an idle worker spins: longer than the pause between two tokens, short against a person.
constexpr std::chrono::microseconds kSpin{500};
// Rounds between two looks at the clock, and after which a waiting caller lets others run.
constexpr int kRounds = 256;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadTeam::~ThreadTeam() {
  stop_.store(true);
  ticket_.store(++jobs_ << (2 * kTaskBits));  // a job without tasks
  ticket_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::RunJob(const Job& job, int64_t count) {
  job_ = job;
  done_.store(0, std::memory_order_relaxed);
  ++jobs_;
  ticket_.store(jobs_ << (2 * kTaskBits) | static_cast<uint64_t>(count) << kTaskBits);
  if (sleepers_.load() > 0) ticket_.notify_all();
  RunTasks(0);
  for (int round = 0; done_.load(std::memory_order_acquire) < count; ++round) {
    Pause();
    if (round % kRounds == kRounds - 1) std::this_thread::yield();
  }
}

bool ThreadTeam::RunTasks(int worker) {
  constexpr uint64_t kMask = static_cast<uint64_t>(kMostTasks);
  bool any = false;
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (true) {
    const uint64_t next = ticket & kMask;
    if (next >= (ticket >> kTaskBits & kMask)) return any;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    // The claimed task is not done, so the job it belongs to is still in place.
    job_.call(job_.context, job_.first + static_cast<int64_t>(next), worker);
    done_.fetch_add(1, std::memory_order_acq_rel);
    any = true;
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadTeam::Work(int worker) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point idle_since = Clock::now();
  for (int round = 0;; ++round) {
    const uint64_t seen = ticket_.load(std::memory_order_acquire);
    // After the ticket, never before it: no ticket follows the destructor's, so whoever waits on
    // that one sleeps for good.
    if (stop_.load(std::memory_order_relaxed)) return;
    if (RunTasks(worker)) {
      idle_since = Clock::now();
      continue;
    }
    Pause();
    if (round % kRounds != 0 || Clock::now() - idle_since < kSpin) continue;
    sleepers_.fetch_add(1);
    ticket_.wait(seen);  // returns at once if a job came since `seen`
    sleepers_.fetch_sub(1);
    idle_since = Clock::now();
  }
}

int UsableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  const int cores = CPU_COUNT(&set);
  return cores > 0 ? cores : 1;
}

}  // namespace hga::cpu
