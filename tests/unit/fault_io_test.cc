// SPDX-License-Identifier: Apache-2.0
// The layer of faults must hit the call it was told to hit, and no other.
#include "store/rigs/fault_io.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

#include "store/rigs/sim_disk.h"
#include "tests/unit/io_fixture.h"

namespace hga::rigs {
namespace {

constexpr int64_t kUnit = kIoAlignment;

class FaultIoTest : public testing::Test {
 protected:
  FaultIoTest() {
    EXPECT_TRUE(disk_.MakeDirectory("d").ok());
    file_ = *disk_.OpenFile("d/a", OpenMode::kCreate);
    EXPECT_TRUE(disk_.Allocate(file_, 4 * kUnit).ok());
  }
  int64_t Run(IoOp op, int64_t units) {
    const IoRequest request{op, file_, 0, memory_.data(), units * kUnit, 7};
    EXPECT_EQ(faulty_.Submit({&request, 1}), 1);
    IoCompletion completion;
    EXPECT_EQ(faulty_.Reap({&completion, 1}, 1), 1);
    EXPECT_EQ(completion.tag, 7u);
    return completion.result;
  }

  SimDisk disk_{SimOptions{}};
  FaultIo faulty_{&disk_, Fault{}};
  IoMemory memory_{4 * kUnit};
  int file_ = -1;
};

TEST_F(FaultIoTest, CallsFailAtTheirNumberOnceOrForEver) {
  struct {
    FaultKind kind;
    StatusCode code;
    std::function<Status()> call;
  } cases[] = {
      {FaultKind::kSyncEio, StatusCode::kIoError, [&] { return faulty_.Sync(file_); }},
      {FaultKind::kAllocateEnospc, StatusCode::kResourceExhausted,
       [&] { return faulty_.Allocate(file_, kUnit); }},
      {FaultKind::kOpenEio, StatusCode::kIoError,
       [&] { return faulty_.OpenFile("d/a", OpenMode::kRead).status(); }},
      {FaultKind::kOpenEacces, StatusCode::kIoError,
       [&] { return faulty_.OpenFile("d/a", OpenMode::kRead).status(); }},
      {FaultKind::kLockHeld, StatusCode::kResourceExhausted, [&] { return faulty_.Lock(file_); }},
      {FaultKind::kNamesEio, StatusCode::kIoError, [&] { return faulty_.SyncDirectory("d"); }},
      {FaultKind::kNamesEio, StatusCode::kIoError, [&] { return faulty_.List("d").status(); }},
      {FaultKind::kNamesEio, StatusCode::kIoError, [&] { return faulty_.MakeDirectory("d"); }},
      {FaultKind::kNamesEio, StatusCode::kIoError, [&] { return faulty_.Rename("d/a", "d/a"); }},
  };
  for (const auto& fault : cases) {
    for (const bool sticky : {false, true}) {
      faulty_.Set({.kind = fault.kind, .at = 2, .sticky = sticky});
      for (int i = 0; i < 5; ++i) {
        const bool fails = sticky ? i >= 2 : i == 2;
        const StatusCode code = fails ? fault.code : StatusCode::kOk;
        EXPECT_EQ(fault.call().code(), code) << NameOf(fault.kind) << " call " << i;
        EXPECT_EQ(faulty_.fired(), i >= 2);
      }
      EXPECT_EQ(faulty_.calls(), 5);
      EXPECT_EQ(faulty_.fires(), sticky ? 3 : 1);
    }
  }
  EXPECT_EQ(disk_.Files(), std::vector<std::string>{"d/a"});
}

TEST_F(FaultIoTest, ResultsOfTransfersAreThoseAskedFor) {
  const std::pair<FaultKind, int64_t> results[] = {
      {FaultKind::kNone, 4 * kUnit},
      {FaultKind::kShortAligned, 2 * kUnit},
      {FaultKind::kShortUnaligned, kUnit + 1096},
      {FaultKind::kZeroBytes, 0},
      {FaultKind::kTooManyBytes, 5 * kUnit},
      {FaultKind::kEio, -EIO},
      {FaultKind::kEnospc, -ENOSPC},
      {FaultKind::kEagain, -EAGAIN},
      {FaultKind::kEintr, -EINTR},
      {FaultKind::kEcanceled, -ECANCELED},
      {FaultKind::kLate, 4 * kUnit},
      {FaultKind::kReordered, 4 * kUnit},
  };
  for (const auto& [kind, result] : results) {
    for (const IoOp op : {IoOp::kRead, IoOp::kWrite}) {
      disk_.SetContent("d/a", std::vector<std::byte>(4 * kUnit));
      std::ranges::fill(memory_.all(), std::byte{1});
      faulty_.Set({.kind = kind});
      EXPECT_EQ(Run(op, 4), result) << NameOf(kind);
      EXPECT_EQ(faulty_.fired(), kind != FaultKind::kNone);
      // What was not moved: rubbish in the buffer, or zeros on the disk.
      const int64_t moved = std::clamp<int64_t>(result, 0, 4 * kUnit);
      const auto bytes = disk_.Content("d/a");
      for (int64_t at = 0; at < 4 * kUnit; at += 512) {
        if (op == IoOp::kRead) {
          EXPECT_EQ(memory_.data()[at], at < moved ? std::byte{0} : std::byte{0x5A});
        } else if (at < moved || at >= (moved + kUnit - 1) / kUnit * kUnit) {
          EXPECT_EQ(bytes[static_cast<size_t>(at)], at < moved ? std::byte{1} : std::byte{0});
        }
      }
    }
  }
}

TEST_F(FaultIoTest, OnlyTransfersOfOneDirectionCount) {
  faulty_.Set({.kind = FaultKind::kEio, .at = 1, .only = IoOp::kWrite});
  EXPECT_EQ(Run(IoOp::kRead, 1), kUnit);
  EXPECT_EQ(Run(IoOp::kWrite, 1), kUnit);
  EXPECT_EQ(Run(IoOp::kRead, 1), kUnit);
  EXPECT_EQ(Run(IoOp::kWrite, 1), -EIO);
  EXPECT_EQ(Run(IoOp::kWrite, 1), kUnit);
  EXPECT_EQ(faulty_.calls(), 3);
}

}  // namespace
}  // namespace hga::rigs
