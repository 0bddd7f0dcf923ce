// SPDX-License-Identifier: Apache-2.0
// What scanning, scoring and the tail share: one level of summaries and the masses made of it.
#ifndef HGA_CUDA_SCAN_CONFIG_H_
#define HGA_CUDA_SCAN_CONFIG_H_

#include <cstdint>

#include "backend/ops.h"
#include "base/host_device.h"
#include "cuda/queue.h"
#include "spec/layout.h"

namespace hga::cuda {

inline constexpr int kScanMeans = 64;  // key means of a segment; an item has at most so many
inline constexpr int kScanWarps = 2;   // per thread block, a segment each
inline constexpr int kScanRows = 16;   // rows of a tile
inline constexpr int kScoreThreads = 256;
inline constexpr int kCombineThreads = 128;

// Consecutive queries of one chunk. A row is one query head of one query: [queries][heads].
struct RouteCall {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int queries = 0;
  int rows_per_selector = 1;  // query heads that select together
  const float* q = nullptr;   // [rows][head_dim]
  float softmax_scale = 0;
  bool fp8 = true;           // summaries; or bf16
  float* row_max = nullptr;  // [rows] what factors refer to
  HGA_HD int rows() const { return queries * heads; }
  int selector_rows() const { return rows() / rows_per_selector; }
};

// Masses of a segment are relative to its own maximum, `factor` brings them to the row's, `share`
// to the share of all candidates.
struct Segment {
  float max, sum, factor, share;
};

// Groups, or chunks of the first level: "items" of `per_item` key means each. Segments are aligned
// to position 0, so that a sum's order depends on positions alone.
struct ScanLevel {
  const void* keys = nullptr;     // [kv_heads][KeyMeanElements(capacity)]
  const float* scales = nullptr;  // [kv_heads][capacity]
  int64_t capacity = 0;
  int span = 1;
  int per_item = 1;
  int64_t first_mean = 0;  // candidates
  int64_t last_mean = 0;
  float log_span = 0;
  float* mass = nullptr;          // [rows][items], from the first candidate
  Segment* segment = nullptr;     // [rows][segments]
  const uint8_t* kept = nullptr;  // [selector rows][chunks] of the candidates; null: all
  HGA_HD int64_t items() const { return (last_mean - first_mean) / per_item; }
  HGA_HD int64_t first_segment() const { return first_mean / kScanMeans; }
  HGA_HD int64_t segments() const {
    return last_mean > first_mean ? spec::CeilDiv(last_mean, kScanMeans) - first_segment() : 0;
  }
  // Of candidate item x.
  HGA_HD int64_t SegmentOf(int64_t x) const {
    return (first_mean + x * per_item) / kScanMeans - first_segment();
  }
  HGA_HD int64_t chunks() const { return (last_mean - first_mean) / (spec::kChunk / span); }
};

// Masses and segment sums of every row.
void LaunchScan(const RouteCall& call, const ScanLevel& level, const Queue& queue);
// Factors and shares of `level`; its candidates and the items of `others` (may have none) are the
// whole.
void LaunchCombine(const RouteCall& call, const ScanLevel& level, const ScanLevel& others,
                   const Queue& queue);
// Takes the chunks that `kept` names out of the chunk level's masses and sums.
void LaunchDrop(const RouteCall& call, const ScanLevel& chunks, const Queue& queue);
// kept[kv_head][stride] becomes 1 for `chunks` chunks from `first` on that `flags` [selector
// rows][chunks] names for any row; for all of them if `flags` is null.
void LaunchKeep(const RouteCall& call, const uint8_t* flags, int64_t first, int64_t chunks,
                uint8_t* kept, int64_t stride, const Queue& queue);
// scores[selector row][stride]: summed shares; minus infinity for items of chunks not kept.
void LaunchScore(const RouteCall& call, const ScanLevel& level, float* scores, int64_t stride,
                 const Queue& queue);

}  // namespace hga::cuda

#endif  // HGA_CUDA_SCAN_CONFIG_H_
