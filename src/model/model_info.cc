// SPDX-License-Identifier: Apache-2.0
// What can be said about a checkpoint without running it: its facts, its place, its soundness.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <new>
#include <vector>

#include "base/file.h"
#include "hga/engine.h"
#include "model/checkpoint.h"
#include "model/hf_cache.h"
#include "model/model_config.h"
#include "model/model_info.h"

namespace hga {
namespace {

constexpr int64_t kPiece = 8 << 20;  // bytes read at once, a multiple of every element size

// How the linear weights are stored, by the first of them.
std::string WeightFormat(const ModelConfig& config, const Checkpoint& checkpoint) {
  const TensorInfo* tensor = checkpoint.Find("model.layers.0.self_attn.q_proj.weight");
  if (tensor == nullptr) return "";
  switch (tensor->dtype) {
    case StoredDtype::kF8E4m3:
      return fmt::format("fp8-e4m3 {}x{}", config.fp8_block_rows, config.fp8_block_cols);
    case StoredDtype::kBf16:
      return "bf16";
    case StoredDtype::kF16:
      return "f16";
    default:
      return "f32";
  }
}

ModelInfo MakeInfo(const ModelConfig& config, const Checkpoint& checkpoint,
                   const TensorTotals& totals) {
  ModelInfo info = InfoOf(config);
  info.directory = checkpoint.directory();
  info.weight_format = WeightFormat(config, checkpoint);
  info.parameters = totals.parameters;
  info.weight_bytes = totals.weight_bytes;
  info.tensors = static_cast<int64_t>(checkpoint.tensors().size());
  info.shards = checkpoint.shards();
  return info;
}

Result<ModelInfo> ReadInfo(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(directory));
  HGA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  TensorTotals totals;
  HGA_RETURN_IF_ERROR(CheckTensors(config, checkpoint, &totals));
  return MakeInfo(config, checkpoint, totals);
}

Status CheckAllValues(const Checkpoint& checkpoint,
                      const std::function<void(const LoadProgress&)>& progress) {
  LoadProgress done{0, checkpoint.total_bytes()};
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPiece, done.bytes_total)));
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    for (int64_t first = 0; first < tensor.bytes; first += kPiece) {
      const int64_t bytes = std::min(kPiece, tensor.bytes - first);
      HGA_RETURN_IF_ERROR(checkpoint.ReadPart(tensor, first, bytes, buffer.data()));
      HGA_RETURN_IF_ERROR(CheckValues(tensor, checkpoint.ShardPath(tensor), buffer.data(), bytes,
                                      first * 8 / DtypeBits(tensor.dtype)));
      done.bytes_done += bytes;
      if (progress) progress(done);
    }
  }
  return OkStatus();
}

Status NoMemory(const std::string& directory) {
  return ResourceExhausted(fmt::format("{}: no memory for its headers", Quoted(directory)));
}

}  // namespace

Result<ModelInfo> ReadModelInfo(const std::string& directory) {
  try {
    return ReadInfo(directory);
  } catch (const std::bad_alloc&) {
    return NoMemory(directory);
  }
}

Status CheckModel(const std::string& directory,
                  const std::function<void(const LoadProgress&)>& progress) {
  try {
    HGA_ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(directory));
    HGA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
    HGA_RETURN_IF_ERROR(CheckTensors(config, checkpoint));
    return CheckAllValues(checkpoint, progress);
  } catch (const std::bad_alloc&) {
    return NoMemory(directory);
  }
}

Result<std::string> ResolveModel(const std::string& model, const std::string& revision) {
  const Status directory = CheckDirectory(model);
  if (directory.ok() && !revision.empty()) {
    return InvalidArgument(
        fmt::format("{} is a directory; a revision ({}) can be chosen for a Hugging Face id only",
                    Quoted(model), Quoted(revision)));
  }
  if (directory.ok()) return model;
  if (directory.code() != StatusCode::kNotFound || !IsModelId(model)) return directory;
  const std::string cache = HuggingFaceCacheDirectory();
  if (cache.empty()) {
    return NotFound(
        fmt::format("{} is no directory, and there is no Hugging Face cache to look it "
                    "up in (HF_HUB_CACHE, HF_HOME and HOME are not set)",
                    Quoted(model)));
  }
  return ResolveInCache(cache, model, revision);
}

ModelInfo InfoOf(const ModelConfig& config) {
  ModelInfo info;
  info.family = FamilyName(config.family);
  info.layers = config.layers;
  info.hidden = config.hidden;
  info.heads = config.heads;
  info.kv_heads = config.kv_heads;
  info.head_dim = config.head_dim;
  info.vocab = config.vocab;
  info.experts = config.experts;
  info.experts_per_token = config.experts_per_token;
  info.ffn_width = config.experts > 0 ? config.moe_intermediate : config.intermediate;
  info.tied_embeddings = config.tied;
  info.rope_theta = config.rope_theta;
  info.max_position = config.max_position;
  info.eos_ids = config.eos_ids;
  return info;
}

}  // namespace hga
