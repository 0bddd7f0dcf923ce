// SPDX-License-Identifier: Apache-2.0
// The engine behind hga/engine.h: one model on one backend, and its sequences.
#ifndef HGA_ENGINE_ENGINE_IMPL_H_
#define HGA_ENGINE_ENGINE_IMPL_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/durable_sequence.h"
#include "attention/kv_space.h"
#include "attention/layer_attention.h"
#include "backend/ops.h"
#include "hga/engine.h"
#include "model/transformer.h"

namespace hga {

class EngineImpl;

class SequenceImpl final : public Sequence {
 public:
  SequenceImpl(EngineImpl* engine, std::unique_ptr<KvHistory> history, SequenceAttention attention)
      : engine_(engine), history_(std::move(history)), attention_(std::move(attention)) {
    tokens_.reserve(static_cast<size_t>(history_->capacity()));
  }

  int64_t length() const override { return history_->length(); }
  int64_t capacity() const override { return history_->capacity(); }
  std::span<const int32_t> tokens() const override { return tokens_; }
  Status Checkpoint(const SessionNote& note) override;
  const SessionNote& note() const override { return note_; }
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
  // The tokens from `length` on are forgotten, before or after their K/V is.
  void Cut(int64_t length);
  // K/V of `tokens` is whole, computed in one span.
  void Extend(std::span<const int32_t> tokens);

  std::unique_ptr<DurableSequence> durable_;  // of a session; outlives the history
  EngineImpl* engine_;
  std::unique_ptr<KvHistory> history_;
  SequenceAttention attention_;
  std::vector<int32_t> tokens_;  // [length]

  SessionNote note_;
};

class EngineImpl final : public Engine {
 public:
  EngineImpl(ModelInfo info, std::unique_ptr<Tokenizer> tokenizer, std::unique_ptr<Ops> ops,
             Transformer transformer, std::unique_ptr<KvSpace> space, int span)
      : info_(std::move(info)),
        tokenizer_(std::move(tokenizer)),
        ops_(std::move(ops)),
        transformer_(std::move(transformer)),
        span_(span),
        space_(std::move(space)) {}

  const ModelInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override;
  int threads() const override { return ops_->threads(); }
  std::string isa() const override;
  int span() const override { return span_; }
  Result<std::unique_ptr<Sequence>> NewSequence(const AttentionConfig& attention,
                                                int64_t capacity) override;
  Result<std::unique_ptr<Sequence>> OpenSession(const std::string& name,
                                                const AttentionConfig& attention,
                                                int64_t capacity) override;
  const KvOptions& kv_options() const override { return space_->options(); }
  KvStats kv_stats() const override;
  void EvictAll() override { space_->EvictAll(); }
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
  Status Truncate(SequenceImpl& sequence, int64_t length);
  Status Checkpoint(SequenceImpl& sequence, const SessionNote& note);

 private:
  Status Check(const BatchItem& item) const;
  Status CheckTokens(std::span<const int32_t> tokens) const;
  Status Run(std::span<const BatchItem> items, const AttentionTap& tap);
  Status RunOnce(std::span<const BatchItem> items, const AttentionTap& tap, SequenceImpl** failed);
  Status CheckSequence(const AttentionConfig& attention, int64_t capacity) const;
  // engine_kv.cc
  Status Recover(SequenceImpl& sequence);
  Status CutTo(SequenceImpl& sequence, int64_t length);
  // With `all`, at the start.
  Status CutAtLoss(SequenceImpl& sequence, bool all);
  Status Replay(SequenceImpl& sequence, std::span<const int32_t> tokens);
  Result<SessionIdentity> Identity();
  Status Resume(SequenceImpl& sequence, std::span<const int32_t> tokens);
  Status TakeCheckpoint(SequenceImpl& sequence, const SessionNote& note);
  Status PublishCut(SequenceImpl& sequence, std::span<const int32_t> next);

  ModelInfo info_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Ops> ops_;
  Transformer transformer_;
  AttentionScratch scratch_;
  std::vector<TransformerItem> parts_;  // of the current batch
  int span_;
  std::unique_ptr<KvSpace> space_;
  int64_t program_bytes_ = 0;  // memory of the process, weights apart
  int64_t recomputed_tokens_ = 0;
  bool replaying_ = false;  // the same tokens are computed again
  std::optional<SessionIdentity> identity_;
  int64_t prepared_context_ = 0;
  int prepared_budget_ = -1;
};

// What ops are asked for at most, by sequences of `capacity` tokens in spans of `span`.
OpsLimits LimitsOf(const ModelInfo& info, int64_t capacity, int span);
// Largest groups_budget of any layer's rule.
int LargestBudget(const AttentionConfig& config, int layers);

}  // namespace hga

#endif  // HGA_ENGINE_ENGINE_IMPL_H_
