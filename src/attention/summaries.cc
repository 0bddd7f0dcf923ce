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
  T* Take(int64_t count, int64_t alignment = kAlignment) {
    offset_ = spec::CeilDiv(offset_, alignment) * alignment;
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset_);
    offset_ += count * static_cast<int64_t>(sizeof(T));
    return piece;
  }
  int64_t bytes() const { return offset_; }

 private:
  uint8_t* base_;
  int64_t offset_ = 0;
};

// Chunks whose key means, and value means, are whole pages of 4 KiB under every valid rule with
// heads of 64 elements or more.
constexpr int64_t kPagedChunks = 64;

int ElementBytes(const RoutingConfig& rule) {
  return rule.summary_dtype == SummaryDtype::kFp8 ? 1 : 2;
}

SummaryView Cut(Cutter* cutter, const RoutingConfig& rule, const HeadShape& shape, int64_t capacity,
                bool paged) {
  const int bytes = ElementBytes(rule);
  const int64_t heads = shape.kv_heads;
  const int64_t alignment = paged ? LayerSummaries::kPageBytes : int64_t{kAlignment};
  int64_t chunks = spec::CeilDiv(capacity, spec::kChunk);
  if (paged) chunks = spec::CeilDiv(chunks, kPagedChunks) * kPagedChunks;
  const auto panels = [](int64_t means) {
    return spec::CeilDiv(means, spec::kPanel) * spec::kPanel;
  };
  SummaryView v;
  v.chunks = chunks;
  v.key_means = panels(chunks * spec::KeyMeansPerChunk(rule));
  v.keys = cutter->Take<uint8_t>(heads * v.key_means * shape.head_dim * bytes, alignment);
  v.key_scales = cutter->Take<float>(heads * v.key_means, alignment);
  if (rule.tail) {
    v.value_means = chunks * spec::ValueMeansPerChunk(rule);
    v.values = cutter->Take<uint8_t>(heads * v.value_means * shape.head_dim * bytes, alignment);
    v.value_scales = cutter->Take<float>(heads * v.value_means, alignment);
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
                                            int64_t capacity, bool paged, Device& device) {
  LayerSummaries s;
  if (!spec::NeedsSummaries(rule)) return s;
  Cutter measure(nullptr);
  Cut(&measure, rule, shape, capacity, paged);
  if (device.host_memory()) {
    HGA_ASSIGN_OR_RETURN(s.memory_,
                         Array<uint8_t>::Make(static_cast<size_t>(measure.bytes()), !paged));
  } else {
    HGA_ASSIGN_OR_RETURN(s.device_memory_, DeviceArray<uint8_t>::Make(device, measure.bytes()));
  }
  Cutter cutter(device.host_memory() ? s.memory_.data() : s.device_memory_.data());
  s.view_ = Cut(&cutter, rule, shape, capacity, paged);
  s.paged_ = paged;
  s.key_bytes_ = KeyBytesPerChunk(rule, shape.head_dim);
  s.value_bytes_ = ValueBytesPerChunk(rule, shape.head_dim);
  return s;
}

int64_t LayerSummaries::KeyBytesPerChunk(const RoutingConfig& rule, int head_dim) {
  return int64_t{spec::KeyMeansPerChunk(rule)} * head_dim * ElementBytes(rule);
}

int64_t LayerSummaries::ValueBytesPerChunk(const RoutingConfig& rule, int head_dim) {
  return int64_t{spec::ValueMeansPerChunk(rule)} * head_dim * ElementBytes(rule);
}

int64_t LayerSummaries::BytesPerToken(const RoutingConfig& rule, const HeadShape& shape) {
  if (!spec::NeedsSummaries(rule)) return 0;
  constexpr int64_t kTokens = 64 * spec::kChunk;
  Cutter measure(nullptr);
  Cut(&measure, rule, shape, kTokens, false);
  return spec::CeilDiv(measure.bytes(), kTokens);
}

}  // namespace hga
