// SPDX-License-Identifier: Apache-2.0
// hga/attention.h on the CPU backend.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "attention/layer_attention.h"
#include "backend/registry.h"
#include "cpu/cpu_backend.h"
#include "engine/engine_impl.h"
#include "hga/attention.h"

namespace hga {
namespace {

constexpr int64_t kMaxCapacity = int64_t{1} << 27;

Status Check(const AttentionShape& s, int64_t capacity, const AttentionOptions& options) {
  if (s.head_dim != 64 && s.head_dim != 128) {
    return Unsupported(fmt::format("head_dim is {}, supported are 64 and 128", s.head_dim));
  }
  if (s.layers < 1 || s.layers > 4096 || s.kv_heads < 1 || s.heads < s.kv_heads || s.heads > 4096 ||
      s.heads % s.kv_heads != 0) {
    return InvalidArgument(
        fmt::format("{} layers, {} heads over {} KV heads", s.layers, s.heads, s.kv_heads));
  }
  if (capacity < 1 || capacity > kMaxCapacity) {
    return InvalidArgument(
        fmt::format("capacity is {}, allowed are 1 to {}", capacity, kMaxCapacity));
  }
  if (options.span < 1 || options.span > 8192) {
    return InvalidArgument(fmt::format("span is {}, allowed are 1 to 8192", options.span));
  }
  return OkStatus();
}

class StandaloneAttention final : public Attention {
 public:
  StandaloneAttention(const AttentionShape& shape, int span, std::unique_ptr<Ops> ops,
                      std::unique_ptr<KvHistory> history, SequenceAttention rules)
      : shape_(shape),
        span_(span),
        ops_(std::move(ops)),
        history_(std::move(history)),
        rules_(std::move(rules)),
        lengths_(static_cast<size_t>(shape.layers), 0) {}

  Status Prepare(const AttentionConfig& config) {
    const HeadShape heads{shape_.heads, shape_.kv_heads, shape_.head_dim};
    OpsLimits limits;
    limits.shape = heads;
    limits.rows = span_;
    limits.context = history_->capacity();
    HGA_RETURN_IF_ERROR(ops_->Prepare(limits));
    rounded_.resize(static_cast<size_t>(span_) *
                    static_cast<size_t>(shape_.heads * shape_.head_dim));
    return scratch_.Prepare(heads, span_, LargestBudget(config, shape_.layers), ops_->device());
  }

  Status Step(int layer, int rows, std::span<const float> q, std::span<const float> k,
              std::span<const float> v, std::span<float> out) override {
    if (layer < 0 || layer >= shape_.layers) {
      return InvalidArgument(fmt::format("layer {} of {}", layer, shape_.layers));
    }
    if (rows < 1 || rows > span_) {
      return InvalidArgument(fmt::format("a step of {} tokens, allowed are 1 to {}", rows, span_));
    }
    const size_t n = static_cast<size_t>(rows) * static_cast<size_t>(shape_.head_dim);
    const size_t q_floats = n * static_cast<size_t>(shape_.heads);
    const size_t kv_floats = n * static_cast<size_t>(shape_.kv_heads);
    if (q.size() != q_floats || out.size() != q_floats || k.size() != kv_floats ||
        v.size() != kv_floats) {
      return InvalidArgument(fmt::format("{} tokens need q and out of {} floats, k and v of {}",
                                         rows, q_floats, kv_floats));
    }
    int64_t& length = lengths_[static_cast<size_t>(layer)];
    if (length + rows > history_->capacity()) {
      return ResourceExhausted(fmt::format("{} tokens held, {} more exceed the capacity of {}",
                                           length, rows, history_->capacity()));
    }
    for (size_t i = 0; i < q_floats; ++i) rounded_[i] = Bf16ToFloat(FloatToBf16(q[i]));
    for (int r = 0; r < rows; ++r) {
      for (int h = 0; h < shape_.kv_heads; ++h) {
        const size_t from =
            static_cast<size_t>(r * shape_.kv_heads + h) * static_cast<size_t>(shape_.head_dim);
        Round(k.subspan(from), history_->Key(layer, h, length + r));
        Round(v.subspan(from), history_->Value(layer, h, length + r));
      }
    }
    rules_.Close(*ops_, *history_, layer, length, length + rows);
    HGA_RETURN_IF_ERROR(rules_.Attend(*ops_, scratch_, *history_, layer, rounded_.data(), length,
                                      rows, out.data()));
    length += rows;
    return OkStatus();
  }

  int64_t length(int layer) const override { return lengths_.at(static_cast<size_t>(layer)); }
  int64_t capacity() const override { return history_->capacity(); }

 private:
  void Round(std::span<const float> from, Bf16* to) const {
    for (int i = 0; i < shape_.head_dim; ++i) to[i] = FloatToBf16(from[static_cast<size_t>(i)]);
  }

  AttentionShape shape_;
  int span_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<KvHistory> history_;
  SequenceAttention rules_;
  AttentionScratch scratch_;
  std::vector<int64_t> lengths_;
  std::vector<float> rounded_;
};

}  // namespace

Result<std::unique_ptr<Attention>> Attention::Create(const AttentionShape& shape,
                                                     const AttentionConfig& config,
                                                     int64_t capacity,
                                                     const AttentionOptions& options) {
  HGA_RETURN_IF_ERROR(Check(shape, capacity, options));
  HGA_RETURN_IF_ERROR(Validate(config, shape.layers));
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Ops> ops, OpenCpu({options.threads, options.isa}));
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<KvHistory> history,
                       KvHistory::Make({shape.layers, shape.kv_heads, shape.head_dim}, capacity));
  HGA_ASSIGN_OR_RETURN(
      SequenceAttention rules,
      SequenceAttention::Make(config, {shape.heads, shape.kv_heads, shape.head_dim},
                              shape.rope_theta, *history, ops->device()));
  auto attention = std::make_unique<StandaloneAttention>(shape, options.span, std::move(ops),
                                                         std::move(history), std::move(rules));
  HGA_RETURN_IF_ERROR(attention->Prepare(config));
  return std::unique_ptr<Attention>(std::move(attention));
}

}  // namespace hga
