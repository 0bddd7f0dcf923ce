// SPDX-License-Identifier: Apache-2.0
// Selection: a lower bound of the last chosen score throws most of them away, the rest are ranked
// exactly. Few scores, or scores without a useful bound, are all ranked.
#include "cpu/select.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "spec/order.h"

namespace hga::cpu {
namespace {

// Ascending order of these is the order of the law: larger key first, then smaller index.
uint64_t RankOf(float score, int64_t index) {
  return uint64_t{~spec::ScoreKey(score)} << 32 | static_cast<uint32_t>(index);
}

// Writes those of `ranks` [n], ascending by index, that are among the `count` first.
void TakeFirst(const uint64_t* ranks, int64_t n, int count, uint64_t* scratch, int32_t* chosen) {
  std::copy_n(ranks, n, scratch);
  std::nth_element(scratch, scratch + count - 1, scratch + n);
  const uint64_t last = scratch[count - 1];
  for (int64_t i = 0; i < n; ++i) {
    if (ranks[i] <= last) *chosen++ = static_cast<int32_t>(ranks[i]);
  }
}

// At least `count` scores are >= the count-th largest of the maxima of disjoint blocks.
int64_t Candidates(const ScanKernels& kernels, const float* scores, int64_t n, int count,
                   const SelectScratch& scratch, int32_t* index) {
  const int64_t blocks = kernels.block_maxima(scores, n, scratch.maxima);
  if (blocks < count) return n;
  std::nth_element(scratch.maxima, scratch.maxima + count - 1, scratch.maxima + blocks,
                   std::greater<float>());
  const float bound = scratch.maxima[count - 1];
  // NaN ranks as minus infinity but compares as nothing.
  if (!(bound > -std::numeric_limits<float>::infinity())) return n;
  return kernels.at_least(scores, n, bound, index);
}

}  // namespace

void Select(const ScanKernels& kernels, const float* scores, int64_t n, int count,
            const SelectScratch& scratch, int32_t* chosen) {
  if (count <= 0) return;
  if (count >= n) {
    for (int64_t i = 0; i < n; ++i) chosen[i] = static_cast<int32_t>(i);
    return;
  }
  uint64_t* ranks = scratch.ranks;
  int32_t* index = scratch.index;
  const int64_t few = Candidates(kernels, scores, n, count, scratch, index);
  if (few == n) {
    for (int64_t i = 0; i < n; ++i) ranks[i] = RankOf(scores[i], i);
  } else {
    for (int64_t i = 0; i < few; ++i) ranks[i] = RankOf(scores[index[i]], index[i]);
  }
  TakeFirst(ranks, few, count, ranks + few, chosen);
}

}  // namespace hga::cpu
