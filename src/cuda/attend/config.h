// SPDX-License-Identifier: Apache-2.0
// Exact attention in two kernels: partial softmaxes over units of a token list, and their merge.
#ifndef HGA_CUDA_ATTEND_CONFIG_H_
#define HGA_CUDA_ATTEND_CONFIG_H_

#include <cstdint>

#include "backend/ops.h"
#include "base/host_device.h"
#include "cuda/queue.h"
#include "spec/layout.h"

namespace hga::cuda {

inline constexpr int kAttendWarps = 4;  // per thread block; each on its own
inline constexpr int kAttendRows = 16;  // rows of a tile: query heads of one KV head
inline constexpr int kStepTokens = 64;  // tokens between two rescalings
inline constexpr int kDenseUnit = 512;  // tokens of a unit of dense attention
inline constexpr int kMergeChains = 8;  // units u, u + 8, ... are merged in order, then the chains
inline constexpr int kFewMergedRows = 256;  // up to here chains are merged side by side

// The tokens a query may see, by index: where index i lies in the sequence. One list serves
// consecutive queries of a call.
struct TokenList {
  // i < head: position i. Otherwise cells from position `start` on, every `stride`-th of them.
  int64_t head = 0;
  int64_t start = 0;  // a multiple of 8
  int64_t stride = 1;
  // Or, if there are groups: [queries][selectors][budget], first `counts` used.
  const int32_t* groups = nullptr;
  const int32_t* counts = nullptr;  // [queries][selectors]
  int selectors = 0;
  int budget = 0;
  int group = 0;  // tokens
  // How many a query sees: `tokens`, plus its number if `causal`; of groups, all.
  int64_t tokens = 0;
  bool causal = false;
  int unit = kStepTokens;  // tokens of a unit, a multiple of kStepTokens; fixed by the rule
  int64_t units = 0;       // that the call's last query needs
};

// Consecutive queries. A row is one query head of one query: [queries][heads].
struct AttendCall {
  HeadShape shape;
  const float* q = nullptr;  // [rows][head_dim]
  int queries = 0;
  KvView kv;
  float scale_log2 = 0;  // head_dim^-0.5 log2(e)
};

// Partial softmax of a row over one unit, maxima as exponents of 2: numerators [head_dim], then
// {max, sum, sum of squared group masses, unused}.
HGA_HD constexpr int StateWidth(int head_dim) { return head_dim + 4; }

void LaunchPartials(const AttendCall& call, const TokenList& list, float* states,
                    const Queue& queue);

// The last step of a row: partial softmaxes in order, and whatever else the kind of layer adds.
struct FinishParams {
  AttendCall call;
  const float* first = nullptr;  // [rows][first_units][StateWidth]
  int64_t first_units = 0;
  const float* second = nullptr;  // opened groups or the sample; null: none
  int64_t second_units = 0;
  float second_weight = 1;      // what the sample's mass is multiplied by
  const float* tail = nullptr;  // [rows][TailLayout::Width]; null: none
  float trust = 0;
  float* out = nullptr;  // [rows][head_dim]
};

void LaunchFinish(const FinishParams& p, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_ATTEND_CONFIG_H_
