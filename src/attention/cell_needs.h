// SPDX-License-Identifier: Apache-2.0
// Between rules and the store: which cells queries will read, and which stay in memory.
#ifndef HGA_ATTENTION_CELL_NEEDS_H_
#define HGA_ATTENTION_CELL_NEEDS_H_

#include <cstdint>
#include <vector>

#include "backend/ops.h"
#include "hga/config.h"
#include "store/history.h"

namespace hga {

// [layers]. With `tiered` only dense layers stay in memory whole; else all do.
std::vector<LayerPolicy> PoliciesOf(const AttentionConfig& config, int layers, bool tiered);

// Adds to `fetch`, for every KV head: the windows of the query at `position`.
void AddWindows(const HeadShape& shape, int sink_chunks, int local_chunks, int64_t position,
                CellFetch* fetch);
// Windows and sample of the query at `position`.
void AddSample(const HeadShape& shape, const RoutingConfig& rule, int most_cells, int64_t position,
               CellFetch* fetch);
// The cells of the groups that query `query` of `p` opens.
void AddPlan(const AttendRoutedParams& p, int query, CellFetch* fetch);
// The cells of groups of one KV head.
void AddGroups(int kv_head, int group, const int32_t* groups, int64_t count, CellFetch* fetch);
// Most cells that one query of the layer opens, over all KV heads.
int64_t MostOpenedCells(const HeadShape& shape, const RoutingConfig& rule);

}  // namespace hga

#endif  // HGA_ATTENTION_CELL_NEEDS_H_
