// SPDX-License-Identifier: Apache-2.0
// Launches selection.
#include "cuda/select/kernel.cuh"

namespace hga::cuda {

void LaunchSelect(const SelectRows& p, int64_t rows, const Queue& queue) {
  if (rows <= 0) return;
  const auto blocks = static_cast<unsigned>(rows);
  if (p.n <= int64_t{kSelectThreads} * kSelectKept) {
    SelectKernel<true><<<blocks, kSelectThreads, 0, queue.stream>>>(p);
  } else {
    SelectKernel<false><<<blocks, kSelectThreads, 0, queue.stream>>>(p);
  }
  queue.Launched("SelectKernel");
}

}  // namespace hga::cuda
