// SPDX-License-Identifier: Apache-2.0
// Allocations, copies and marks through the CUDA runtime; every call's result is looked at.
#include "cuda/cuda_device.h"

#include <fmt/format.h>

namespace hga::cuda {
namespace {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  // A failure to destroy leaves nothing to do and reports itself with the next call.
  ~CudaEvent() override { static_cast<void>(cudaEventDestroy(event_)); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void Record(Stream& stream) override {
    const Queue queue = static_cast<CudaStream&>(stream).queue();
    queue.latch->Note(cudaEventRecord(event_, queue.stream), "cudaEventRecord");
  }
  Result<bool> Reached() const override {
    const cudaError_t code = cudaEventQuery(event_);
    if (code == cudaErrorNotReady) return false;
    HGA_RETURN_IF_ERROR(StatusOf(code, "cudaEventQuery"));
    return true;
  }
  Status Wait() override { return StatusOf(cudaEventSynchronize(event_), "cudaEventSynchronize"); }
  Result<double> SecondsSince(const Event& earlier) const override {
    float milliseconds = 0;
    const cudaEvent_t start = static_cast<const CudaEvent&>(earlier).event_;
    HGA_RETURN_IF_ERROR(
        StatusOf(cudaEventElapsedTime(&milliseconds, start, event_), "cudaEventElapsedTime"));
    return static_cast<double>(milliseconds) * 1e-3;
  }
  cudaEvent_t event() const { return event_; }

 private:
  cudaEvent_t event_;
};

}  // namespace

Status StatusOf(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return OkStatus();
  std::string message =
      fmt::format("{}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code));
  if (code == cudaErrorMemoryAllocation) return ResourceExhausted(std::move(message));
  return Internal(std::move(message));
}

void ErrorLatch::Note(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

Result<std::unique_ptr<CudaStream>> CudaStream::Make(int ordinal) {
  cudaStream_t stream = nullptr;
  HGA_RETURN_IF_ERROR(StatusOf(cudaSetDevice(ordinal), "cudaSetDevice"));
  HGA_RETURN_IF_ERROR(StatusOf(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                               "cudaStreamCreateWithFlags"));
  return std::unique_ptr<CudaStream>(new CudaStream(ordinal, stream));
}

CudaStream::~CudaStream() { static_cast<void>(cudaStreamDestroy(stream_)); }

void CudaStream::Copy(void* to, const void* from, int64_t bytes) {
  if (bytes <= 0) return;
  latch_.Note(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream_),
              "cudaMemcpyAsync");
}

void CudaStream::Fill(void* to, uint8_t value, int64_t bytes) {
  if (bytes <= 0) return;
  latch_.Note(cudaMemsetAsync(to, value, static_cast<size_t>(bytes), stream_), "cudaMemsetAsync");
}

void CudaStream::After(const Event& event) {
  latch_.Note(cudaStreamWaitEvent(stream_, static_cast<const CudaEvent&>(event).event(), 0),
              "cudaStreamWaitEvent");
}

Status CudaStream::Wait() {
  latch_.Note(cudaSetDevice(ordinal_), "cudaSetDevice");
  latch_.Note(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  return latch_.status();
}

Result<std::unique_ptr<Stream>> CudaDevice::NewStream() {
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<CudaStream> stream, CudaStream::Make(ordinal_));
  return std::unique_ptr<Stream>(std::move(stream));
}

Result<std::unique_ptr<Event>> CudaDevice::NewEvent() {
  cudaEvent_t event = nullptr;
  HGA_RETURN_IF_ERROR(StatusOf(cudaSetDevice(ordinal_), "cudaSetDevice"));
  HGA_RETURN_IF_ERROR(StatusOf(cudaEventCreate(&event), "cudaEventCreate"));
  return std::unique_ptr<Event>(std::make_unique<CudaEvent>(event));
}

Result<std::byte*> CudaDevice::Get(int64_t bytes, MemoryKind kind) {
  void* data = nullptr;
  HGA_RETURN_IF_ERROR(StatusOf(cudaSetDevice(ordinal_), "cudaSetDevice"));
  const bool pinned = kind == MemoryKind::kPinned;
  const cudaError_t code = pinned ? cudaMallocHost(&data, static_cast<size_t>(bytes))
                                  : cudaMalloc(&data, static_cast<size_t>(bytes));
  if (code != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // a refused allocation leaves the device usable
    return StatusOf(
        code, fmt::format("{}: {} bytes of {} memory", name(), bytes, pinned ? "pinned" : "device")
                  .c_str());
  }
  return static_cast<std::byte*>(data);
}

void CudaDevice::Free(std::byte* data, int64_t, MemoryKind kind) {
  // Waits for work that still uses the memory. Nothing can be done about a failure here.
  static_cast<void>(kind == MemoryKind::kPinned ? cudaFreeHost(data) : cudaFree(data));
}

}  // namespace hga::cuda
