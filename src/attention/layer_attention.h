// SPDX-License-Identifier: Apache-2.0
// One step of attention for one sequence: summaries, plan, fetch, attend.
#ifndef HGA_ATTENTION_LAYER_ATTENTION_H_
#define HGA_ATTENTION_LAYER_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "attention/summaries.h"
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
  Status Prepare(const HeadShape& shape, int rows, int budget);
  PlanView Plan(const RoutingConfig& rule, const HeadShape& shape) const;
  float* tail() const { return tail_.data(); }

 private:
  Array<int32_t> groups_;
  Array<int32_t> counts_;
  Array<float> tail_;
};

// The rules of one sequence applied to its history. Move-only.
class SequenceAttention {
 public:
  // `config` must be valid for `history`'s layers.
  static Result<SequenceAttention> Make(const AttentionConfig& config, const HeadShape& shape,
                                        double rope_theta, const KvHistory& history);
  const AttentionConfig& config() const { return config_; }

  // Builds the summaries of `layer` for chunks that closed in [old_length, length).
  void Close(Ops& ops, const KvHistory& history, int layer, int64_t old_length, int64_t length);
  // Attention of `queries` consecutive queries whose keys and values are in the history.
  // q, out [queries][heads][head_dim].
  void Attend(Ops& ops, AttentionScratch& scratch, const KvHistory& history, int layer,
              const float* q, int64_t first_position, int queries, float* out);
  // Other rules over the same history: summaries are rebuilt where they differ.
  Status SetConfig(Ops& ops, const KvHistory& history, const AttentionConfig& config,
                   int64_t length);

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
  void Route(Ops& ops, AttentionScratch& scratch, const AttendRoutedParams& attend, int layer);
  void CountRouted(const AttendRoutedParams& p);
  void CountFixed(int layer, int64_t first_position, int queries);
  void Remember(const AttendRoutedParams& p, int layer);

  AttentionConfig config_;
  HeadShape shape_;
  double rope_theta_ = 0;
  std::vector<LayerSummaries> summaries_;  // [layers]; empty where the layer has none
  std::vector<LastPlanOf> last_;           // [layers]
  AttentionStats stats_;
  // Reused by every span, so that none allocates.
  std::vector<const Bf16*> chunk_cells_;  // [kv_heads][8]
  std::vector<uint8_t> marks_;            // groups, for counting distinct ones
};

}  // namespace hga

#endif  // HGA_ATTENTION_LAYER_ATTENTION_H_
