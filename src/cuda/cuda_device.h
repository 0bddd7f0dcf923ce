// SPDX-License-Identifier: Apache-2.0
// One GPU as a Device: plain allocations under a hard limit, pinned host memory, streams, events.
#ifndef HGA_CUDA_CUDA_DEVICE_H_
#define HGA_CUDA_CUDA_DEVICE_H_

#include <memory>
#include <string>

#include "backend/device.h"
#include "cuda/queue.h"

namespace hga::cuda {

class CudaStream final : public Stream {
 public:
  static Result<std::unique_ptr<CudaStream>> Make(int ordinal);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void Copy(void* to, const void* from, int64_t bytes) override;
  void Fill(void* to, uint8_t value, int64_t bytes) override;
  void After(const Event& event) override;
  Status Wait() override;
  Queue queue() { return {stream_, &latch_}; }
  const Status& status() const { return latch_.status(); }
  // Notes a failure that is not the driver's.
  void Fail(Status status) { latch_.Note(std::move(status)); }

 private:
  CudaStream(int ordinal, cudaStream_t stream) : ordinal_(ordinal), stream_(stream) {}
  int ordinal_;
  cudaStream_t stream_;
  ErrorLatch latch_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, int64_t limit) : ordinal_(ordinal), limit_(limit) {}

  std::string name() const override { return "cuda:" + std::to_string(ordinal_); }
  bool host_memory() const override { return false; }
  int64_t limit() const override { return limit_; }
  Result<std::unique_ptr<Stream>> NewStream() override;
  Result<std::unique_ptr<Event>> NewEvent() override;
  int ordinal() const { return ordinal_; }

 protected:
  Result<std::byte*> Get(int64_t bytes, MemoryKind kind) override;
  void Free(std::byte* data, int64_t bytes, MemoryKind kind) override;

 private:
  int ordinal_;
  int64_t limit_;
};

}  // namespace hga::cuda

#endif  // HGA_CUDA_CUDA_DEVICE_H_
