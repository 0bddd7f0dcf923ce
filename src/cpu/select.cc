// SPDX-License-Identifier: Apache-2.0
// Radix selection: one histogram over the high bits, then an exact choice inside one bin.
#include "cpu/select.h"

#include <algorithm>
#include <cstring>

#include "spec/order.h"

namespace hga::cpu {
namespace {

constexpr int kShift = 20;  // 12 of 32 key bits: sign, exponent, three bits of mantissa

// The bin that holds the count-th best, and how many of it are needed.
struct Cut {
  uint32_t bin;
  int needed;
};

Cut FindCut(const uint32_t* bins, int count) {
  int above = 0;
  for (int bin = kSelectBins - 1;; --bin) {
    const int inside = static_cast<int>(bins[bin]);
    if (above + inside >= count) return {static_cast<uint32_t>(bin), count - above};
    above += inside;
  }
}

}  // namespace

void Select(const float* scores, int64_t n, int count, const SelectScratch& scratch,
            int32_t* chosen) {
  if (count >= n) {
    for (int64_t i = 0; i < n; ++i) chosen[i] = static_cast<int32_t>(i);
    return;
  }
  if (count <= 0) return;
  std::memset(scratch.bins, 0, sizeof(uint32_t) * kSelectBins);
  for (int64_t i = 0; i < n; ++i) ++scratch.bins[spec::ScoreKey(scores[i]) >> kShift];
  const Cut cut = FindCut(scratch.bins, count);

  int sure = 0;
  int64_t open = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t key = spec::ScoreKey(scores[i]);
    const uint32_t bin = key >> kShift;
    if (bin < cut.bin) continue;
    if (bin > cut.bin) {
      chosen[sure++] = static_cast<int32_t>(i);
    } else {
      // Ascending order of these is the order of the law: larger key first, then smaller index.
      scratch.candidates[open++] = uint64_t{~key} << 32 | static_cast<uint32_t>(i);
    }
  }
  uint64_t* c = scratch.candidates;
  std::nth_element(c, c + cut.needed - 1, c + open);
  for (int i = 0; i < cut.needed; ++i) chosen[sure + i] = static_cast<int32_t>(c[i]);
  std::sort(chosen + sure, chosen + count);
  std::inplace_merge(chosen, chosen + sure, chosen + count);
}

}  // namespace hga::cpu
