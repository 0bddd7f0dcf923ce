// SPDX-License-Identifier: Apache-2.0
// The engine behind hga/engine.h: one model on one backend, and its sequences.
#ifndef HGA_ENGINE_ENGINE_IMPL_H_
#define HGA_ENGINE_ENGINE_IMPL_H_

#include <memory>
#include <string>
#include <vector>

#include "attention/layer_attention.h"
#include "backend/ops.h"
#include "hga/engine.h"
#include "model/transformer.h"

namespace hga {

class EngineImpl;

class SequenceImpl final : public Sequence {
 public:
  SequenceImpl(EngineImpl* engine, KvHistory history, SequenceAttention attention)
      : engine_(engine), history_(std::move(history)), attention_(std::move(attention)) {}

  int64_t length() const override { return length_; }
  int64_t capacity() const override { return history_.capacity(); }
  const AttentionConfig& attention() const override { return attention_.config(); }
  const AttentionStats& stats() const override { return attention_.stats(); }
  void ResetStats() override { attention_.ResetStats(); }
  Status SetAttention(const AttentionConfig& config) override;
  Status Truncate(int64_t length) override;
  std::vector<OpenedGroup> LastPlan(int layer, int kv_head) const override {
    return attention_.LastPlan(layer, kv_head);
  }

 private:
  friend class EngineImpl;
  EngineImpl* engine_;
  KvHistory history_;
  SequenceAttention attention_;
  int64_t length_ = 0;
};

class EngineImpl final : public Engine {
 public:
  EngineImpl(ModelInfo info, std::unique_ptr<Tokenizer> tokenizer, std::unique_ptr<Ops> ops,
             Transformer transformer, int span)
      : info_(std::move(info)),
        tokenizer_(std::move(tokenizer)),
        ops_(std::move(ops)),
        transformer_(std::move(transformer)),
        span_(span) {}

  const ModelInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override;
  int threads() const override { return ops_->threads(); }
  std::string isa() const override;
  int span() const override { return span_; }
  Result<std::unique_ptr<Sequence>> NewSequence(const AttentionConfig& attention,
                                                int64_t capacity) override;
  Status Forward(std::span<const BatchItem> items) override;
  Status Feed(Sequence& sequence, std::span<const int32_t> tokens, LogitsWanted wanted,
              std::span<float> logits,
              const std::function<bool(int64_t, int64_t)>& progress) override;
  Result<std::vector<LayerReport>> CompareLayers(
      std::span<const int32_t> tokens, std::span<const AttentionConfig> rules, int64_t from,
      int64_t stride, const std::function<bool(int64_t, int64_t)>& progress) override;
  MemoryPlan Plan(const AttentionConfig& attention, int64_t context) const override;
  std::vector<StageTime> stage_times() const override;
  void ResetStageTimes() override;

  // Activations, for the span; scratch follows with the first sequence.
  Status Prepare();
  // Grows scratch to sequences of `capacity` tokens under `attention`.
  Status PrepareFor(const AttentionConfig& attention, int64_t capacity);
  Status SetAttention(SequenceImpl& sequence, const AttentionConfig& config);

 private:
  Status Check(const BatchItem& item) const;
  Status Run(std::span<const BatchItem> items, const AttentionTap& tap);

  ModelInfo info_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Ops> ops_;
  Transformer transformer_;
  AttentionScratch scratch_;
  std::vector<TransformerItem> parts_;  // of the current batch
  int span_;
  int64_t prepared_context_ = 0;
  int prepared_budget_ = -1;
};

// Largest groups_budget of any layer's rule.
int LargestBudget(const AttentionConfig& config, int layers);

}  // namespace hga

#endif  // HGA_ENGINE_ENGINE_IMPL_H_
