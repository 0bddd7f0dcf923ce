// SPDX-License-Identifier: Apache-2.0
// config.json: both spellings, defaults, and refusals by name.
#include "model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/unit/checkpoint_fixture.h"

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr char kHead[] =
    R"("num_hidden_layers":4,"hidden_size":256,"num_attention_heads":4,"num_key_value_heads":2,)"
    R"("head_dim":128,"vocab_size":1000,"intermediate_size":512,"max_position_embeddings":4096,)"
    R"("rms_norm_eps":1e-6)";

std::string Dense(const std::string& more) {
  return std::string("{\"model_type\":\"qwen3\",") + kHead + "," + more + "}";
}
std::string Moe(const std::string& more) {
  return std::string("{\"model_type\":\"qwen3_moe\",\"rope_theta\":1e7,") + kHead +
         R"(,"num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":64,)"
         R"("norm_topk_prob":true)" +
         more + "}";
}
ModelConfig Accept(const std::string& json) {
  const auto config = ParseModelConfig(json, "config.json");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : ModelConfig();
}
Status Refusal(const std::string& json) {
  const auto config = ParseModelConfig(json, "config.json");
  return config.ok() ? OkStatus() : config.status();
}

TEST(ModelConfigTest, BothSpellingsOfTheRotaryEmbeddingMeanTheSame) {
  const ModelConfig old = Accept(Dense(R"("rope_theta":5000000,"rope_scaling":null)"));
  const ModelConfig current =
      Accept(Dense(R"("rope_parameters":{"rope_type":"default","rope_theta":5e6})"));
  EXPECT_EQ(old.rope_theta, 5e6);
  EXPECT_EQ(current.rope_theta, 5e6);
  EXPECT_EQ(old.family, ModelFamily::kQwen3);
  EXPECT_EQ(old.experts, 0);
  EXPECT_EQ(old.is_moe_layer, std::vector<bool>(4, false));
  EXPECT_FALSE(old.tied);
  EXPECT_EQ(old.q_width(), 512);
  EXPECT_EQ(old.kv_width(), 256);
}

TEST(ModelConfigTest, SparseStepAndDenseLayersChooseTheExpertLayers) {
  EXPECT_EQ(Accept(Moe("")).is_moe_layer, std::vector<bool>(4, true));
  EXPECT_EQ(Accept(Moe(R"(,"decoder_sparse_step":2)")).is_moe_layer,
            (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(Accept(Moe(R"(,"mlp_only_layers":[0,3])")).is_moe_layer,
            (std::vector<bool>{false, true, true, false}));
}

TEST(ModelConfigTest, HeadDimMayFollowFromTheHiddenSizeWhereThatIsCertain) {
  const std::string without = R"({"model_type":"qwen3","num_hidden_layers":1,"hidden_size":512,)"
                              R"("num_attention_heads":4,"num_key_value_heads":4,"vocab_size":10,)"
                              R"("intermediate_size":8,"max_position_embeddings":64,)"
                              R"("rms_norm_eps":1e-6,"rope_theta":1e4})";
  EXPECT_EQ(Accept(without).head_dim, 128);
  std::string other = without;
  other.replace(other.find("512"), 3, "256");
  EXPECT_THAT(Refusal(other).message(), HasSubstr("head_dim: is missing"));
}

TEST(ModelConfigTest, Fp8BlocksAreRead) {
  const ModelConfig config = Accept(
      Moe(R"(,"quantization_config":{"quant_method":"fp8","fmt":"e4m3","weight_block_size":[128,)"
          R"(128],"activation_scheme":"dynamic","modules_to_not_convert":["lm_head","x"]})"));
  EXPECT_EQ(config.fp8_block_rows, 128);
  EXPECT_EQ(config.fp8_block_cols, 128);
  EXPECT_EQ(config.not_quantised, (std::vector<std::string>{"lm_head", "x"}));
}

TEST(ModelConfigTest, WhatChangesTheComputationIsRefusedByName) {
  const std::string theta = R"("rope_theta":1e4,)";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("rope_scaling":{"type":"yarn","factor":4})", "yarn"},
      {R"("rope_scaling":{"rope_type":"llama3"})", "llama3"},
      {R"("use_sliding_window":true,"sliding_window":4096)", "sliding_window"},
      {R"("attention_bias":true)", "attention_bias"},
      {R"("hidden_act":"gelu")", "gelu"},
      {R"("quantization_config":{"quant_method":"gptq"})", "gptq"},
      {R"("quantization_config":{"quant_method":"compressed-tensors"})", "compressed-tensors"},
      {R"("dual_chunk_attention_config":{})", "dual_chunk_attention_config"},
      {R"("layer_types":["full_attention","full_attention","full_attention","sliding_attention"])",
       "sliding_attention"}};
  for (const auto& [text, name] : cases) {
    const Status status = Refusal(Dense(theta + text));
    EXPECT_EQ(status.code(), StatusCode::kUnsupported) << text;
    EXPECT_THAT(status.message(), HasSubstr(name));
    EXPECT_THAT(status.message(), HasSubstr("\"config.json\": "));
  }
}

TEST(ModelConfigTest, EosIdsMayBeOneOrMany) {
  EXPECT_EQ(Accept(Dense(R"("rope_theta":1e4,"eos_token_id":7)")).eos_ids, std::vector<int32_t>{7});
  EXPECT_EQ(Accept(Dense(R"("rope_theta":1e4,"eos_token_id":[7,999])")).eos_ids,
            (std::vector<int32_t>{7, 999}));
  EXPECT_THAT(Refusal(Dense(R"("rope_theta":1e4,"eos_token_id":1000)")).message(),
              HasSubstr("eos_token_id: is 1000"));
}

TEST(TensorListTest, HasEveryTensorOnceWithItsShape) {
  const ModelConfig config = Accept(Moe(R"(,"mlp_only_layers":[1])"));
  std::set<std::string> names;
  int64_t parameters = 0;
  const Status status = ForEachTensor(config, [&](const TensorSpec& spec) {
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    int64_t count = 1;
    for (const int64_t dim : spec.shape) count *= dim;
    parameters += count;
    return OkStatus();
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(names.size(), 3u + 4 * 8 + 3 * (1 + 3 * 8) + 3);
  const int64_t attention = 2 * 256 + 2 * 128 + 256 * (512 + 256 + 256 + 512);
  EXPECT_EQ(parameters, 2 * 1000 * 256 + 256 + 4 * attention + 3 * (8 * 256 + 8 * 3 * 64 * 256) +
                            3 * 512 * 256);
  EXPECT_TRUE(names.contains("model.layers.1.mlp.up_proj.weight"));
  EXPECT_TRUE(names.contains("model.layers.2.mlp.experts.7.down_proj.weight"));
}

class GenerationTest : public TemporaryDirectory {};

TEST_F(GenerationTest, ItsEosIdsWinAndItsSamplingIsRead) {
  Write("config.json", Dense(R"("rope_theta":1e4,"eos_token_id":7)"));
  auto config = ReadModelConfig(directory_);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->eos_ids, std::vector<int32_t>{7});
  auto defaults = ReadGenerationDefaults(directory_);
  ASSERT_TRUE(defaults.ok());
  EXPECT_EQ(defaults->temperature, 1);
  EXPECT_FALSE(defaults->do_sample);
  Write("generation_config.json",
        R"({"eos_token_id":[8,9],"temperature":0.7,"top_p":0.8,"top_k":20,"do_sample":true})");
  config = ReadModelConfig(directory_);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->eos_ids, (std::vector<int32_t>{8, 9}));
  defaults = ReadGenerationDefaults(directory_);
  ASSERT_TRUE(defaults.ok()) << defaults.status().message();
  EXPECT_EQ(defaults->temperature, 0.7);
  EXPECT_EQ(defaults->top_p, 0.8);
  EXPECT_EQ(defaults->top_k, 20);
  EXPECT_TRUE(defaults->do_sample);
}

TEST_F(GenerationTest, ADirectoryWithoutConfigIsNotFound) {
  const auto config = ReadModelConfig(directory_);
  EXPECT_EQ(config.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(config.status().message(), HasSubstr("config.json"));
}

}  // namespace
}  // namespace hga
