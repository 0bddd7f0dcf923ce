// SPDX-License-Identifier: Apache-2.0
// The probe's figures must agree with each other and with the clock; what they are on this machine
// is printed.
#include "store/probe.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/rigs/fault_io.h"
#include "tests/unit/io_fixture.h"

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

void Print(const char* what, const ProbeFigures& f) {
  fmt::print(
      "  {:14} depth {:2}, {:7} B: {:8.0f} /s, {:7.3f} GB/s, median {:7.1f} us, p99 {:7.1f} us\n",
      what, f.queue_depth, f.transfer_bytes, f.transfers_per_second, f.bytes_per_second / 1e9,
      f.median_us, f.p99_us);
}

void Check(const ProbeFigures& f, int depth, int64_t bytes, double seconds) {
  EXPECT_EQ(f.queue_depth, depth);
  EXPECT_EQ(f.transfer_bytes, bytes);
  EXPECT_GE(f.seconds, seconds);
  EXPECT_GE(f.transfers, depth);
  EXPECT_DOUBLE_EQ(f.transfers_per_second, static_cast<double>(f.transfers) / f.seconds);
  EXPECT_DOUBLE_EQ(f.bytes_per_second, f.transfers_per_second * static_cast<double>(bytes));
  EXPECT_GT(f.median_us, 0);
  EXPECT_LE(f.median_us, f.p99_us);
  EXPECT_LE(f.p99_us, f.seconds * 1e6);
  // Little's law: transfers in flight are the rate times the time of each, which is at least the
  // median of half of them.
  EXPECT_LE(f.transfers_per_second * f.median_us / 2 * 1e-6, depth * 1.01);
}

class ProbeTest : public testing::TestWithParam<IoChoice> {};

TEST_P(ProbeTest, FiguresAgreeWithEachOther) {
  auto io = OpenIo(GetParam(), 32, nullptr);
  if (!io.ok()) GTEST_SKIP() << "skipped: " << io.status().message();
  const ScratchDirectory scratch;
  const Result<DiskProbe> probe =
      ProbeDisk(io->get(), scratch.path(), {.file_bytes = 16 * kMiB, .seconds = 0.1});
  ASSERT_TRUE(probe.ok()) << probe.status().message();
  fmt::print("{} on {}, {}\n", probe->backend, probe->file_system.name,
             probe->direct ? "direct" : "through the page cache");
  Print("random reads", probe->random_reads_1);
  Print("random reads", probe->random_reads_64);
  Print("reads", probe->reads);
  Print("writes", probe->writes);
  Check(probe->random_reads_1, 1, kIoAlignment, 0.1);
  Check(probe->random_reads_64, 32, kIoAlignment, 0.1);
  Check(probe->reads, 8, kMiB, 0.1);
  Check(probe->writes, 8, kMiB, 0.1);
  EXPECT_EQ((*io)->in_flight(), 0);
  EXPECT_TRUE((*io)->List(scratch.path())->empty());
}

TEST_P(ProbeTest, ErrorsOfTheDiskAreTold) {
  auto io = OpenIo(GetParam(), 32, nullptr);
  if (!io.ok()) GTEST_SKIP() << "skipped: " << io.status().message();
  const ScratchDirectory scratch;
  const ProbeOptions options{.file_bytes = 2 * kMiB, .seconds = 0.01};
  rigs::FaultIo faulty(io->get(), {.kind = rigs::FaultKind::kEio, .at = 1});
  EXPECT_EQ(ProbeDisk(&faulty, scratch.path(), options).status().code(), StatusCode::kIoError);
  faulty.Set({rigs::FaultKind::kEio, 0, true, IoOp::kRead});
  const Status read = ProbeDisk(&faulty, scratch.path(), options).status();
  EXPECT_EQ(read.code(), StatusCode::kIoError);
  EXPECT_THAT(read.message(), HasSubstr("a read of 4096 bytes: Input/output error"));
  faulty.Set({.kind = rigs::FaultKind::kAllocateEnospc});
  EXPECT_EQ(ProbeDisk(&faulty, scratch.path(), options).status().code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ((*io)->in_flight(), 0);
  for (const ProbeOptions& bad :
       {ProbeOptions{.file_bytes = 0}, ProbeOptions{.file_bytes = kMiB + 1},
        ProbeOptions{.seconds = 0}, ProbeOptions{.seconds = 1e9}}) {
    EXPECT_EQ(ProbeDisk(io->get(), scratch.path(), bad).status().code(),
              StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(ProbeDisk(io->get(), scratch.path() + "/absent", options).status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(ProbeDisk(io->get(), scratch.path(), {.file_bytes = int64_t{1} << 60}).status().code(),
            StatusCode::kResourceExhausted);
}

INSTANTIATE_TEST_SUITE_P(All, ProbeTest, testing::Values(IoChoice::kUring, IoChoice::kThreads),
                         [](const auto& row) {
                           return row.param == IoChoice::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace hga
