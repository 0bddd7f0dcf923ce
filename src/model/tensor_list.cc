// SPDX-License-Identifier: Apache-2.0
// The tensors each model family is made of, and the check that a checkpoint has exactly those.
#include <fmt/format.h>

#include "base/file.h"
#include "model/model_config.h"

namespace hga {
namespace {

using Visit = std::function<Status(const TensorSpec&)>;

Status VisitFeedForward(const std::string& prefix, int64_t hidden, int64_t width,
                        const Visit& visit) {
  HGA_RETURN_IF_ERROR(visit({prefix + "gate_proj.weight", {width, hidden}, TensorRole::kLinear}));
  HGA_RETURN_IF_ERROR(visit({prefix + "up_proj.weight", {width, hidden}, TensorRole::kLinear}));
  return visit({prefix + "down_proj.weight", {hidden, width}, TensorRole::kLinear});
}

Status VisitAttention(const ModelConfig& config, const std::string& prefix, const Visit& visit) {
  const int64_t hidden = config.hidden, q = config.q_width(), kv = config.kv_width();
  const std::string attention = prefix + "self_attn.";
  HGA_RETURN_IF_ERROR(visit({prefix + "input_layernorm.weight", {hidden}, TensorRole::kNorm}));
  HGA_RETURN_IF_ERROR(visit({attention + "q_proj.weight", {q, hidden}, TensorRole::kLinear}));
  HGA_RETURN_IF_ERROR(visit({attention + "k_proj.weight", {kv, hidden}, TensorRole::kLinear}));
  HGA_RETURN_IF_ERROR(visit({attention + "v_proj.weight", {kv, hidden}, TensorRole::kLinear}));
  HGA_RETURN_IF_ERROR(visit({attention + "o_proj.weight", {hidden, q}, TensorRole::kLinear}));
  HGA_RETURN_IF_ERROR(visit({attention + "q_norm.weight", {config.head_dim}, TensorRole::kNorm}));
  HGA_RETURN_IF_ERROR(visit({attention + "k_norm.weight", {config.head_dim}, TensorRole::kNorm}));
  return visit({prefix + "post_attention_layernorm.weight", {hidden}, TensorRole::kNorm});
}

Status VisitLayer(const ModelConfig& config, int layer, const Visit& visit) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  HGA_RETURN_IF_ERROR(VisitAttention(config, prefix, visit));
  const std::string mlp = prefix + "mlp.";
  if (!config.is_moe_layer[static_cast<size_t>(layer)]) {
    return VisitFeedForward(mlp, config.hidden, config.intermediate, visit);
  }
  HGA_RETURN_IF_ERROR(
      visit({mlp + "gate.weight", {config.experts, config.hidden}, TensorRole::kRouter}));
  for (int expert = 0; expert < config.experts; ++expert) {
    HGA_RETURN_IF_ERROR(VisitFeedForward(fmt::format("{}experts.{}.", mlp, expert), config.hidden,
                                         config.moe_intermediate, visit));
  }
  return OkStatus();
}

bool IsPlainFloat(StoredDtype dtype) {
  return dtype == StoredDtype::kBf16 || dtype == StoredDtype::kF16 || dtype == StoredDtype::kF32;
}

class TensorChecker {
 public:
  TensorChecker(const ModelConfig& config, const Checkpoint& checkpoint)
      : config_(config), checkpoint_(checkpoint), needed_(checkpoint.tensors().size(), false) {}

  Status Run(TensorTotals* totals) {
    HGA_RETURN_IF_ERROR(
        ForEachTensor(config_, [this](const TensorSpec& spec) { return CheckOne(spec); }));
    HGA_RETURN_IF_ERROR(CheckNothingElse());
    if (totals) *totals = totals_;
    return OkStatus();
  }

 private:
  Status CheckOne(const TensorSpec& spec);
  Status CheckScale(const TensorSpec& spec, const TensorInfo& weight);
  Status CheckShape(const TensorInfo& tensor, const std::vector<int64_t>& shape) const;
  Status CheckNothingElse() const;
  Status Absent(const std::string& name) const;

  std::string Where(const TensorInfo& tensor) const {
    return fmt::format("{}: tensor {}", Quoted(checkpoint_.ShardPath(tensor)), Quoted(tensor.name));
  }
  void Count(const TensorInfo& tensor) {
    needed_[static_cast<size_t>(&tensor - checkpoint_.tensors().data())] = true;
    totals_.weight_bytes += tensor.bytes;
  }

  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  std::vector<bool> needed_;  // [tensors of the checkpoint]
  TensorTotals totals_;
};

Status TensorChecker::Absent(const std::string& name) const {
  std::string text = fmt::format("{}: tensor {} is missing, a {} model of {} layers needs it",
                                 Quoted(checkpoint_.directory()), Quoted(name),
                                 FamilyName(config_.family), config_.layers);
  const size_t experts = name.find(".experts.");
  if (experts != name.npos &&
      checkpoint_.Find(name.substr(0, experts) + ".experts.gate_up_proj") != nullptr) {
    text += " (its experts are stored fused as experts.gate_up_proj, which is not read)";
  }
  return DataLoss(std::move(text));
}

Status TensorChecker::CheckShape(const TensorInfo& tensor,
                                 const std::vector<int64_t>& shape) const {
  if (tensor.shape == shape) return OkStatus();
  return DataLoss(fmt::format("{} has shape {}, but config.json asks for {}", Where(tensor),
                              ShapeText(tensor.shape), ShapeText(shape)));
}

Status TensorChecker::CheckOne(const TensorSpec& spec) {
  const TensorInfo* tensor = checkpoint_.Find(spec.name);
  if (tensor == nullptr) return Absent(spec.name);
  HGA_RETURN_IF_ERROR(CheckShape(*tensor, spec.shape));
  Count(*tensor);
  totals_.parameters += tensor->elements();
  if (IsPlainFloat(tensor->dtype)) return OkStatus();
  if (spec.role == TensorRole::kLinear && tensor->dtype == StoredDtype::kF8E4m3) {
    return CheckScale(spec, *tensor);
  }
  return Unsupported(fmt::format("{} has dtype {}, this build runs BF16, F16, F32{} here",
                                 Where(*tensor), DtypeName(tensor->dtype),
                                 spec.role == TensorRole::kLinear ? " and F8_E4M3" : ""));
}

Status TensorChecker::CheckScale(const TensorSpec& spec, const TensorInfo& weight) {
  if (config_.fp8_block_rows == 0) {
    return Unsupported(
        fmt::format("{} is F8_E4M3, but config.json has no quantization_config", Where(weight)));
  }
  const std::string name = spec.name + "_scale_inv";
  const TensorInfo* scale = checkpoint_.Find(name);
  if (scale == nullptr) return Absent(name);
  const int64_t rows = config_.fp8_block_rows, cols = config_.fp8_block_cols;
  HGA_RETURN_IF_ERROR(
      CheckShape(*scale, {(spec.shape[0] + rows - 1) / rows, (spec.shape[1] + cols - 1) / cols}));
  if (!IsPlainFloat(scale->dtype)) {
    return Unsupported(fmt::format("{} has dtype {}, a scale is F32, F16 or BF16", Where(*scale),
                                   DtypeName(scale->dtype)));
  }
  Count(*scale);
  return OkStatus();
}

// A tensor nobody asks for means that the model computes something we don't.
Status TensorChecker::CheckNothingElse() const {
  for (size_t i = 0; i < needed_.size(); ++i) {
    const TensorInfo& tensor = checkpoint_.tensors()[i];
    if (needed_[i] || tensor.name.ends_with(".rotary_emb.inv_freq")) continue;
    if (config_.tied && tensor.name == "lm_head.weight") continue;
    return Unsupported(
        fmt::format("{} is no part of a {} model of {} layers as config.json describes it",
                    Where(tensor), FamilyName(config_.family), config_.layers));
  }
  return OkStatus();
}

}  // namespace

Status ForEachTensor(const ModelConfig& config, const Visit& visit) {
  HGA_RETURN_IF_ERROR(
      visit({"model.embed_tokens.weight", {config.vocab, config.hidden}, TensorRole::kEmbedding}));
  for (int layer = 0; layer < config.layers; ++layer) {
    HGA_RETURN_IF_ERROR(VisitLayer(config, layer, visit));
  }
  HGA_RETURN_IF_ERROR(visit({"model.norm.weight", {config.hidden}, TensorRole::kNorm}));
  if (config.tied) return OkStatus();
  return visit({"lm_head.weight", {config.vocab, config.hidden}, TensorRole::kEmbedding});
}

Status CheckTensors(const ModelConfig& config, const Checkpoint& checkpoint, TensorTotals* totals) {
  return TensorChecker(config, checkpoint).Run(totals);
}

}  // namespace hga
