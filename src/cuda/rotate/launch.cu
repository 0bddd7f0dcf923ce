// SPDX-License-Identifier: Apache-2.0
// Launches q/k norm, RoPE and rounding.
#include "cuda/rotate/kernel.cuh"
#include "spec/layout.h"

namespace hga::cuda {

void LaunchRotate(const RotateParams& p, const Queue& queue) {
  if (p.rows <= 0) return;
  const int jobs = p.shape.heads + 2 * p.shape.kv_heads;
  const dim3 grid(static_cast<unsigned>(spec::CeilDiv(jobs, kRotateWarps)),
                  static_cast<unsigned>(p.rows));
  const dim3 block(kWarp, kRotateWarps);
  if (p.shape.head_dim == 128) {
    RotateKernel<128><<<grid, block, 0, queue.stream>>>(p);
  } else {
    RotateKernel<64><<<grid, block, 0, queue.stream>>>(p);
  }
  queue.Launched("RotateKernel");
}

}  // namespace hga::cuda
