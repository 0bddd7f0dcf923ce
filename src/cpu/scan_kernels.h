// SPDX-License-Identifier: Apache-2.0
// Kernels of routing on the CPU: log-masses of summaries, scores, and the tail over value means.
#ifndef HGA_CPU_SCAN_KERNELS_H_
#define HGA_CPU_SCAN_KERNELS_H_

#include <cstdint>

#include "base/dtype.h"
#include "spec/layout.h"

namespace hga::cpu {

// e[row][m - first] = (q[row] . mean m) * scale_m * softmax_scale + log_span for key means
// [first, last) of one KV head, where `skip`, if any, names panels that need not be computed.
struct ScanArgs {
  const float* q = nullptr;  // [rows][head_dim]
  int rows = 0;
  int head_dim = 0;
  const void* means = nullptr;    // panels of the KV head, from mean 0 (spec/layout.h)
  bool fp8 = true;                // else bf16
  const float* scales = nullptr;  // of the KV head, from mean 0
  int64_t first = 0, last = 0;
  float softmax_scale = 0;
  float log_span = 0;
  const uint8_t* skip_panel = nullptr;  // [last panel + 1 - first panel] nonzero: skip; null: none
  float* e = nullptr;                   // [rows][e_stride]
  int64_t e_stride = 0;
  float* panel = nullptr;  // scratch [head_dim][32]
  Bf16* narrow = nullptr;  // scratch [rows][head_dim]
};

// Most panels of one scan: it covers a segment at most.
inline constexpr int kMostPanels = spec::kSegmentTokens / spec::kPanel + 1;
// Lists the panels to compute, ascending; returns how many.
inline int ListPanels(const ScanArgs& a, int32_t* panels) {
  const int64_t first = a.first / spec::kPanel, end = spec::CeilDiv(a.last, spec::kPanel);
  int count = 0;
  for (int64_t p = first; p < end; ++p) {
    if (a.skip_panel == nullptr || a.skip_panel[p - first] == 0) {
      panels[count++] = static_cast<int32_t>(p);
    }
  }
  return count;
}

// Turns a row's log-masses e[0..n) (n a multiple of per_item) into masses relative to their
// maximum: mass[i] = sum over item i's means of exp(e - max). Returns {max, sum of masses};
// a row of minus infinities has masses 0 and sum 0.
struct MassResult {
  float max;
  float sum;
};

// out[row][head_dim] += sum over i of weight[row][i] * value i, i ascending.
struct TailArgs {
  const float* weight = nullptr;  // [rows][weight_stride], [count] used, from `spans`
  int64_t weight_stride = 0;
  int rows = 0;
  int head_dim = 0;
  const void* values = nullptr;    // [count][head_dim] value means, or more with an index
  const int32_t* index = nullptr;  // [count]: value i is row index[i]; null: row i
  bool fp8 = true;
  int64_t count = 0;
  float* out = nullptr;   // [rows][head_dim]
  float* tile = nullptr;  // scratch [64][head_dim]
};

struct ScanKernels {
  // Maxima of disjoint blocks of 16 scores (NaN counts as minus infinity); returns how many. The
  // rest of scores that fills no block is left out.
  int64_t (*block_maxima)(const float* scores, int64_t n, float* maxima);
  // Indices of scores >= bound, ascending, into index [n + 16]; returns how many.
  int64_t (*at_least)(const float* scores, int64_t n, float bound, int32_t* index);
  void (*scan)(const ScanArgs& args);
  MassResult (*masses)(float* e, int64_t n, int per_item, float* mass);
  void (*tail)(const TailArgs& args);
  // y[0..n) = or += factor * x[0..n)
  void (*scaled)(const float* x, int64_t n, float factor, bool add, float* y);
  // weight[i] = scale i * (sum of `per_span` masses of span i), ready for `tail` over value means
  // of the same type; returns the sum of the masses.
  float (*spans)(const float* mass, int64_t spans, int per_span, const float* scales, bool fp8,
                 float* weight);
};

}  // namespace hga::cpu

#endif  // HGA_CPU_SCAN_KERNELS_H_
