// SPDX-License-Identifier: Apache-2.0
// Fuzzes the shard index, config.json and generation_config.json readers: no crash, and whatever
// they accept keeps the bounds that loading relies on.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <string_view>

#include "model/checkpoint.h"
#include "model/model_config.h"
#include "tests/fuzz/json_mutator.h"

namespace {

constexpr size_t kPrefix = 1;  // chooses the reader

void Require(bool condition) {
  if (!condition) std::abort();
}

void CheckIndex(std::string_view json) {
  const auto index = hga::ParseShardIndex(json, "fuzz");
  if (!index.ok()) {
    Require(!index.status().message().empty());
    return;
  }
  std::set<std::string> names;
  for (const std::string& shard : index->shard_names) {
    Require(shard.ends_with(".safetensors") && shard.find('/') == shard.npos);
  }
  for (const auto& [name, shard] : index->weight_map) {
    Require(names.insert(name).second && shard >= 0);
    Require(static_cast<size_t>(shard) < index->shard_names.size());
  }
}

void CheckConfig(std::string_view json) {
  const auto config = hga::ParseModelConfig(json, "fuzz");
  if (!config.ok()) {
    Require(!config.status().message().empty());
    return;
  }
  Require(config->layers > 0 && config->hidden > 0 && config->vocab > 0 && config->kv_heads > 0);
  Require(config->heads % config->kv_heads == 0);
  Require(config->head_dim == 64 || config->head_dim == 128);
  Require(config->experts_per_token <= config->experts);
  Require(config->is_moe_layer.size() == static_cast<size_t>(config->layers));
  Require(config->rope_theta > 0 && config->rms_norm_eps > 0);
  for (const int32_t id : config->eos_ids) Require(id >= 0 && id < config->vocab);
  for (const bool moe : config->is_moe_layer) {
    Require(moe ? config->moe_intermediate > 0 : config->intermediate > 0);
  }
}

void CheckGeneration(std::string_view json) {
  const auto defaults = hga::ParseGenerationDefaults(json, "fuzz");
  if (!defaults.ok()) return;
  Require(defaults->temperature >= 0 && defaults->top_p > 0 && defaults->top_p <= 1);
  Require(defaults->top_k >= 0 && defaults->repetition_penalty > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kPrefix) return 0;
  const std::string_view json(reinterpret_cast<const char*>(data) + kPrefix, size - kPrefix);
  if (data[0] % 4 == 0) {
    CheckIndex(json);
  } else if (data[0] % 4 == 1) {
    CheckGeneration(json);
  } else {
    CheckConfig(json);
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  static constexpr std::string_view kWords[] = {
      "{",
      "}",
      "[",
      "]",
      ",",
      "\"",
      "null",
      "true",
      "\\u002f",
      "../",
      ".safetensors",
      "\"weight_map\":{},",
      "\"metadata\":{\"total_size\":1},",
      "\"a\":\"b.safetensors\",",
      "\"rope_scaling\":{\"rope_type\":\"default\"},",
      "\"rope_parameters\":{\"rope_theta\":1e6},",
      "\"mlp_only_layers\":[0,1],",
      "\"decoder_sparse_step\":2,",
      "\"eos_token_id\":[1,2],",
      "\"layer_types\":[\"full_attention\"],",
      "\"architectures\":[\"Qwen3ForCausalLM\"],",
      "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]},",
      "\"top_k\":20,",
      "\"temperature\":0.7,"};
  static constexpr std::string_view kDocuments[] = {
      R"({"metadata":{"total_size":7},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})",
      R"({"eos_token_id":[1,2],"temperature":0.6,"top_p":0.95,"top_k":20,"do_sample":true})",
      R"({"model_type":"qwen3","num_hidden_layers":1,"hidden_size":64,"num_attention_heads":1,)"
      R"("num_key_value_heads":1,"head_dim":64,"vocab_size":9,"intermediate_size":8,)"
      R"("max_position_embeddings":64,"rms_norm_eps":1e-6,"rope_theta":1e4,"eos_token_id":3})",
      R"({"model_type":"qwen3_moe","num_hidden_layers":2,"hidden_size":64,)"
      R"("num_attention_heads":2,"num_key_value_heads":1,"head_dim":64,"vocab_size":9,)"
      R"("intermediate_size":8,"max_position_embeddings":64,"rms_norm_eps":1e-6,"num_experts":4,)"
      R"("num_experts_per_tok":2,"moe_intermediate_size":8,"norm_topk_prob":true,)"
      R"("rope_parameters":{"rope_type":"default","rope_theta":1e4},"mlp_only_layers":[0]})"};
  return hga::MutateJson(data, size, max_size, seed, kPrefix, kWords, kDocuments);
}
