// SPDX-License-Identifier: Apache-2.0
// config.json and generation_config.json: what a checkpoint computes, in numbers that were checked.
#ifndef HGA_MODEL_MODEL_CONFIG_H_
#define HGA_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"
#include "model/checkpoint.h"

namespace hga {

enum class ModelFamily { kQwen3, kQwen3Moe };
std::string_view FamilyName(ModelFamily family);  // config.json's model_type

inline constexpr int64_t kMaxConfigBytes = 16 << 20;

struct ModelConfig {
  ModelFamily family = ModelFamily::kQwen3;
  int layers = 0;
  int hidden = 0;
  int heads = 0;  // a multiple of kv_heads
  int kv_heads = 0;
  int head_dim = 0;  // 64 or 128
  int vocab = 0;
  int intermediate = 0;  // width of a dense feed-forward
  int experts = 0;       // 0: no mixture
  int experts_per_token = 0;
  int moe_intermediate = 0;  // width of one expert
  bool norm_topk_prob = false;
  bool tied = false;  // the output matrix is the embedding
  double rope_theta = 0;
  double rms_norm_eps = 0;
  int64_t max_position = 0;  // tokens
  int fp8_block_rows = 0;    // 0: not quantised; else 128
  int fp8_block_cols = 0;
  std::vector<std::string> not_quantised;  // module names that stay as they are
  std::vector<int32_t> eos_ids;            // generation_config.json's, else config.json's
  std::vector<bool> is_moe_layer;          // [layers]

  int q_width() const { return heads * head_dim; }
  int kv_width() const { return kv_heads * head_dim; }
};

// Both spellings of transformers (4: rope_theta, rope_scaling, torch_dtype; 5: rope_parameters,
// dtype). kUnsupported names what this build can't run (family, rope_scaling, sliding window,
// quantisation, ...); kDataLoss and kInvalidArgument name the field and both numbers.
Result<ModelConfig> ParseModelConfig(std::string_view json, const std::string& file_name);
// DIR/config.json, and end-of-text ids of DIR/generation_config.json if there is one.
Result<ModelConfig> ReadModelConfig(const std::string& directory);

// Sampling the checkpoint's authors suggest. Fields that are absent keep these neutral values.
struct GenerationDefaults {
  double temperature = 1;
  double top_p = 1;
  int top_k = 0;  // 0: off
  double min_p = 0;
  double repetition_penalty = 1;
  bool do_sample = false;
};
Result<GenerationDefaults> ParseGenerationDefaults(std::string_view json,
                                                   const std::string& file_name);
// A missing generation_config.json gives the defaults.
Result<GenerationDefaults> ReadGenerationDefaults(const std::string& directory);

// What a tensor is used for decides which dtypes it may have.
enum class TensorRole {
  kNorm,       // BF16, F16, F32
  kEmbedding,  // BF16, F16, F32; also the output matrix
  kRouter,     // BF16, F16, F32
  kLinear,     // these, or F8_E4M3 with NAME_scale_inv [ceil(rows/128), ceil(cols/128)]
};
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  TensorRole role = TensorRole::kLinear;
};
// Calls `visit` for every tensor the model needs, scales not included, in the order of use; stops
// at the first error.
Status ForEachTensor(const ModelConfig& config,
                     const std::function<Status(const TensorSpec&)>& visit);

struct TensorTotals {
  int64_t parameters = 0;    // elements of needed tensors, without scales
  int64_t weight_bytes = 0;  // stored bytes of needed tensors, with scales
};
// kDataLoss when a needed tensor is absent or has another shape or dtype; kUnsupported for a tensor
// this family does not have (it would be ignored otherwise). An output matrix stored beside tied
// embeddings and rotary tables are passed over. `totals` may be null.
Status CheckTensors(const ModelConfig& config, const Checkpoint& checkpoint,
                    TensorTotals* totals = nullptr);

}  // namespace hga

#endif  // HGA_MODEL_MODEL_CONFIG_H_
