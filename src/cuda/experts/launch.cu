// SPDX-License-Identifier: Apache-2.0
// Launches the routed feed-forward.
#include "cuda/experts/kernel.cuh"

namespace hga::cuda {

void LaunchExperts(const ExpertsParams& p, const ExpertsScratch& scratch, const Queue& queue) {
  if (p.rows <= 0) return;
  const int k = p.experts_per_token;
  LaunchLinear({p.x, p.hidden, p.rows, p.router, scratch.logits, p.experts, false}, queue);
  ChooseKernel<<<static_cast<unsigned>(p.rows), kWarp, 0, queue.stream>>>(p, scratch);
  queue.Launched("ChooseKernel");
  constexpr int kTile = kExpertWarps * kExpertOutputs;
  const dim3 block(kWarp, kExpertWarps);
  const dim3 inner(static_cast<unsigned>(spec::CeilDiv(p.width, kTile)),
                   static_cast<unsigned>(p.rows * k));
  InnerKernel<<<inner, block, 0, queue.stream>>>(p, scratch);
  queue.Launched("InnerKernel");
  const dim3 outer(static_cast<unsigned>(spec::CeilDiv(p.hidden, kTile)),
                   static_cast<unsigned>(p.rows));
  OuterKernel<<<outer, block, 0, queue.stream>>>(p, scratch);
  queue.Launched("OuterKernel");
}

}  // namespace hga::cuda
