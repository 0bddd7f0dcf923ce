// SPDX-License-Identifier: Apache-2.0
// What the tail is made of: masses, value means and the plan; step 8 of the law.
#ifndef HGA_CUDA_ROUTE_CONFIG_H_
#define HGA_CUDA_ROUTE_CONFIG_H_

#include "cuda/scan/config.h"

namespace hga::cuda {

inline constexpr int kTailValues = 64;  // value means of a part
inline constexpr int kTailRows = 8;     // rows that share a pass over them
// Opened groups i, i + 4, ... are summed in order, then the chains; so are parts.
inline constexpr int kTailChains = 4;
inline constexpr int kFewTailRows = 256;  // up to here chains are summed side by side

// Value means of one level, weighed by the masses of the items they cover.
struct TailLevel {
  ScanLevel masses;
  const void* values = nullptr;   // [kv_heads][capacity][head_dim]
  const float* scales = nullptr;  // [kv_heads][capacity]
  int64_t capacity = 0;
  int items_per_value = 1;
  float* part = nullptr;  // [rows][parts][head_dim + 4]: numerators, then the sum of masses
  HGA_HD int64_t first_item() const { return masses.first_mean / masses.per_item; }
  HGA_HD int64_t first_value() const { return first_item() / items_per_value; }
  HGA_HD int64_t last_value() const { return first_value() + masses.items() / items_per_value; }
  HGA_HD int64_t first_part() const { return first_value() / kTailValues; }
  HGA_HD int64_t parts() const {
    return last_value() > first_value() ? spec::CeilDiv(last_value(), kTailValues) - first_part()
                                        : 0;
  }
};

// What summaries say of the opened groups of a plan [selector rows][budget], {opened sum, said} of
// `tail` [rows][TailLayout::Width]; their masses are set to zero.
void LaunchOpened(const RouteCall& call, const TailLevel& groups, const PlanView& plan, float* tail,
                  const Queue& queue);
// Parts of the tail of one level.
void LaunchTailParts(const RouteCall& call, const TailLevel& level, const Queue& queue);
// Sums both levels' parts, in order, into {max, sum, out} of `tail`.
void LaunchTailSum(const RouteCall& call, const TailLevel& groups, const TailLevel& chunks,
                   float* tail, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_ROUTE_CONFIG_H_
