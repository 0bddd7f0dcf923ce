// SPDX-License-Identifier: Apache-2.0
// Devices: accounting under a limit, ownership, copies; on the CPU, and on a GPU where there is
// one.
#include "backend/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "backend/host_device.h"
#include "backend/ops.h"
#include "reference/reference.h"
#if HGA_WITH_CUDA
#include "cuda/cuda_backend.h"
#endif

namespace hga {
namespace {

constexpr int64_t kMegabyte = int64_t{1} << 20;

// Memory is counted while it is owned, moves included.
void ExpectAccounted(Device& device) {
  const int64_t before = device.used();
  {
    auto a = device.Allocate(3 * kMegabyte), b = device.Allocate(kMegabyte);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_EQ(device.used(), before + 4 * kMegabyte);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a->data()) % 256, 0u);
    DeviceMemory moved = std::move(a).value();
    EXPECT_EQ(moved.size(), 3 * kMegabyte);
    EXPECT_EQ(device.used(), before + 4 * kMegabyte);
    moved = std::move(b).value();
    EXPECT_EQ(moved.size(), kMegabyte);
    const auto pinned = device.Allocate(kMegabyte, MemoryKind::kPinned);
    ASSERT_TRUE(pinned.ok()) << pinned.status().message();
    EXPECT_EQ(device.used(), before + 4 * kMegabyte) << "pinned memory is the host's";
  }
  EXPECT_EQ(device.used(), before);
  EXPECT_TRUE(device.Allocate(0).ok());
  EXPECT_EQ(device.Allocate(-1).status().code(), StatusCode::kInvalidArgument);
}

// Bytes come back as they went, through a stream that waits for an event of another.
void ExpectCopies(Device& device) {
  std::vector<uint8_t> from(33 * kMegabyte);  // more than one piece of an upload
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
  const auto bytes = static_cast<int64_t>(from.size());
  auto there = device.Allocate(bytes), back = device.Allocate(bytes, MemoryKind::kPinned);
  ASSERT_TRUE(there.ok() && back.ok());
  ASSERT_TRUE(Upload(device, there->data(), from.data(), bytes).ok());
  auto first = device.NewStream(), second = device.NewStream();
  auto start = device.NewEvent(), done = device.NewEvent();
  ASSERT_TRUE(first.ok() && second.ok() && start.ok() && done.ok());
  (*start)->Record(**first);
  (*first)->Fill(there->data() + 5, 0xEE, 3);
  (*done)->Record(**first);
  (*second)->After(**done);
  (*second)->Copy(back->data(), there->data(), bytes);
  ASSERT_TRUE((*second)->Wait().ok());
  EXPECT_TRUE((*done)->Wait().ok());
  EXPECT_TRUE(*(*done)->Reached());
  EXPECT_GE(*(*done)->SecondsSince(**start), 0.0);
  std::fill_n(from.begin() + 5, 3, uint8_t{0xEE});
  EXPECT_EQ(std::memcmp(back->data(), from.data(), from.size()), 0);
}

TEST(HostDevice, CountsMemory) {
  HostDevice device;
  ExpectAccounted(device);
}

TEST(HostDevice, Copies) {
  HostDevice device;
  ExpectCopies(device);
}

TEST(HostDevice, MemoryStartsAsZeros) {
  HostDevice device;
  const auto memory = device.Allocate(kMegabyte);
  ASSERT_TRUE(memory.ok());
  for (int64_t i = 0; i < memory->size(); i += 511) EXPECT_EQ(memory->as<uint8_t>()[i], 0);
}

#if HGA_WITH_CUDA

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (CudaDeviceCount() == 0) GTEST_SKIP() << "skipped: no GPU";
  }
};

TEST_F(CudaDeviceTest, CountsMemoryAndCopies) {
  auto ops = OpenCuda(0, {});
  ASSERT_TRUE(ops.ok()) << ops.status().message();
  EXPECT_FALSE((*ops)->device().host_memory());
  ExpectAccounted((*ops)->device());
  ExpectCopies((*ops)->device());
}

TEST_F(CudaDeviceTest, LimitIsHard) {
  BackendOptions options;
  options.device_memory = 10 * kMegabyte;
  auto ops = OpenCuda(0, options);
  ASSERT_TRUE(ops.ok()) << ops.status().message();
  Device& device = (*ops)->device();
  const auto most = device.Allocate(10 * kMegabyte);
  ASSERT_TRUE(most.ok());
  const auto more = device.Allocate(1);
  ASSERT_EQ(more.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(more.status().message().find("10485760"), std::string::npos);
  OpsLimits limits;
  limits.shape = {8, 2, 128};
  limits.rows = 1;
  limits.context = 64;
  EXPECT_EQ((*ops)->Prepare(limits).code(), StatusCode::kResourceExhausted);
}

// A step for which no scratch was prepared fails without touching memory, and the failure stays.
TEST_F(CudaDeviceTest, FailuresStick) {
  auto ops = OpenCuda(0, {});
  ASSERT_TRUE(ops.ok()) << ops.status().message();
  EXPECT_TRUE((*ops)->status().ok());
  AttendDenseParams p;
  p.shape = {8, 2, 128};
  p.queries = 1;
  (*ops)->AttendDense(p);
  EXPECT_EQ((*ops)->status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ((*ops)->stream().Wait().code(), StatusCode::kResourceExhausted);
}

TEST_F(CudaDeviceTest, OtherHeadSizesAreRefused) {
  auto ops = OpenCuda(0, {});
  ASSERT_TRUE(ops.ok()) << ops.status().message();
  OpsLimits limits;
  limits.shape = {8, 2, 96};
  EXPECT_EQ((*ops)->Prepare(limits).code(), StatusCode::kUnsupported);
}

TEST(CudaDevice, NoSuchGpu) {
  EXPECT_EQ(OpenCuda(CudaDeviceCount(), {}).status().code(), StatusCode::kUnsupported);
}

#endif

}  // namespace
}  // namespace hga
