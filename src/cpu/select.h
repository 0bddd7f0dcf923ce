// SPDX-License-Identifier: Apache-2.0
// Selection of the best scores under the law's total order.
#ifndef HGA_CPU_SELECT_H_
#define HGA_CPU_SELECT_H_

#include <cstdint>

#include "cpu/scan_kernels.h"

namespace hga::cpu {

// Scratch for Select over at most `n` scores.
struct SelectScratch {
  uint64_t* ranks = nullptr;  // [2 n]
  int32_t* index = nullptr;   // [n + 16]
  float* maxima = nullptr;    // [n / 16 + 16]
};

// Writes the indices of the `count` best of scores[0..n) ascending; count <= n.
void Select(const ScanKernels& kernels, const float* scores, int64_t n, int count,
            const SelectScratch& scratch, int32_t* chosen);

}  // namespace hga::cpu

#endif  // HGA_CPU_SELECT_H_
