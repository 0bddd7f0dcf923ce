// SPDX-License-Identifier: Apache-2.0
// Launches the RMS norm.
#include "cuda/norm/kernel.cuh"

namespace hga::cuda {

void LaunchNorm(const NormParams& p, const Queue& queue) {
  if (p.rows <= 0) return;
  NormKernel<<<static_cast<unsigned>(p.rows), kNormThreads, 0, queue.stream>>>(p);
  queue.Launched("NormKernel");
}

}  // namespace hga::cuda
