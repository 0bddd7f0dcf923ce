// SPDX-License-Identifier: Apache-2.0
// Laying out, reading and naming the weights.
#include "model/weights.h"

#include <fmt/format.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "spec/layout.h"

namespace hga {

// One tensor to be read: where its bytes go, or that they are widened to float32.
struct ModelWeights::Needed {
  const TensorInfo* info = nullptr;  // null for random weights
  std::string name;
  std::vector<int64_t> shape;
  Dtype dtype = Dtype::kF32;
  bool widen = false;  // norms and scales
  int64_t offset = 0;  // bytes into memory_, or elements of floats_
  int64_t elements = 0;
};

namespace {

constexpr int64_t kBlock = 128;

Result<Dtype> RunDtype(const TensorInfo& info) {
  switch (info.dtype) {
    case StoredDtype::kF32:
      return Dtype::kF32;
    case StoredDtype::kF16:
      return Dtype::kF16;
    case StoredDtype::kBf16:
      return Dtype::kBf16;
    case StoredDtype::kF8E4m3:
      return Dtype::kFp8;
    default:
      return Unsupported(
          fmt::format("tensor {} has dtype {}, supported are F32, F16, BF16, F8_E4M3", info.name,
                      DtypeName(info.dtype)));
  }
}

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

void WidenInto(const void* data, Dtype dtype, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    switch (dtype) {
      case Dtype::kF32:
        out[i] = static_cast<const float*>(data)[i];
        break;
      case Dtype::kF16:
        out[i] = F16ToFloat(static_cast<const uint16_t*>(data)[i]);
        break;
      case Dtype::kBf16:
        out[i] = Bf16ToFloat(static_cast<const Bf16*>(data)[i]);
        break;
      case Dtype::kFp8:
        out[i] = Fp8ToFloat(static_cast<const Fp8*>(data)[i]);
        break;
    }
  }
}

// splitmix64: one independent number per (seed, index).
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

bool IsQuantised(const ModelConfig& config, const TensorSpec& spec) {
  if (config.fp8_block_rows == 0 || spec.role != TensorRole::kLinear) return false;
  const std::string module = spec.name.substr(0, spec.name.rfind('.'));
  const auto& kept = config.not_quantised;
  return std::find(kept.begin(), kept.end(), module) == kept.end();
}

}  // namespace

Status ModelWeights::Layout(const ModelConfig& config, const Checkpoint* checkpoint,
                            std::vector<Needed>* needed) {
  int64_t bytes = 0, floats = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape, Dtype dtype,
                       bool widen, const TensorInfo* info) {
    Needed n{info, name, shape, dtype, widen, 0, Elements(shape)};
    int64_t& used = widen ? floats : bytes;
    n.offset = spec::CeilDiv(used, static_cast<int64_t>(kAlignment)) * kAlignment;
    used = n.offset + n.elements * (widen ? 1 : BytesOf(dtype));
    needed->push_back(std::move(n));
  };
  const Status status = ForEachTensor(config, [&](const TensorSpec& spec) -> Status {
    const bool norm = spec.role == TensorRole::kNorm;
    if (!norm && spec.shape.back() % 16 != 0) {
      return Unsupported(fmt::format("tensor {}: rows of {} elements; they must divide by 16",
                                     spec.name, spec.shape.back()));
    }
    const std::string scale_name = spec.name + "_scale_inv";
    const std::vector<int64_t> scale_shape = {spec::CeilDiv(spec.shape[0], kBlock),
                                              spec::CeilDiv(spec.shape.back(), kBlock)};
    if (checkpoint == nullptr) {
      const bool fp8 = IsQuantised(config, spec);
      add(spec.name, spec.shape,
          norm  ? Dtype::kF32
          : fp8 ? Dtype::kFp8
                : Dtype::kBf16,
          norm, nullptr);
      if (fp8) add(scale_name, scale_shape, Dtype::kF32, true, nullptr);
      return OkStatus();
    }
    const TensorInfo* info = checkpoint->Find(spec.name);
    if (info == nullptr) return NotFound(fmt::format("tensor {} is missing", spec.name));
    HGA_ASSIGN_OR_RETURN(const Dtype dtype, RunDtype(*info));
    add(spec.name, spec.shape, dtype, norm, info);
    if (dtype != Dtype::kFp8) return OkStatus();
    const TensorInfo* scale = checkpoint->Find(scale_name);
    if (scale == nullptr) return NotFound(fmt::format("tensor {} is missing", scale_name));
    HGA_ASSIGN_OR_RETURN(const Dtype scale_dtype, RunDtype(*scale));
    add(scale_name, scale_shape, scale_dtype, true, scale);
    return OkStatus();
  });
  HGA_RETURN_IF_ERROR(status);
  // Vector loads may read up to a register past the last row.
  HGA_ASSIGN_OR_RETURN(memory_, Array<uint8_t>::Make(static_cast<size_t>(bytes) + kAlignment));
  HGA_ASSIGN_OR_RETURN(floats_, Array<float>::Make(static_cast<size_t>(floats) + kAlignment));
  bytes_ = static_cast<int64_t>(memory_.size() + floats_.size() * sizeof(float));
  for (const Needed& n : *needed) {
    WeightView view;
    view.data =
        n.widen ? static_cast<const void*>(floats_.data() + n.offset) : memory_.data() + n.offset;
    view.dtype = n.widen ? Dtype::kF32 : n.dtype;
    view.rows = n.shape.size() > 1 ? n.shape[0] : 1;
    view.cols = n.shape.back();
    by_name_.emplace(n.name, view);
  }
  return OkStatus();
}

Result<ModelWeights> ModelWeights::Load(const ModelConfig& config, const Checkpoint& checkpoint,
                                        bool check_values,
                                        const std::function<void(const LoadProgress&)>& progress) {
  ModelWeights w;
  std::vector<Needed> needed;
  HGA_RETURN_IF_ERROR(w.Layout(config, &checkpoint, &needed));
  std::sort(needed.begin(), needed.end(), [](const Needed& a, const Needed& b) {
    return std::pair(a.info->shard, a.info->offset) < std::pair(b.info->shard, b.info->offset);
  });
  LoadProgress done;
  for (const Needed& n : needed) done.bytes_total += n.info->bytes;
  std::vector<uint8_t> small;
  for (const Needed& n : needed) {
    if (n.info->bytes != n.elements * BytesOf(n.dtype)) {
      return DataLoss(fmt::format("tensor {} has {} bytes, its shape needs {}", n.name,
                                  n.info->bytes, n.elements * BytesOf(n.dtype)));
    }
    void* to = w.memory_.data() + n.offset;
    if (n.widen) {
      small.resize(static_cast<size_t>(n.info->bytes));
      to = small.data();
    }
    HGA_RETURN_IF_ERROR(checkpoint.Read(*n.info, to));
    // FP8 NaN patterns are always refused: the kernels' widening has no NaN.
    if (check_values || n.widen || n.dtype == Dtype::kFp8) {
      HGA_RETURN_IF_ERROR(
          CheckValues(*n.info, checkpoint.ShardPath(*n.info), to, n.info->bytes, 0));
    }
    if (n.widen) WidenInto(to, n.dtype, n.elements, w.floats_.data() + n.offset);
    done.bytes_done += n.info->bytes;
    if (progress) progress(done);
  }
  HGA_RETURN_IF_ERROR(w.Bind(config));
  return w;
}

Result<ModelWeights> ModelWeights::Random(const ModelConfig& config, uint64_t seed) {
  ModelWeights w;
  std::vector<Needed> needed;
  HGA_RETURN_IF_ERROR(w.Layout(config, nullptr, &needed));
  uint64_t tensor = seed;
  for (const Needed& n : needed) {
    tensor = Mix(tensor);
    const bool scale = n.name.ends_with("_scale_inv");
    // Uniform E4M3 patterns have a root mean square near 108; products should stay near 1.
    const float spread = 1.7f / std::sqrt(static_cast<float>(n.shape.back()));
    for (int64_t i = 0; i < n.elements; ++i) {
      const uint64_t bits = Mix(tensor + static_cast<uint64_t>(i));
      const float uniform = static_cast<float>(bits >> 40) * 0x1p-23f - 1.0f;  // [-1, 1)
      if (n.widen) {
        w.floats_[static_cast<size_t>(n.offset + i)] =
            scale ? 1.0f / (108.0f * std::sqrt(static_cast<float>(n.shape.back() * kBlock))) : 1.0f;
      } else if (n.dtype == Dtype::kFp8) {
        const uint8_t byte = static_cast<uint8_t>(bits);
        w.memory_[static_cast<size_t>(n.offset + i)] = (byte & 0x7F) == 0x7F ? byte - 1 : byte;
      } else {
        reinterpret_cast<Bf16*>(w.memory_.data() + n.offset)[i] = FloatToBf16(uniform * spread);
      }
    }
  }
  HGA_RETURN_IF_ERROR(w.Bind(config));
  return w;
}

std::array<uint8_t, 16> ModelWeights::Fingerprint() const {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, memory_.data(), memory_.size());
  XXH3_128bits_update(&state, floats_.data(), floats_.size() * sizeof(float));
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  return std::to_array(canonical.digest);
}

Status ModelWeights::Bind(const ModelConfig& config) {
  const auto find = [this](const std::string& name) {
    const auto it = by_name_.find(name);
    HGA_CHECK(it != by_name_.end());  // Layout named every tensor of the family
    WeightView view = it->second;
    const auto scale = by_name_.find(name + "_scale_inv");
    if (scale != by_name_.end()) view.scales = static_cast<const float*>(scale->second.data);
    return view;
  };
  const auto norm = [&](const std::string& name) {
    return static_cast<const float*>(find(name).data);
  };
  embedding_ = find("model.embed_tokens.weight");
  head_ = config.tied ? embedding_ : find("lm_head.weight");
  final_norm_ = norm("model.norm.weight");
  for (int i = 0; i < config.layers; ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    LayerWeights layer;
    layer.input_norm = norm(p + "input_layernorm.weight");
    layer.attention_norm = norm(p + "post_attention_layernorm.weight");
    layer.q_norm = norm(p + "self_attn.q_norm.weight");
    layer.k_norm = norm(p + "self_attn.k_norm.weight");
    layer.q = find(p + "self_attn.q_proj.weight");
    layer.k = find(p + "self_attn.k_proj.weight");
    layer.v = find(p + "self_attn.v_proj.weight");
    layer.o = find(p + "self_attn.o_proj.weight");
    layer.moe = config.is_moe_layer[static_cast<size_t>(i)];
    if (layer.moe) layer.router = find(p + "mlp.gate.weight");
    for (int e = 0; e < (layer.moe ? config.experts : 1); ++e) {
      const std::string q = layer.moe ? fmt::format("{}mlp.experts.{}.", p, e) : p + "mlp.";
      layer.gate.push_back(find(q + "gate_proj.weight"));
      layer.up.push_back(find(q + "up_proj.weight"));
      layer.down.push_back(find(q + "down_proj.weight"));
    }
    layer.gate_table = layer.gate.data();
    layer.up_table = layer.up.data();
    layer.down_table = layer.down.data();
    layers_.push_back(std::move(layer));
  }
  return OkStatus();
}

Status ModelWeights::MoveTo(Device& device) {
  const auto bytes = static_cast<int64_t>(memory_.size());
  const auto floats = static_cast<int64_t>(floats_.size());
  HGA_ASSIGN_OR_RETURN(device_memory_, DeviceArray<uint8_t>::Make(device, bytes));
  HGA_ASSIGN_OR_RETURN(device_floats_, DeviceArray<float>::Make(device, floats));
  HGA_RETURN_IF_ERROR(Upload(device, device_memory_.data(), memory_.data(), bytes));
  HGA_RETURN_IF_ERROR(Upload(device, device_floats_.data(), floats_.data(),
                             floats * static_cast<int64_t>(sizeof(float))));
  const auto moved_float = [this](const float* p) {
    return p == nullptr ? nullptr : device_floats_.data() + (p - floats_.data());
  };
  const auto move = [&](WeightView* view) {
    if (view->data == nullptr) return;
    view->data = device_memory_.data() + (static_cast<const uint8_t*>(view->data) - memory_.data());
    view->scales = moved_float(view->scales);
  };
  // Rows of the embedding are looked up on the host.
  const auto embedding_bytes =
      static_cast<size_t>(embedding_.rows * embedding_.cols * BytesOf(embedding_.dtype));
  HGA_ASSIGN_OR_RETURN(Array<uint8_t> embedding, Array<uint8_t>::Make(embedding_bytes));
  std::memcpy(embedding.data(), embedding_.data, embedding_bytes);
  move(&head_);
  final_norm_ = moved_float(final_norm_);
  for (LayerWeights& layer : layers_) {
    for (const float** norm :
         {&layer.input_norm, &layer.attention_norm, &layer.q_norm, &layer.k_norm}) {
      *norm = moved_float(*norm);
    }
    for (WeightView* view : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.router}) move(view);
    for (auto* views : {&layer.gate, &layer.up, &layer.down}) {
      for (WeightView& view : *views) move(&view);
    }
  }
  by_name_.clear();
  memory_ = std::move(embedding);
  floats_ = Array<float>();
  embedding_.data = memory_.data();
  return MoveTables(device);
}

// Tables of experts, which kernels index by what the router chose.
Status ModelWeights::MoveTables(Device& device) {
  std::vector<WeightView> tables;
  for (const LayerWeights& layer : layers_) {
    for (const auto* views : {&layer.gate, &layer.up, &layer.down}) {
      tables.insert(tables.end(), views->begin(), views->end());
    }
  }
  HGA_ASSIGN_OR_RETURN(device_tables_,
                       DeviceArray<WeightView>::Make(device, static_cast<int64_t>(tables.size())));
  HGA_RETURN_IF_ERROR(Upload(device, device_tables_.data(), tables.data(),
                             static_cast<int64_t>(tables.size() * sizeof(WeightView))));
  const WeightView* next = device_tables_.data();
  for (LayerWeights& layer : layers_) {
    layer.gate_table = next;
    layer.up_table = layer.gate_table + layer.gate.size();
    layer.down_table = layer.up_table + layer.up.size();
    next = layer.down_table + layer.down.size();
  }
  return OkStatus();
}

}  // namespace hga
