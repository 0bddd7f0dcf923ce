// SPDX-License-Identifier: Apache-2.0
// One step of attention for one sequence: summaries, plan, fetch, attend.
#ifndef HGA_ATTENTION_LAYER_ATTENTION_H_
#define HGA_ATTENTION_LAYER_ATTENTION_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/summaries.h"
#include "attention/summary_pager.h"
#include "backend/ops.h"
#include "base/memory.h"
#include "hga/config.h"
#include "hga/engine.h"
#include "store/history.h"

namespace hga {

// Plan and tail of one span, shared by all sequences and layers of an engine.
class AttentionScratch {
 public:
  // For spans of `rows` queries, selecting at most `budget` groups.
  Status Prepare(const HeadShape& shape, int rows, int budget, Device& device);
  PlanView Plan(const RoutingConfig& rule, const HeadShape& shape) const;
  float* tail() const { return tail_.data(); }

 private:
  DeviceArray<int32_t> groups_;
  DeviceArray<int32_t> counts_;
  DeviceArray<float> tail_;
};

// The rules of one sequence applied to its history. Move-only.
class SequenceAttention {
 public:
  // `config` must be valid for `history`'s layers; `device` is the one whose ops are used later.
  // With a `summary_budget` (bytes; -1: none) the group level of layers with a beam goes to the
  // history's disk beyond it.
  static Result<SequenceAttention> Make(const AttentionConfig& config, const HeadShape& shape,
                                        double rope_theta, const KvHistory& history, Device& device,
                                        int64_t summary_budget = -1);
  const AttentionConfig& config() const { return config_; }

  // Builds the summaries of `layer` for chunks that closed in [old_length, length); their cells
  // must be in memory.
  void Close(Ops& ops, const KvHistory& history, int layer, int64_t old_length, int64_t length);
  // The same for all layers and all closed chunks, whose cells are brought in.
  Status Rebuild(Ops& ops, KvHistory& history, int64_t length);
  // The history was cut to `length` tokens: summaries behind it will be built again.
  Status Truncate(Ops& ops, KvHistory& history, int64_t length);
  // Attention of `queries` consecutive queries whose keys and values are in the history.
  // q, out [queries][heads][head_dim]. What is not in memory is brought in, piece by piece if all
  // of it has no room. kDataLoss: the history lost a record (KvHistory::Finish).
  // kResourceExhausted: what a single query opens has no room.
  Status Attend(Ops& ops, AttentionScratch& scratch, KvHistory& history, int layer, const float* q,
                int64_t first_position, int queries, float* out);
  // Other rules over the same history: summaries are rebuilt where they differ.
  // kInvalidArgument: a layer that is not in memory whole would become dense. kDataLoss as Attend;
  // the old rules stay.
  Status SetConfig(Ops& ops, KvHistory& history, const AttentionConfig& config, int64_t length);

  // On a GPU plans stay there: LastPlan is empty, and a span's fetched tokens are counted as if its
  // queries shared none.
  const AttentionStats& stats() const { return stats_; }
  void ResetStats() { stats_ = {}; }
  void CountQueries(int queries) { stats_.queries += queries; }
  std::vector<Sequence::OpenedGroup> LastPlan(int layer, int kv_head) const;

 private:
  struct LastPlanOf {
    int group = 0;
    std::vector<std::vector<int32_t>> groups;  // [kv_heads], union over the head's selectors
  };
  void ReserveFor(int64_t capacity);
  Status Route(Ops& ops, AttentionScratch& scratch, KvHistory& history,
               const AttendRoutedParams& attend, int layer);
  Status BringSummaries(Ops& ops, KvHistory& history, const RouteParams& route, int layer);
  Status RepairSummaries(Ops& ops, KvHistory& history, int layer, int64_t chunks);
  Status AttendSampled(Ops& ops, KvHistory& history, int layer, const AttendParams& p);
  Status AttendRouted(Ops& ops, KvHistory& history, int layer, const AttendRoutedParams& p);
  Status RebuildLayer(Ops& ops, KvHistory& history, int layer, int64_t length);
  Status RebuildChunks(Ops& ops, KvHistory& history, int layer, int64_t first, int64_t end);
  void PrefetchNext(KvHistory& history, int layer);
  void CountRouted(const AttendRoutedParams& p);
  void CountUnseen(const AttendRoutedParams& p);
  void AddRouted(const AttendRoutedParams& p, const AttentionStats::Sums& sums, double kv_bytes);
  void CountFixed(int layer, int64_t first_position, int queries);
  void Remember(const AttendRoutedParams& p, int layer);

  AttentionConfig config_;
  HeadShape shape_;
  double rope_theta_ = 0;
  std::vector<LayerSummaries> summaries_;  // [layers]; empty where the layer has none
  int64_t summary_budget_ = -1;
  std::unique_ptr<SummaryPager> pager_;  // null: all summaries stay in memory
  std::vector<uint8_t> kept_;            // [kv_heads][chunks] by the beam
  std::vector<LastPlanOf> last_;         // [layers]
  // Of the piece being computed, of the one behind it, and what is read ahead.
  std::unique_ptr<std::array<CellFetch, 3>> fetches_;
  AttentionStats stats_;
  // Reused by every span, so that none allocates.
  std::vector<uint8_t> marks_;  // groups, for counting distinct ones
};

}  // namespace hga

#endif  // HGA_ATTENTION_LAYER_ATTENTION_H_
