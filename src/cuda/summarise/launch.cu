// SPDX-License-Identifier: Apache-2.0
// Launches the levels of a chunk's summaries.
#include <cmath>

#include "cuda/summarise/kernel.cuh"
#include "spec/rules.h"

namespace hga::cuda {
namespace {

void LaunchLevel(const SummaryLevel& level, const HeadShape& shape, const Queue& queue) {
  const dim3 grid(static_cast<unsigned>(spec::kChunk / level.span),
                  static_cast<unsigned>(shape.kv_heads));
  if (shape.head_dim == 128) {
    SummariseKernel<128><<<grid, 128, 0, queue.stream>>>(level);
  } else {
    SummariseKernel<64><<<grid, 64, 0, queue.stream>>>(level);
  }
  queue.Launched("SummariseKernel");
}

SummaryLevel LevelOf(const SummariseParams& p, int span, bool values, void* out, float* scales,
                     int64_t capacity) {
  SummaryLevel level;
  level.cells = p.cells;
  level.cell_stride = p.cell_stride;
  level.chunk = p.chunk;
  level.span = span;
  level.values = values;
  level.fp8 = p.rule->summary_dtype == SummaryDtype::kFp8;
  level.out = out;
  level.scales = scales;
  level.capacity = capacity;
  // Frequencies are the host's, so that angles have the same bits as everywhere.
  const int half = p.shape.head_dim / 2;
  level.slow_pair = half;
  if (values || p.rule->key_mean != KeyMean::kMixedRope) return level;
  for (int i = half - 1; i >= 0; --i) {
    level.frequency[i] = std::pow(p.rope_theta, -2.0 * i / p.shape.head_dim);
    if ((spec::kChunk - 1) * level.frequency[i] <= 0.5) level.slow_pair = i;
  }
  return level;
}

}  // namespace

void LaunchSummarise(const SummariseParams& p, const Queue& queue) {
  const RoutingConfig& rule = *p.rule;
  const SummaryView& out = p.out;
  LaunchLevel(LevelOf(p, rule.key_span, false, out.keys, out.key_scales, out.key_means), p.shape,
              queue);
  if (rule.tail) {
    LaunchLevel(LevelOf(p, rule.value_span, true, out.values, out.value_scales, out.value_means),
                p.shape, queue);
  }
  if (rule.chunk_beam == 0) return;
  LaunchLevel(LevelOf(p, rule.chunk_key_span, false, out.chunk_keys, out.chunk_key_scales,
                      out.chunk_key_means),
              p.shape, queue);
  if (!rule.tail) return;
  LaunchLevel(LevelOf(p, spec::kChunk, true, out.chunk_values, out.chunk_value_scales, out.chunks),
              p.shape, queue);
}

}  // namespace hga::cuda
