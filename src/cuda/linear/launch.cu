// SPDX-License-Identifier: Apache-2.0
// Launches matrix products: the tile follows the number of rows, which changes no bit.
#include "cuda/linear/config.h"
#include "cuda/linear/kernel.cuh"

namespace hga::cuda {
namespace {

template <class T, int kRows, int kOutputs>
void LaunchTile(const LinearParams& p, const Queue& queue) {
  const dim3 grid(static_cast<unsigned>(spec::CeilDiv(p.w.rows, int64_t{kOutputs} * kLinearWarps)),
                  static_cast<unsigned>(spec::CeilDiv(p.rows, kRows)));
  LinearKernel<T, kRows, kOutputs><<<grid, dim3(kWarp, kLinearWarps), 0, queue.stream>>>(p);
  queue.Launched("LinearKernel");
}

}  // namespace

void LaunchLinear(const LinearParams& p, const Queue& queue) {
  if (p.rows <= 0 || p.w.rows <= 0) return;
  WithElement(p.w.dtype, [&](auto element) {
    using T = decltype(element);
    if (p.rows == 1) return LaunchTile<T, 1, 2>(p, queue);
    if (p.rows <= 4) return LaunchTile<T, 4, 2>(p, queue);
    LaunchTile<T, 8, 4>(p, queue);
  });
}

}  // namespace hga::cuda
