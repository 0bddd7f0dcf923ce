// SPDX-License-Identifier: Apache-2.0
// Every I/O call of a story fails once, in every way, on every kind of disk; and from each call on
// all fail. Nothing is wrong, nothing hangs, all comes back.
// HGA_FAULT_POINTS=N: pairs of call and fault over all disks (5,000). HGA_FAULT_AT="kind call
// sticky seed disk" plays one of them.
#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/fault/rig_script.h"

namespace hga::rigs {
namespace {

constexpr int kMostSeconds = 10;  // of one point
constexpr int kFirstFault = 1;
constexpr int kFaults = static_cast<int>(kLastFault);

struct Point {
  DiskKind disk = DiskKind::kSimulated;
  uint64_t seed = 0;  // of the story
  Fault fault = {};
  std::string Name() const {
    return fmt::format("HGA_FAULT_AT=\"{} {} {} {} {}\": {} at call {}{} on {}",
                       static_cast<int>(fault.kind), fault.at, fault.sticky ? 1 : 0, seed,
                       static_cast<int>(disk), NameOf(fault.kind), fault.at,
                       fault.sticky ? " and after" : "", NameOf(disk));
  }
};

// Ends the program when a point takes too long, saying which.
char watched[256];
extern "C" void Hangs(int) {
  static constexpr char kText[] = "\nhangs: ";
  // Nothing can be done about a failing write here.
  if (write(STDERR_FILENO, kText, sizeof(kText) - 1) < 0) _exit(4);
  if (write(STDERR_FILENO, watched, strlen(watched)) < 0) _exit(4);
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  _exit(3);
}

class Watchdog {
 public:
  explicit Watchdog(const std::string& name) {
    snprintf(watched, sizeof(watched), "%s\n", name.c_str());
    signal(SIGALRM, &Hangs);
    alarm(kMostSeconds);
  }
  ~Watchdog() { alarm(0); }
};

struct Outcome {
  bool fired = false;
  bool ended = false;  // with an error
  int64_t calls = 0;
  int64_t recomputed = 0;
  int64_t retried = 0;
};

Result<std::unique_ptr<RigDisk>> OpenDisk(DiskKind kind, uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  options.log = false;
  return RigDisk::Open(kind, options);
}

Outcome PlayPoint(const Point& point) {
  const Watchdog watchdog(point.Name());
  Outcome outcome;
  auto disk = OpenDisk(point.disk, point.seed);
  EXPECT_TRUE(disk.ok()) << disk.status().message();
  if (!disk.ok()) return outcome;
  (*disk)->faults().Set(point.fault);
  RigScript script(disk->get(), point.seed);
  const Status status = script.Play(point.fault.sticky ? 0 : 2);
  outcome.fired = (*disk)->faults().fired();
  outcome.calls = (*disk)->faults().calls();
  outcome.ended = !status.ok();
  EXPECT_TRUE(status.ok() || point.fault.sticky)
      << point.Name() << ": '" << script.step() << "' does not get over it: " << status.message();
  EXPECT_EQ(script.End(), "") << point.Name() << ", after '" << script.step()
                              << "': " << status.message();
  outcome.recomputed = script.report().recomputed;
  outcome.retried = script.retried();
  return outcome;
}

// All points of one story on one disk, in random order.
std::vector<Point> PointsOf(DiskKind disk, uint64_t seed) {
  std::vector<Point> points;
  for (int kind = kFirstFault; kind <= kFaults; ++kind) {
    Point never{disk, seed, {static_cast<FaultKind>(kind), int64_t{1} << 40, false}};
    const int64_t calls = PlayPoint(never).calls;
    for (int64_t call = 0; call < calls; ++call) {
      for (const bool sticky : {false, true}) {
        points.push_back({disk, seed, {never.fault.kind, call, sticky}});
      }
    }
  }
  std::mt19937_64 random(seed);
  std::ranges::shuffle(points, random);
  return points;
}

struct Totals {
  int64_t points = 0, ended = 0, recomputed = 0, retried = 0, stories = 0;
};

Totals PlayMany(DiskKind disk, int64_t wanted) {
  Totals totals;
  for (uint64_t seed = 1; totals.points < wanted && !testing::Test::HasFailure(); ++seed) {
    ++totals.stories;
    for (const Point& point : PointsOf(disk, seed)) {
      if (totals.points == wanted || testing::Test::HasFailure()) break;
      const Outcome outcome = PlayPoint(point);
      totals.points += outcome.fired ? 1 : 0;
      totals.ended += outcome.ended ? 1 : 0;
      totals.recomputed += outcome.recomputed;
      totals.retried += outcome.retried;
    }
  }
  return totals;
}

// Part of all points that this disk plays.
void Play(DiskKind disk, int64_t percent) {
  if (getenv("HGA_FAULT_AT") != nullptr) GTEST_SKIP() << "one point is wanted";
  const auto opened = OpenDisk(disk, 1);
  if (!opened.ok() && opened.status().code() == StatusCode::kUnsupported) {
    GTEST_SKIP() << "skipped: " << opened.status().message();
  }
  const Totals t = PlayMany(disk, FromEnvironment("HGA_FAULT_POINTS", 5000) * percent / 100);
  std::printf(
      "%s: %lld points of call and fault in %lld stories, %lld ended with an error, %lld "
      "steps taken again, %lld tokens recomputed\n",
      NameOf(disk), static_cast<long long>(t.points), static_cast<long long>(t.stories),
      static_cast<long long>(t.ended), static_cast<long long>(t.retried),
      static_cast<long long>(t.recomputed));
}

TEST(FaultLoop, SimulatedDisk) { Play(DiskKind::kSimulated, 92); }
TEST(FaultLoop, Threads) { Play(DiskKind::kThreads, 4); }
TEST(FaultLoop, IoUring) { Play(DiskKind::kUring, 4); }

TEST(FaultLoop, OnePoint) {
  const char* text = getenv("HGA_FAULT_AT");
  if (text == nullptr) GTEST_SKIP() << "plays the point of HGA_FAULT_AT";
  int kind = 0, sticky = 0, disk = 0;
  long long call = 0, seed = 0;
  ASSERT_EQ(sscanf(text, "%d %lld %d %lld %d", &kind, &call, &sticky, &seed, &disk), 5);
  const Point point{static_cast<DiskKind>(disk),
                    static_cast<uint64_t>(seed),
                    {static_cast<FaultKind>(kind), call, sticky != 0}};
  const Outcome outcome = PlayPoint(point);
  std::printf("%s: %s\n", point.Name().c_str(), outcome.fired ? "fired" : "did not fire");
}

}  // namespace
}  // namespace hga::rigs
