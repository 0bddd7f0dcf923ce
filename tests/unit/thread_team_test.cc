// SPDX-License-Identifier: Apache-2.0
// The team runs every task of every loop exactly once, whoever sleeps or wakes late.
#include "cpu/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace hga::cpu {
namespace {

TEST(ThreadTeamTest, EveryTaskOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadTeam team(threads);
    ASSERT_EQ(team.size(), threads);
    for (int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<int> runs(static_cast<size_t>(count), 0);  // plain: a second run would be a race
      team.Run(count, [&](int64_t task, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        ++runs[static_cast<size_t>(task)];
      });
      EXPECT_EQ(std::accumulate(runs.begin(), runs.end(), int64_t{0}), count);
      for (int r : runs) EXPECT_EQ(r, 1);
    }
  }
}

// What a loop writes, the next one reads, on whatever thread: the hand-over must order memory.
TEST(ThreadTeamTest, LoopsSeeWhatEarlierLoopsWrote) {
  ThreadTeam team(4);
  constexpr int64_t kSize = 257;
  std::vector<int64_t> a(kSize, 0), b(kSize, 0);
  for (int64_t round = 1; round <= 2000; ++round) {
    team.Run(kSize, [&](int64_t i, int) { a[static_cast<size_t>(i)] = round + i; });
    team.Run(kSize, [&](int64_t i, int) {
      b[static_cast<size_t>(i)] = a[static_cast<size_t>((i * 31) % kSize)];
    });
    for (int64_t i = 0; i < kSize; ++i) {
      ASSERT_EQ(b[static_cast<size_t>(i)], round + (i * 31) % kSize) << "round " << round;
    }
  }
}

// Pauses longer than the spin send workers to sleep; the next loop must wake them or do without.
TEST(ThreadTeamTest, SleepersWake) {
  ThreadTeam team(3);
  for (int round = 0; round < 40; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(round % 4 * 400));
    std::atomic<int> done{0};
    team.Run(5, [&](int64_t, int) { done.fetch_add(1); });
    ASSERT_EQ(done.load(), 5);
  }
}

// A worker number belongs to one thread at a time: its scratch needs no lock.
TEST(ThreadTeamTest, AWorkerIsNeverTwoThreads) {
  ThreadTeam team(4);
  std::vector<std::atomic<int>> inside(4);
  for (int round = 0; round < 200; ++round) {
    team.Run(16, [&](int64_t, int worker) {
      ASSERT_EQ(inside[static_cast<size_t>(worker)].fetch_add(1), 0);
      std::this_thread::yield();
      inside[static_cast<size_t>(worker)].fetch_sub(1);
    });
  }
}

// Ended while workers spin, fall asleep and sleep.
TEST(ThreadTeamTest, EndsAtAnyMoment) {
  for (int pause = 0; pause < 1200; pause += 3) {
    ThreadTeam team(3);
    std::atomic<int> tasks{0};
    team.Run(3, [&](int64_t, int) { ++tasks; });
    ASSERT_EQ(tasks, 3);
    std::this_thread::sleep_for(std::chrono::microseconds(pause));
  }
}

TEST(ThreadTeamTest, UsableCoresIsPositive) { EXPECT_GE(UsableCores(), 1); }

}  // namespace
}  // namespace hga::cpu
