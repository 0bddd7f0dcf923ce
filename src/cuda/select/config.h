// SPDX-License-Identifier: Apache-2.0
// Entry point of selection, step 6 of the law.
#ifndef HGA_CUDA_SELECT_CONFIG_H_
#define HGA_CUDA_SELECT_CONFIG_H_

#include <cstdint>

#include "cuda/queue.h"

namespace hga::cuda {

inline constexpr int kSelectThreads = 512;
// Up to so many scores a thread keeps in registers; longer rows are read again in every pass.
inline constexpr int kSelectKept = 16;

// The `count` best of each row, ascending: as indices plus `base`, as flags, or both.
struct SelectRows {
  const float* scores = nullptr;  // [rows][stride], first n used
  int64_t stride = 0;
  int64_t n = 0;
  int count = 0;              // 0 to n
  int32_t* chosen = nullptr;  // [rows][chosen_stride] or null
  int64_t chosen_stride = 0;
  int32_t base = 0;
  int32_t* counts = nullptr;  // [rows] or null: receives count
  uint8_t* flags = nullptr;   // [rows][n] or null: 1 for the chosen, 0 for the others
};

void LaunchSelect(const SelectRows& p, int64_t rows, const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_SELECT_CONFIG_H_
