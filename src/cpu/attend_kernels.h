// SPDX-License-Identifier: Apache-2.0
// Kernels of exact attention on the CPU: tokens in tiles of a chunk, opened groups, and the merge.
#ifndef HGA_CPU_ATTEND_KERNELS_H_
#define HGA_CPU_ATTEND_KERNELS_H_

#include <cstdint>

#include "base/dtype.h"

namespace hga::cpu {

// A partial softmax per row: sum of exp(x - max), and the values weighted by it.
struct SoftmaxState {
  float* max = nullptr;  // [rows]
  float* sum = nullptr;  // [rows]
  float* out = nullptr;  // [rows][head_dim], numerators
};

// Adds the tokens of `cells`, in tiles of 8 cells, to each row's state.
struct TilesArgs {
  const float* q = nullptr;  // [rows][head_dim]
  int rows = 0;
  int head_dim = 0;
  int rows_per_query = 1;  // neighbouring rows that share a query (and so a limit)
  float scale = 0;
  const Bf16* const* cells = nullptr;  // [ceil(tokens / 8)]
  int64_t tokens = 0;
  // Row r sees the first limits[r / rows_per_query] tokens, at least 1; null: all.
  const int64_t* limits = nullptr;
  SoftmaxState state;
  float* scores = nullptr;  // scratch [rows][64]
  float* tile = nullptr;    // scratch [2][64][head_dim]
};

// One query's opened groups, from nothing: softmax over all their tokens.
struct OpenedArgs {
  const float* q = nullptr;  // [rows][head_dim]
  int rows = 0;
  int head_dim = 0;
  float scale = 0;
  // First key row of each piece; a piece is min(group, 8) tokens of one cell, values follow the
  // cell's keys.
  const Bf16* const* pieces = nullptr;  // [groups * pieces_per_group]
  int groups = 0;
  int pieces_per_group = 1;
  int piece_tokens = 8;         // 1, 2, 4 or 8
  SoftmaxState state;           // written, not added to
  float* group_mass = nullptr;  // [rows][groups]: sums relative to the row's max
  float* scores = nullptr;      // scratch [rows][groups * pieces_per_group * piece_tokens]
};

// The last step for one row: windows, opened groups and tail to one output.
struct FinishArgs {
  int head_dim = 0;
  SoftmaxState windows, opened;       // of this row; opened.max null: none opened
  const float* group_mass = nullptr;  // [groups]
  int groups = 0;
  const float* tail = nullptr;  // TailLayout of this row, null without
  float trust = 0;
  float* out = nullptr;  // [head_dim]
};

struct AttendKernels {
  void (*tiles)(const TilesArgs& args);
  void (*opened)(const OpenedArgs& args);
  // a += b for `rows` rows; a's masses first multiplied by exp(0), b's by `weight`.
  void (*merge)(const SoftmaxState& a, const SoftmaxState& b, float weight, int rows, int head_dim);
  void (*finish)(const FinishArgs& args);
  // out[row][i] = state.out[row][i] / state.sum[row]
  void (*divide)(const SoftmaxState& state, int rows, int head_dim, float* out);
};

}  // namespace hga::cpu

#endif  // HGA_CPU_ATTEND_KERNELS_H_
