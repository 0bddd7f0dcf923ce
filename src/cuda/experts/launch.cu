// SPDX-License-Identifier: Apache-2.0
// Launches the routed feed-forward.
#include "cuda/experts/kernel.cuh"
#include "cuda/linear/config.h"
#include "spec/layout.h"

namespace hga::cuda {
namespace {

unsigned Count(int64_t n) { return static_cast<unsigned>(n); }

}  // namespace

void LaunchExperts(const ExpertsParams& p, const ExpertsScratch& scratch, const Queue& queue) {
  if (p.rows <= 0) return;
  const int k = p.experts_per_token, choices = p.rows * k;
  LaunchLinear({p.x, p.hidden, p.rows, p.router, scratch.logits, p.experts, false}, queue);
  ChooseKernel<<<Count(p.rows), kWarp, 0, queue.stream>>>(p, scratch);
  queue.Launched("ChooseKernel");
  LinearJob job;
  job.rows = p.rows;
  int slices = choices;
  if (p.rows <= kMostAlone) {
    job.expert_of = scratch.expert;
  } else {
    slices = p.experts;
    const auto bytes = sizeof(int32_t) * static_cast<size_t>(p.experts);
    queue.latch->Note(cudaMemsetAsync(scratch.counts, 0, bytes, queue.stream), "cudaMemsetAsync");
    GroupKernel<<<Count(spec::CeilDiv(choices, kGroupThreads)), kGroupThreads, 0, queue.stream>>>(
        scratch, choices, p.rows);
    queue.Launched("GroupKernel");
    job.choices = scratch.choices;
    job.counts = scratch.counts;
  }
  LinearJob inner = job;
  inner.x = p.x;
  inner.x_stride = p.hidden;
  inner.divisor = k;
  inner.experts = p.up;
  inner.gates = p.gate;
  inner.outputs = inner.y_stride = p.width;
  inner.y = scratch.act;
  LaunchExpertLinear(inner, slices, queue);
  LinearJob outer = job;
  outer.x = scratch.act;
  outer.x_stride = p.width;
  outer.experts = p.down;
  outer.outputs = outer.y_stride = p.hidden;
  outer.y = scratch.out;
  LaunchExpertLinear(outer, slices, queue);
  const dim3 grid(Count(spec::CeilDiv(p.hidden, kCombineWidth)), Count(p.rows));
  CombineExpertsKernel<<<grid, kCombineWidth, 0, queue.stream>>>(p, scratch);
  queue.Launched("CombineExpertsKernel");
}

}  // namespace hga::cuda
