// SPDX-License-Identifier: Apache-2.0
// Launches matrix products: which kernel follows from the number of rows and changes no bit.
#include "cuda/linear/kernel.cuh"

namespace hga::cuda {
namespace {

void LaunchFew(const LinearJob& job, int rows, int slices, const Queue& queue) {
  const dim3 grid(static_cast<unsigned>(spec::CeilDiv(job.outputs, kFewOutputs)),
                  static_cast<unsigned>(spec::CeilDiv(rows, kFewRows)),
                  static_cast<unsigned>(slices));
  FewRowsKernel<<<grid, dim3(kWarp, kFewWarps), 0, queue.stream>>>(job);
  queue.Launched("FewRowsKernel");
}

void LaunchMany(const LinearJob& job, int slices, const Queue& queue) {
  const dim3 grid(static_cast<unsigned>(spec::CeilDiv(job.outputs, kManyOutputs)),
                  static_cast<unsigned>(spec::CeilDiv(job.rows, kManyRows)),
                  static_cast<unsigned>(slices));
  const dim3 block(kWarp, kManyWarps);
  if (job.gates != nullptr) {
    ManyRowsKernel<true><<<grid, block, 0, queue.stream>>>(job);
  } else {
    ManyRowsKernel<false><<<grid, block, 0, queue.stream>>>(job);
  }
  queue.Launched("ManyRowsKernel");
}

}  // namespace

void LaunchLinear(const LinearParams& p, const Queue& queue) {
  if (p.rows <= 0 || p.w.rows <= 0) return;
  LinearJob job;
  job.x = p.x;
  job.x_stride = p.x_stride;
  job.rows = p.rows;
  job.w = p.w;
  job.y = p.y;
  job.y_stride = p.y_stride;
  job.accumulate = p.accumulate;
  job.outputs = p.w.rows;
  if (p.rows <= kMostFewRows) {
    LaunchFew(job, p.rows, 1, queue);
  } else {
    LaunchMany(job, 1, queue);
  }
}

void LaunchExpertLinear(const LinearJob& job, int slices, const Queue& queue) {
  if (job.expert_of != nullptr) {
    LaunchFew(job, 1, slices, queue);
  } else {
    LaunchMany(job, slices, queue);
  }
}

}  // namespace hga::cuda
