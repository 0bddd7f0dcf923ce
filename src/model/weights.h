// SPDX-License-Identifier: Apache-2.0
// A checkpoint's weights in memory, in the precision they are stored in.
#ifndef HGA_MODEL_WEIGHTS_H_
#define HGA_MODEL_WEIGHTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/ops.h"
#include "base/memory.h"
#include "hga/engine.h"
#include "hga/status.h"
#include "model/checkpoint.h"
#include "model/model_config.h"

namespace hga {

struct LayerWeights {
  const float* input_norm = nullptr;      // [hidden]
  const float* attention_norm = nullptr;  // [hidden], after attention
  const float* q_norm = nullptr;          // [head_dim]
  const float* k_norm = nullptr;          // [head_dim]
  WeightView q, k, v, o;
  // Mixture of experts, or (experts empty) one dense feed-forward in [0].
  WeightView router;  // [experts][hidden]
  std::vector<WeightView> gate, up, down;
  // The same as tables in the memory of the device the weights are in.
  const WeightView* gate_table = nullptr;
  const WeightView* up_table = nullptr;
  const WeightView* down_table = nullptr;
  bool moe = false;
};

// Move-only; views point into it.
class ModelWeights {
 public:
  // Reads every tensor the family needs, in file order. `checkpoint` must have passed CheckTensors.
  // With `check_values` non-finite values are refused.
  static Result<ModelWeights> Load(const ModelConfig& config, const Checkpoint& checkpoint,
                                   bool check_values,
                                   const std::function<void(const LoadProgress&)>& progress);
  // Random weights of the same shapes and precision, for timing.
  static Result<ModelWeights> Random(const ModelConfig& config, uint64_t seed);

  const WeightView& embedding() const { return embedding_; }  // [vocab][hidden]
  const WeightView& head() const { return head_; }            // [vocab][hidden]
  const float* final_norm() const { return final_norm_; }     // [hidden]
  const std::vector<LayerWeights>& layers() const { return layers_; }
  // XXH3-128 of all of it, to tell checkpoints apart; reads everything.
  std::array<uint8_t, 16> Fingerprint() const;
  int64_t bytes() const { return bytes_; }
  // Moves everything but the embedding into the memory of a GPU, in the precision it has. The
  // device must outlive this.
  Status MoveTo(Device& device);

 private:
  struct Needed;
  Status Layout(const ModelConfig& config, const Checkpoint* checkpoint,
                std::vector<Needed>* needed);
  Status Bind(const ModelConfig& config);
  Status MoveTables(Device& device);

  Array<uint8_t> memory_;  // weights as stored
  Array<float> floats_;    // norms and scales, widened
  DeviceArray<uint8_t> device_memory_;
  DeviceArray<float> device_floats_;
  DeviceArray<WeightView> device_tables_;
  int64_t bytes_ = 0;
  std::unordered_map<std::string, WeightView> by_name_;
  WeightView embedding_, head_;
  const float* final_norm_ = nullptr;
  std::vector<LayerWeights> layers_;
};

}  // namespace hga

#endif  // HGA_MODEL_WEIGHTS_H_
