// SPDX-License-Identifier: Apache-2.0
// One reservation per layer, cut into the arrays of SummaryView.
#include "attention/summaries.h"

#include "spec/layout.h"
#include "spec/rules.h"

namespace hga {
namespace {

// Counts first, hands out pieces second: run over a null base it measures.
class Cutter {
 public:
  explicit Cutter(uint8_t* base) : base_(base) {}
  template <class T>
  T* Take(int64_t count) {
    offset_ = spec::CeilDiv(offset_, static_cast<int64_t>(kAlignment)) * kAlignment;
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset_);
    offset_ += count * static_cast<int64_t>(sizeof(T));
    return piece;
  }
  int64_t bytes() const { return offset_; }

 private:
  uint8_t* base_;
  int64_t offset_ = 0;
};

SummaryView Cut(Cutter* cutter, const RoutingConfig& rule, const HeadShape& shape,
                int64_t capacity) {
  const int bytes = rule.summary_dtype == SummaryDtype::kFp8 ? 1 : 2;
  const int64_t chunks = spec::CeilDiv(capacity, spec::kChunk), heads = shape.kv_heads;
  const auto panels = [](int64_t means) {
    return spec::CeilDiv(means, spec::kPanel) * spec::kPanel;
  };
  SummaryView v;
  v.chunks = chunks;
  v.key_means = panels(chunks * spec::KeyMeansPerChunk(rule));
  v.keys = cutter->Take<uint8_t>(heads * v.key_means * shape.head_dim * bytes);
  v.key_scales = cutter->Take<float>(heads * v.key_means);
  if (rule.tail) {
    v.value_means = chunks * spec::ValueMeansPerChunk(rule);
    v.values = cutter->Take<uint8_t>(heads * v.value_means * shape.head_dim * bytes);
    v.value_scales = cutter->Take<float>(heads * v.value_means);
  }
  if (rule.chunk_beam > 0) {
    v.chunk_key_means = panels(chunks * spec::ChunkMeansPerChunk(rule));
    v.chunk_keys = cutter->Take<uint8_t>(heads * v.chunk_key_means * shape.head_dim * bytes);
    v.chunk_key_scales = cutter->Take<float>(heads * v.chunk_key_means);
    if (rule.tail) {
      v.chunk_values = cutter->Take<uint8_t>(heads * chunks * shape.head_dim * bytes);
      v.chunk_value_scales = cutter->Take<float>(heads * chunks);
    }
  }
  return v;
}

}  // namespace

Result<LayerSummaries> LayerSummaries::Make(const RoutingConfig& rule, const HeadShape& shape,
                                            int64_t capacity, Device& device) {
  LayerSummaries s;
  if (!spec::NeedsSummaries(rule)) return s;
  Cutter measure(nullptr);
  Cut(&measure, rule, shape, capacity);
  HGA_ASSIGN_OR_RETURN(s.memory_, DeviceArray<uint8_t>::Make(device, measure.bytes()));
  Cutter cutter(s.memory_.data());
  s.view_ = Cut(&cutter, rule, shape, capacity);
  return s;
}

int64_t LayerSummaries::BytesPerToken(const RoutingConfig& rule, const HeadShape& shape) {
  if (!spec::NeedsSummaries(rule)) return 0;
  constexpr int64_t kTokens = 64 * spec::kChunk;
  Cutter measure(nullptr);
  Cut(&measure, rule, shape, kTokens);
  return spec::CeilDiv(measure.bytes(), kTokens);
}

}  // namespace hga
