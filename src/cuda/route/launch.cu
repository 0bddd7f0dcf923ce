// SPDX-License-Identifier: Apache-2.0
// Launches the tail.
#include <type_traits>

#include "cuda/route/kernel.cuh"

namespace hga::cuda {
namespace {

unsigned Count(int64_t n) { return static_cast<unsigned>(n); }

// Calls f(element type, head_dim as a constant).
template <class F>
void Dispatch(const RouteCall& call, const F& f) {
  const auto with_dim = [&](auto element) {
    if (call.head_dim == 128) {
      f(element, std::integral_constant<int, 128>());
    } else {
      f(element, std::integral_constant<int, 64>());
    }
  };
  if (call.fp8) {
    with_dim(Fp8{});
  } else {
    with_dim(Bf16{});
  }
}

// How many threads share a row's chains; it changes no bit.
template <class F>
void WithRanks(const RouteCall& call, const F& f) {
  if (call.rows() <= kFewTailRows) {
    f(std::integral_constant<int, kTailChains>());
  } else {
    f(std::integral_constant<int, 1>());
  }
}

}  // namespace

void LaunchOpened(const RouteCall& call, const TailLevel& groups, const PlanView& plan, float* tail,
                  const Queue& queue) {
  Dispatch(call, [&](auto element, auto dim) {
    WithRanks(call, [&](auto ranks) {
      OpenedKernel<decltype(element), dim(), ranks()>
          <<<Count(call.rows()), dim3(dim(), ranks()), 0, queue.stream>>>(call, groups, plan, tail);
    });
  });
  queue.Launched("OpenedKernel");
}

void LaunchTailParts(const RouteCall& call, const TailLevel& level, const Queue& queue) {
  const dim3 grid(Count(level.parts()), Count(call.kv_heads), Count(call.queries));
  Dispatch(call, [&](auto element, auto dim) {
    TailPartKernel<decltype(element), dim()><<<grid, dim(), 0, queue.stream>>>(call, level);
  });
  queue.Launched("TailPartKernel");
}

void LaunchTailSum(const RouteCall& call, const TailLevel& groups, const TailLevel& chunks,
                   float* tail, const Queue& queue) {
  Dispatch(call, [&](auto, auto dim) {
    WithRanks(call, [&](auto ranks) {
      TailSumKernel<dim(), ranks()><<<Count(call.rows()), dim3(dim(), ranks()), 0, queue.stream>>>(
          call, groups, chunks, tail);
    });
  });
  queue.Launched("TailSumKernel");
}

}  // namespace hga::cuda
