// SPDX-License-Identifier: Apache-2.0
// Reads config.json strictly: what would change the computation and is not known is refused.
#include "model/model_config.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <new>

#include "base/file.h"
#include "model/json_fields.h"

namespace hga {
namespace {

using Fields = JsonFields;

// Far above any model there is; products of any two stay inside 64 bits.
constexpr int kMaxLayers = 1024;
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxHeads = 1024;
constexpr int kMaxVocab = 1 << 24;
constexpr int kMaxExperts = 4096;
constexpr int64_t kMaxPosition = int64_t{1} << 31;
constexpr size_t kMaxEosIds = 1024;
constexpr size_t kMaxModules = 1 << 16;
constexpr int kFp8Block = 128;

struct FamilyRow {
  ModelFamily family;
  std::string_view model_type;
  std::string_view architecture;
};
constexpr std::array<FamilyRow, 2> kFamilies = {
    {{ModelFamily::kQwen3, "qwen3", "Qwen3ForCausalLM"},
     {ModelFamily::kQwen3Moe, "qwen3_moe", "Qwen3MoeForCausalLM"}}};

Status ReadFamily(const Fields& fields, ModelConfig* config) {
  std::string type;
  HGA_RETURN_IF_ERROR(fields.Text("model_type", Fields::kRefuse, &type));
  const auto row = std::find_if(kFamilies.begin(), kFamilies.end(),
                                [&](const FamilyRow& r) { return r.model_type == type; });
  if (row == kFamilies.end()) {
    return Unsupported(fields.Message(
        "model_type", fmt::format("{} is a model family this build does not run (it runs qwen3 and "
                                  "qwen3_moe)",
                                  Quoted(type))));
  }
  config->family = row->family;
  if (!fields.Has("architectures")) return OkStatus();
  std::vector<std::string> architectures;
  HGA_RETURN_IF_ERROR(fields.Texts("architectures", 64, &architectures));
  if (std::find(architectures.begin(), architectures.end(), row->architecture) !=
      architectures.end()) {
    return OkStatus();
  }
  return Unsupported(fields.Message(
      "architectures",
      fmt::format("is [{}], which does not contain {}",
                  architectures.empty() ? "" : Quoted(architectures[0]), row->architecture)));
}

Status ReadHeads(const Fields& fields, ModelConfig* config) {
  HGA_RETURN_IF_ERROR(
      fields.Int("num_attention_heads", 1, kMaxHeads, Fields::kRefuse, &config->heads));
  HGA_RETURN_IF_ERROR(
      fields.Int("num_key_value_heads", 1, kMaxHeads, Fields::kRefuse, &config->kv_heads));
  if (config->heads % config->kv_heads != 0) {
    return InvalidArgument(fields.Message("num_attention_heads",
                                          fmt::format("{} is no multiple of num_key_value_heads {}",
                                                      config->heads, config->kv_heads)));
  }
  if (!fields.Has("head_dim")) {
    // The two families disagree about what an absent head_dim means unless it is 128 anyway.
    if (config->hidden % config->heads != 0 ||
        (config->family == ModelFamily::kQwen3 && config->hidden / config->heads != 128)) {
      return DataLoss(fields.Message(
          "head_dim", fmt::format("is missing and does not follow from hidden_size {} and "
                                  "num_attention_heads {}",
                                  config->hidden, config->heads)));
    }
    config->head_dim = config->hidden / config->heads;
  }
  HGA_RETURN_IF_ERROR(fields.Int("head_dim", 1, kMaxWidth, Fields::kKeep, &config->head_dim));
  if (config->head_dim != 64 && config->head_dim != 128) {
    return Unsupported(fields.Message(
        "head_dim", fmt::format("is {}, this build runs 64 and 128", config->head_dim)));
  }
  return OkStatus();
}

Status ReadSizes(const Fields& fields, ModelConfig* config) {
  HGA_RETURN_IF_ERROR(
      fields.Int("num_hidden_layers", 1, kMaxLayers, Fields::kRefuse, &config->layers));
  HGA_RETURN_IF_ERROR(fields.Int("hidden_size", 1, kMaxWidth, Fields::kRefuse, &config->hidden));
  HGA_RETURN_IF_ERROR(fields.Int("vocab_size", 1, kMaxVocab, Fields::kRefuse, &config->vocab));
  HGA_RETURN_IF_ERROR(ReadHeads(fields, config));
  HGA_RETURN_IF_ERROR(fields.Integer("max_position_embeddings", 1, kMaxPosition, Fields::kRefuse,
                                     &config->max_position));
  HGA_RETURN_IF_ERROR(
      fields.Real("rms_norm_eps", 0, true, 0.1, Fields::kRefuse, &config->rms_norm_eps));
  return fields.Bool("tie_word_embeddings", Fields::kKeep, &config->tied);
}

// Which layers have experts: every decoder_sparse_step-th, without those of mlp_only_layers.
Status ReadExperts(const Fields& fields, ModelConfig* config) {
  config->is_moe_layer.assign(static_cast<size_t>(config->layers), false);
  if (config->family == ModelFamily::kQwen3Moe) {
    int step = 1;
    std::vector<int64_t> dense_layers;
    HGA_RETURN_IF_ERROR(
        fields.Int("num_experts", 1, kMaxExperts, Fields::kRefuse, &config->experts));
    HGA_RETURN_IF_ERROR(fields.Int("num_experts_per_tok", 1, config->experts, Fields::kRefuse,
                                   &config->experts_per_token));
    HGA_RETURN_IF_ERROR(fields.Int("moe_intermediate_size", 1, kMaxWidth, Fields::kRefuse,
                                   &config->moe_intermediate));
    HGA_RETURN_IF_ERROR(fields.Bool("norm_topk_prob", Fields::kRefuse, &config->norm_topk_prob));
    HGA_RETURN_IF_ERROR(fields.Int("decoder_sparse_step", 1, kMaxLayers, Fields::kKeep, &step));
    HGA_RETURN_IF_ERROR(fields.Integers("mlp_only_layers", false, 0, config->layers - 1, kMaxLayers,
                                        &dense_layers));
    for (int layer = 0; layer < config->layers; ++layer) {
      config->is_moe_layer[static_cast<size_t>(layer)] = (layer + 1) % step == 0;
    }
    for (const int64_t layer : dense_layers) {
      config->is_moe_layer[static_cast<size_t>(layer)] = false;
    }
  }
  const bool any_dense = std::find(config->is_moe_layer.begin(), config->is_moe_layer.end(),
                                   false) != config->is_moe_layer.end();
  return fields.Int("intermediate_size", 1, kMaxWidth, any_dense ? Fields::kRefuse : Fields::kKeep,
                    &config->intermediate);
}

// One of the objects that may describe the rotary embedding.
Status ReadRopeObject(const Fields& rope, double* theta) {
  std::string type = "default";
  HGA_RETURN_IF_ERROR(rope.Text("type", Fields::kKeep, &type));
  HGA_RETURN_IF_ERROR(rope.Text("rope_type", Fields::kKeep, &type));
  if (type != "default") {
    return Unsupported(rope.Message(
        "rope_type", fmt::format("{} is a scaling of positions this build does not run (only "
                                 "\"default\")",
                                 Quoted(type))));
  }
  for (const std::string_view key : {"factor", "short_factor", "long_factor", "mrope_section"}) {
    if (rope.Has(key)) return Unsupported(rope.Message(key, "is not known for plain positions"));
  }
  for (const std::string_view key : {"full_attention", "sliding_attention"}) {
    if (rope.Has(key)) return Unsupported(rope.Message(key, "a rotary embedding per layer type"));
  }
  double partial = 1;
  HGA_RETURN_IF_ERROR(rope.Real("partial_rotary_factor", 0, true, 1, Fields::kKeep, &partial));
  if (partial != 1) {
    return Unsupported(rope.Message("partial_rotary_factor", fmt::format("is {}, not 1", partial)));
  }
  return rope.Real("rope_theta", 0, true, 1e15, Fields::kKeep, theta);
}

Status ReadRope(const Fields& fields, ModelConfig* config) {
  double plain = 0, nested = 0;
  HGA_RETURN_IF_ERROR(fields.Real("rope_theta", 0, true, 1e15, Fields::kKeep, &plain));
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!fields.Has(key)) continue;
    HGA_ASSIGN_OR_RETURN(const Fields rope, fields.Object(key));
    HGA_RETURN_IF_ERROR(ReadRopeObject(rope, &nested));
  }
  if (plain == 0 && nested == 0) {
    return DataLoss(fields.Message("rope_theta", "is missing, here and in rope_parameters"));
  }
  if (plain != 0 && nested != 0 && plain != nested) {
    return InvalidArgument(fields.Message(
        "rope_theta", fmt::format("is {}, but rope_parameters.rope_theta is {}", plain, nested)));
  }
  config->rope_theta = nested != 0 ? nested : plain;
  return OkStatus();
}

Status RefuseUnknownAttention(const Fields& fields, int layers) {
  bool bias = false, sliding = false;
  HGA_RETURN_IF_ERROR(fields.Bool("attention_bias", Fields::kKeep, &bias));
  if (bias) return Unsupported(fields.Message("attention_bias", "true is not supported"));
  HGA_RETURN_IF_ERROR(fields.Bool("use_sliding_window", Fields::kKeep, &sliding));
  if (sliding && fields.Has("sliding_window")) {
    return Unsupported(fields.Message(
        "sliding_window", fmt::format("is {} and in use (use_sliding_window), which this build "
                                      "does not run",
                                      fields.Value("sliding_window"))));
  }
  if (fields.Has("dual_chunk_attention_config")) {
    return Unsupported(fields.Message("dual_chunk_attention_config", "is not supported"));
  }
  std::string act = "silu";
  HGA_RETURN_IF_ERROR(fields.Text("hidden_act", Fields::kKeep, &act));
  if (act != "silu") {
    return Unsupported(fields.Message(
        "hidden_act", fmt::format("{} is not supported, only \"silu\"", Quoted(act))));
  }
  if (!fields.Has("layer_types")) return OkStatus();
  std::vector<std::string> types;
  HGA_RETURN_IF_ERROR(fields.Texts("layer_types", kMaxLayers, &types));
  if (static_cast<int>(types.size()) != layers) {
    return InvalidArgument(fields.Message(
        "layer_types", fmt::format("has {} items for {} layers", types.size(), layers)));
  }
  for (const std::string& type : types) {
    if (type == "full_attention") continue;
    return Unsupported(fields.Message(
        "layer_types", fmt::format("{} is not supported, only \"full_attention\"", Quoted(type))));
  }
  return OkStatus();
}

Status ReadFp8(const Fields& quant, ModelConfig* config) {
  std::string method, format = "e4m3", scheme = "dynamic", scale_format;
  HGA_RETURN_IF_ERROR(quant.Text("quant_method", Fields::kRefuse, &method));
  if (method != "fp8") {
    return Unsupported(quant.Message(
        "quant_method", fmt::format("{} is a quantisation this build does not run (only \"fp8\" "
                                    "with blocks of 128 x 128)",
                                    Quoted(method))));
  }
  HGA_RETURN_IF_ERROR(quant.Text("fmt", Fields::kKeep, &format));
  if (format != "e4m3") {
    return Unsupported(
        quant.Message("fmt", fmt::format("{} is not supported, only \"e4m3\"", Quoted(format))));
  }
  HGA_RETURN_IF_ERROR(quant.Text("activation_scheme", Fields::kKeep, &scheme));
  if (scheme != "dynamic") {
    return Unsupported(quant.Message(
        "activation_scheme", fmt::format("{} is not supported, only \"dynamic\"", Quoted(scheme))));
  }
  HGA_RETURN_IF_ERROR(quant.Text("scale_fmt", Fields::kKeep, &scale_format));
  if (!scale_format.empty() && scale_format != "float") {
    return Unsupported(quant.Message(
        "scale_fmt", fmt::format("{} is not supported, only \"float\"", Quoted(scale_format))));
  }
  std::vector<int64_t> block;
  HGA_RETURN_IF_ERROR(quant.Integers("weight_block_size", false, 0, kMaxWidth, 2, &block));
  if (block != std::vector<int64_t>{kFp8Block, kFp8Block}) {
    return Unsupported(quant.Message("weight_block_size",
                                     fmt::format("is [{}], this build runs [{}, {}]",
                                                 fmt::join(block, ", "), kFp8Block, kFp8Block)));
  }
  config->fp8_block_rows = config->fp8_block_cols = kFp8Block;
  return quant.Texts("modules_to_not_convert", kMaxModules, &config->not_quantised);
}

Status ReadQuantisation(const Fields& fields, ModelConfig* config) {
  for (const std::string_view key : {"compression_config", "quantization"}) {
    if (fields.Has(key)) {
      return Unsupported(fields.Message(key, "is a quantisation this build does not run"));
    }
  }
  if (!fields.Has("quantization_config")) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const Fields quant, fields.Object("quantization_config"));
  return ReadFp8(quant, config);
}

Status CheckDtypeFields(const Fields& fields) {
  std::string dtype;
  HGA_RETURN_IF_ERROR(fields.Text("torch_dtype", Fields::kKeep, &dtype));
  return fields.Text("dtype", Fields::kKeep, &dtype);
}

Status ReadEos(const Fields& fields, int vocab, std::vector<int32_t>* out) {
  std::vector<int64_t> ids;
  HGA_RETURN_IF_ERROR(fields.Integers("eos_token_id", true, 0, vocab - 1, kMaxEosIds, &ids));
  if (fields.Has("eos_token_id")) out->assign(ids.begin(), ids.end());
  return OkStatus();
}

Result<ModelConfig> ParseConfig(std::string_view json, const std::string& file) {
  simdjson::dom::parser parser;
  HGA_ASSIGN_OR_RETURN(const simdjson::dom::object root, ParseJsonObject(parser, json, file));
  const Fields fields(root, file, "");
  HGA_RETURN_IF_ERROR(fields.CheckNoDuplicates());
  ModelConfig config;
  HGA_RETURN_IF_ERROR(ReadFamily(fields, &config));
  HGA_RETURN_IF_ERROR(ReadSizes(fields, &config));
  HGA_RETURN_IF_ERROR(ReadExperts(fields, &config));
  HGA_RETURN_IF_ERROR(ReadRope(fields, &config));
  HGA_RETURN_IF_ERROR(RefuseUnknownAttention(fields, config.layers));
  HGA_RETURN_IF_ERROR(ReadQuantisation(fields, &config));
  HGA_RETURN_IF_ERROR(CheckDtypeFields(fields));
  HGA_RETURN_IF_ERROR(ReadEos(fields, config.vocab, &config.eos_ids));
  return config;
}

constexpr std::string_view kGenerationFile = "generation_config.json";

Result<GenerationDefaults> ParseGeneration(std::string_view json, const std::string& file,
                                           int vocab, std::vector<int32_t>* eos_ids) {
  simdjson::dom::parser parser;
  HGA_ASSIGN_OR_RETURN(const simdjson::dom::object root, ParseJsonObject(parser, json, file));
  const Fields fields(root, file, "");
  HGA_RETURN_IF_ERROR(fields.CheckNoDuplicates());
  GenerationDefaults out;
  HGA_RETURN_IF_ERROR(fields.Real("temperature", 0, false, 1e6, Fields::kKeep, &out.temperature));
  HGA_RETURN_IF_ERROR(fields.Real("top_p", 0, true, 1, Fields::kKeep, &out.top_p));
  HGA_RETURN_IF_ERROR(fields.Int("top_k", 0, kMaxVocab, Fields::kKeep, &out.top_k));
  HGA_RETURN_IF_ERROR(fields.Real("min_p", 0, false, 1, Fields::kKeep, &out.min_p));
  HGA_RETURN_IF_ERROR(
      fields.Real("repetition_penalty", 0, true, 1e6, Fields::kKeep, &out.repetition_penalty));
  HGA_RETURN_IF_ERROR(fields.Bool("do_sample", Fields::kKeep, &out.do_sample));
  HGA_RETURN_IF_ERROR(ReadEos(fields, vocab, eos_ids));
  return out;
}

Status NoMemory(const std::string& file) {
  return ResourceExhausted(fmt::format("{}: no memory to read it", Quoted(file)));
}

// The text of generation_config.json, "" when there is none.
Result<std::string> GenerationText(const std::string& directory) {
  Result<std::string> json = ReadSmallFile(directory, kGenerationFile, kMaxConfigBytes);
  if (json.ok()) {
    if (json->empty()) {
      return DataLoss(
          fmt::format("{}: is empty", Quoted(directory + "/" + std::string(kGenerationFile))));
    }
    return json;
  }
  if (json.status().code() == StatusCode::kNotFound) return std::string();
  return json.status();
}

}  // namespace

std::string_view FamilyName(ModelFamily family) {
  return kFamilies[static_cast<size_t>(family)].model_type;
}

Result<ModelConfig> ParseModelConfig(std::string_view json, const std::string& file_name) {
  try {
    return ParseConfig(json, file_name);
  } catch (const std::bad_alloc&) {
    return NoMemory(file_name);
  }
}

Result<ModelConfig> ReadModelConfig(const std::string& directory) {
  HGA_RETURN_IF_ERROR(CheckDirectory(directory));
  HGA_ASSIGN_OR_RETURN(const std::string json,
                       ReadSmallFile(directory, "config.json", kMaxConfigBytes));
  HGA_ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(json, directory + "/config.json"));
  HGA_ASSIGN_OR_RETURN(const std::string generation, GenerationText(directory));
  if (generation.empty()) return config;
  const std::string file = fmt::format("{}/{}", directory, kGenerationFile);
  try {
    const auto parsed = ParseGeneration(generation, file, config.vocab, &config.eos_ids);
    if (!parsed.ok()) return parsed.status();
  } catch (const std::bad_alloc&) {
    return NoMemory(file);
  }
  return config;
}

Result<GenerationDefaults> ParseGenerationDefaults(std::string_view json,
                                                   const std::string& file_name) {
  std::vector<int32_t> eos_ids;
  try {
    return ParseGeneration(json, file_name, kMaxVocab, &eos_ids);
  } catch (const std::bad_alloc&) {
    return NoMemory(file_name);
  }
}

Result<GenerationDefaults> ReadGenerationDefaults(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const std::string json, GenerationText(directory));
  if (json.empty()) return GenerationDefaults();
  return ParseGenerationDefaults(json, fmt::format("{}/{}", directory, kGenerationFile));
}

}  // namespace hga
