// SPDX-License-Identifier: Apache-2.0
// Launches silu(gate) * up.
#include "cuda/silu/kernel.cuh"
#include "spec/layout.h"

namespace hga::cuda {

void LaunchSilu(const SiluParams& p, const Queue& queue) {
  if (p.count <= 0) return;
  const auto blocks = static_cast<unsigned>(spec::CeilDiv(p.count, kSiluThreads));
  SiluKernel<<<blocks, kSiluThreads, 0, queue.stream>>>(p);
  queue.Launched("SiluKernel");
}

}  // namespace hga::cuda
