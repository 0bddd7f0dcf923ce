// SPDX-License-Identifier: Apache-2.0
// Opening the CUDA backend, its scratch, and the ops that are one launch.
#include "cuda/cuda_ops.h"

#include <fmt/format.h>

#include <algorithm>

#include "cuda/cuda_backend.h"
#include "cuda/experts/config.h"
#include "cuda/linear/config.h"
#include "cuda/norm/config.h"
#include "cuda/rotate/config.h"
#include "cuda/select/config.h"
#include "cuda/silu/config.h"
#include "cuda/summarise/config.h"

namespace hga {
namespace cuda {
namespace {

// Enough for tens of queries of usual models at once; more only saves launches.
constexpr int64_t kWorkBytes = int64_t{64} << 20;
// Of one query at the largest context: masses, scores and parts of the tail of groups of 4.
constexpr int64_t kWorkBytesPerTokenAndHead = 4;
// Left to the driver and to kernels' own needs when no limit is given.
constexpr int64_t kReserveBytes = int64_t{512} << 20;

ExpertsScratch CutExperts(const OpsLimits& l, int rows, Carver& carver) {
  const int64_t choices = int64_t{rows} * std::max(1, l.experts_per_token);
  ExpertsScratch s;
  s.logits = carver.Take<float>(int64_t{rows} * std::max(1, l.experts));
  s.weight = carver.Take<float>(choices);
  s.act = carver.Take<float>(choices * l.ffn_width);
  s.out = carver.Take<float>(choices * l.hidden);
  s.expert = carver.Take<int32_t>(choices);
  s.choices = carver.Take<int32_t>(int64_t{rows} * std::max(1, l.experts));
  s.counts = carver.Take<int32_t>(std::max(1, l.experts));
  return s;
}

}  // namespace

Status CudaOps::Prepare(const OpsLimits& limits) {
  if (limits.shape.head_dim != 64 && limits.shape.head_dim != 128) {
    return Unsupported(
        fmt::format("head_dim is {}, the CUDA backend has 64 and 128", limits.shape.head_dim));
  }
  if (limits.experts > kMostExperts || limits.experts_per_token > kMostPerToken) {
    return Unsupported(fmt::format("{} experts, {} per token; the CUDA backend has up to {} and {}",
                                   limits.experts, limits.experts_per_token, kMostExperts,
                                   kMostPerToken));
  }
  const int64_t bytes = ScratchBytes(limits, {});
  limits_ = limits;
  if (bytes <= work_.size()) return OkStatus();
  work_ = DeviceMemory();  // freed first: both together may exceed the limit
  HGA_ASSIGN_OR_RETURN(work_, device_->Allocate(bytes));
  return OkStatus();
}

// Of the device's memory; work is cut to what there is, whatever the groups.
int64_t CudaOps::ScratchBytes(const OpsLimits& limits, const ScratchUse&) const {
  Carver experts(nullptr);
  CutExperts(limits, limits.rows, experts);
  const int64_t per_query =
      limits.context * limits.shape.heads * kWorkBytesPerTokenAndHead + (int64_t{1} << 20);
  return std::max({kWorkBytes, per_query, experts.used()});
}

void CudaOps::Refuse(const std::string& what, int64_t bytes) {
  stream_->Fail(
      ResourceExhausted(fmt::format("{}: one query of {} needs {} bytes of scratch, {} "
                                    "were prepared",
                                    device_->name(), what, bytes, work_.size())));
}

void CudaOps::Linear(std::span<const LinearParams> jobs) {
  for (const LinearParams& job : jobs) LaunchLinear(job, queue());
}

void CudaOps::Norm(const NormParams& p) { LaunchNorm(p, queue()); }
void CudaOps::Rotate(const RotateParams& p) { LaunchRotate(p, queue()); }
void CudaOps::Silu(const SiluParams& p) { LaunchSilu(p, queue()); }
void CudaOps::Summarise(const SummariseParams& p) { LaunchSummarise(p, queue()); }

void CudaOps::Experts(const ExpertsParams& p) {
  OpsLimits shape = limits_;
  shape.experts = p.experts;
  shape.experts_per_token = p.experts_per_token;
  shape.ffn_width = p.width;
  shape.hidden = p.hidden;
  Carver carver(work_.data());
  const ExpertsScratch scratch = CutExperts(shape, p.rows, carver);
  if (carver.used() > work_.size()) return Refuse("experts", carver.used());
  LaunchExperts(p, scratch, queue());
}

void CudaOps::Select(const SelectParams& p) {
  SelectRows rows;
  rows.scores = p.scores;
  rows.stride = rows.n = p.n;
  rows.count = static_cast<int>(std::min<int64_t>(p.count, p.n));
  rows.chosen = p.chosen;
  if (rows.count > 0) LaunchSelect(rows, 1, queue());
}

}  // namespace cuda

int CudaDeviceCount() {
  int count = 0;
  // Without a driver this fails, which means the same.
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

Result<std::unique_ptr<Ops>> OpenCuda(int ordinal, const BackendOptions& options) {
  const int count = CudaDeviceCount();
  if (ordinal < 0 || ordinal >= count) {
    return Unsupported(fmt::format("no GPU cuda:{}; this process can use {}", ordinal, count));
  }
  cudaDeviceProp properties{};
  HGA_RETURN_IF_ERROR(
      cuda::StatusOf(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"));
  if (properties.major < 8) {
    return Unsupported(fmt::format("cuda:{} ({}) has compute capability {}.{}; 8.0 is needed",
                                   ordinal, properties.name, properties.major, properties.minor));
  }
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<cuda::CudaStream> stream, cuda::CudaStream::Make(ordinal));
  size_t free = 0, total = 0;
  HGA_RETURN_IF_ERROR(cuda::StatusOf(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  const int64_t limit =
      options.device_memory > 0
          ? options.device_memory
          : std::max<int64_t>(0, static_cast<int64_t>(free) - cuda::kReserveBytes);
  return std::unique_ptr<Ops>(std::make_unique<cuda::CudaOps>(
      std::make_unique<cuda::CudaDevice>(ordinal, limit), std::move(stream),
      fmt::format("cuda:{} {}", ordinal, properties.name)));
}

}  // namespace hga
