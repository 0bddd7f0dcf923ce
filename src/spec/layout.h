// SPDX-License-Identifier: Apache-2.0
// Where everything lies: index maths of K/V records, summaries and plans. Pure, host and device.
#ifndef HGA_SPEC_LAYOUT_H_
#define HGA_SPEC_LAYOUT_H_

#include <cstdint>

#include "base/host_device.h"

namespace hga::spec {

inline constexpr int kChunk = 64;  // tokens of a stored chunk
inline constexpr int kCell = 8;    // tokens of a cell: one read, one gather
inline constexpr int kCellsPerChunk = kChunk / kCell;
inline constexpr int kPanel = 16;            // key means side by side in one panel of the scan
inline constexpr int kSegmentTokens = 8192;  // scan and tail are summed per segment, then in order
inline constexpr int kPartitionTokens =
    4096;  // dense attention is summed per partition, then in order

HGA_HD constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A chunk record of one layer: [kv_heads][8 cells]{K [8][head_dim], V [8][head_dim]} in bf16.
// All figures in elements.
HGA_HD constexpr int64_t CellElements(int head_dim) { return int64_t{2} * kCell * head_dim; }
HGA_HD constexpr int64_t RecordElements(int kv_heads, int head_dim) {
  return kv_heads * kCellsPerChunk * CellElements(head_dim);
}
// Of cell `cell` (0..7) of KV head `head` inside its record.
HGA_HD constexpr int64_t CellOffset(int head, int cell, int head_dim) {
  return (int64_t{head} * kCellsPerChunk + cell) * CellElements(head_dim);
}
HGA_HD constexpr int64_t KeyRow(int row, int head_dim) { return int64_t{row} * head_dim; }
HGA_HD constexpr int64_t ValueRow(int row, int head_dim) {
  return (int64_t{kCell} + row) * head_dim;
}

// Key means lie in panels of 16, transposed for the scan: [panel][head_dim][16].
HGA_HD constexpr int64_t PanelOffset(int64_t mean, int head_dim) {
  return mean / kPanel * kPanel * head_dim;
}
HGA_HD constexpr int64_t KeyMeanOffset(int64_t mean, int dim, int head_dim) {
  return PanelOffset(mean, head_dim) + int64_t{dim} * kPanel + mean % kPanel;
}
// Elements that hold `means` key means of one KV head, whole panels.
HGA_HD constexpr int64_t KeyMeanElements(int64_t means, int head_dim) {
  return CeilDiv(means, kPanel) * kPanel * head_dim;
}
// Value means are rows: [mean][head_dim].
HGA_HD constexpr int64_t ValueMeanOffset(int64_t mean, int head_dim) { return mean * head_dim; }

}  // namespace hga::spec

#endif  // HGA_SPEC_LAYOUT_H_
