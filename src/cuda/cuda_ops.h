// SPDX-License-Identifier: Apache-2.0
// Ops on one GPU: cuts each op into launches on one stream; scratch is allocated by Prepare.
#ifndef HGA_CUDA_CUDA_OPS_H_
#define HGA_CUDA_CUDA_OPS_H_

#include <memory>
#include <span>
#include <string>

#include "backend/ops.h"
#include "cuda/attend/config.h"
#include "cuda/cuda_device.h"
#include "cuda/route/config.h"

namespace hga::cuda {

class CudaOps final : public Ops {
 public:
  CudaOps(std::unique_ptr<CudaDevice> device, std::unique_ptr<CudaStream> stream, std::string name)
      : device_(std::move(device)), stream_(std::move(stream)), name_(std::move(name)) {}

  std::string name() const override { return name_; }
  int threads() const override { return 1; }  // of the host
  Status Prepare(const OpsLimits& limits) override;
  int64_t ScratchBytes(const OpsLimits& limits, const ScratchUse& use) const override;
  Device& device() override { return *device_; }
  Stream& stream() override { return *stream_; }
  Status status() const override { return stream_->status(); }

  void Linear(std::span<const LinearParams> jobs) override;
  void Norm(const NormParams& p) override;
  void Rotate(const RotateParams& p) override;
  void Silu(const SiluParams& p) override;
  void Experts(const ExpertsParams& p) override;
  void Summarise(const SummariseParams& p) override;
  void Beam(const BeamParams& p) override;
  void Score(const ScoreParams& p) override;
  void Select(const SelectParams& p) override;
  void Route(const RouteParams& p) override;
  void AttendDense(const AttendDenseParams& p) override;
  void AttendRouted(const AttendRoutedParams& p) override;
  void AttendSampled(const AttendSampledParams& p) override;

 private:
  Queue queue() { return stream_->queue(); }
  // Runs `list` and, if it has units, `second` over queries [first, first + count) of a call, in
  // as many pieces as scratch asks for.
  struct Exact;
  void RunExact(const AttendParams& p, int first, int count, const Exact& exact);
  void Refuse(const std::string& what, int64_t bytes);

  // Destroyed in reverse: memory and stream before their device.
  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<CudaStream> stream_;
  std::string name_;
  OpsLimits limits_;
  DeviceMemory work_;  // of the op that runs
};

// Hands out aligned pieces of scratch; with null as its base it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T>
  T* Take(int64_t count) {
    T* piece = base_ != nullptr ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += spec::CeilDiv(count * static_cast<int64_t>(sizeof(T)), 256) * 256;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

// Consecutive queries [first, first + count) of a call that stand in one chunk.
struct ChunkRun {
  int first = 0;
  int count = 0;
};
// The run that starts at query `first`.
inline ChunkRun ChunkRunAt(int64_t first_position, int queries, int first) {
  const int64_t room = spec::kChunk - (first_position + first) % spec::kChunk;
  return {first, static_cast<int>(room < queries - first ? room : queries - first)};
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_CUDA_OPS_H_
