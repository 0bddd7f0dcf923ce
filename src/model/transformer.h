// SPDX-License-Identifier: Apache-2.0
// The forward pass of the Qwen3 families: pre-norm attention with q/k norm and RoPE, then experts
// or a dense feed-forward.
#ifndef HGA_MODEL_TRANSFORMER_H_
#define HGA_MODEL_TRANSFORMER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "attention/layer_attention.h"
#include "backend/ops.h"
#include "hga/engine.h"
#include "model/model_config.h"
#include "model/weights.h"

namespace hga {

// One sequence's part of a batch.
struct TransformerItem {
  KvHistory* history = nullptr;
  SequenceAttention* attention = nullptr;
  std::span<const int32_t> tokens;
  int64_t first_position = 0;
  LogitsWanted wanted = LogitsWanted::kNone;
  float* logits = nullptr;  // [1 or tokens][vocab]
};

// Called after a layer's attention: q and out [rows][heads][head_dim] of item `item`.
using AttentionTap = std::function<void(int layer, size_t item, const float* q, const float* out)>;

enum class Stage { kEmbed, kLinear, kAttention, kExperts, kHead, kCount };
struct StageSum {
  double seconds = 0;
  double flops = 0;
  double bytes = 0;  // weights once a call; of attention what AttentionStats counts
};

// Move-only. Owns weights and activations; sequences come with each call.
class Transformer {
 public:
  Transformer(ModelConfig config, ModelWeights weights)
      : config_(std::move(config)), weights_(std::move(weights)) {}

  // Activations for `rows` tokens in one call of ops on `device`, which outlives this; moves the
  // weights there.
  Status Prepare(int rows, Device& device);
  HeadShape head_shape() const { return {config_.heads, config_.kv_heads, config_.head_dim}; }
  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }

  // Tokens must be inside the vocabulary and histories have room reserved. Waits until everything
  // is computed. An error is that of an item's attention, whose index is failed_item(), or the
  // device's; no item's tokens count then. `tap` needs a device with host memory.
  Status Forward(Ops& ops, AttentionScratch& scratch, std::span<const TransformerItem> items,
                 const AttentionTap& tap);

  size_t failed_item() const { return failed_item_; }
  StageSum& stage(Stage s) { return stages_[static_cast<size_t>(s)]; }

 private:
  void Embed(std::span<const TransformerItem> items, float* x);
  void Angles(std::span<const TransformerItem> items, float* cos, float* sin);
  // Where keys and values of a layer go: [rows][kv_heads] each.
  void KvRows(std::span<const TransformerItem> items, int layer, Bf16** k, Bf16** v);
  void SendInputs(Ops& ops, std::span<const TransformerItem> items);
  Status AttentionBlock(Ops& ops, AttentionScratch& scratch, int layer,
                        std::span<const TransformerItem> items, const AttentionTap& tap);
  Status Attend(Ops& ops, AttentionScratch& scratch, int layer,
                std::span<const TransformerItem> items, const AttentionTap& tap);
  void FeedForward(Ops& ops, const LayerWeights& w);
  Status Logits(Ops& ops, std::span<const TransformerItem> items);
  Status FetchLogits(Ops& ops, const float* h, int rows, float* logits);
  void NormRows(Ops& ops, const float* x, const float* weight, int rows, float* y);

  ModelConfig config_;
  ModelWeights weights_;
  int rows_ = 0;  // of the current call
  size_t failed_item_ = 0;
  bool on_host_ = true;
  DeviceArray<float> x_, h_, q_, k_, v_, out_, ffn_, cos_, sin_;
  // [rows][kv_heads] of one layer; on a GPU of all layers.
  DeviceArray<Bf16*> k_rows_, v_rows_;
  // A GPU's inputs and outputs on their way, pinned: as x_, cos_ and sin_, k_rows_ and v_rows_, and
  // some rows of logits.
  DeviceArray<float> sent_x_, sent_angles_, device_logits_, sent_logits_;
  DeviceArray<Bf16*> sent_rows_;
  std::vector<LinearParams> head_jobs_;  // of Logits, at most one a row
  std::vector<double> inverse_frequency_;
  std::array<StageSum, static_cast<size_t>(Stage::kCount)> stages_{};
};

}  // namespace hga

#endif  // HGA_MODEL_TRANSFORMER_H_
