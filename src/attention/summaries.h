// SPDX-License-Identifier: Apache-2.0
// The summaries of one routed layer of one sequence.
#ifndef HGA_ATTENTION_SUMMARIES_H_
#define HGA_ATTENTION_SUMMARIES_H_

#include <cstdint>

#include "backend/ops.h"
#include "base/memory.h"
#include "hga/config.h"
#include "hga/status.h"

namespace hga {

// Move-only. Room for `capacity` tokens on a device; on the CPU it is taken as chunks close.
class LayerSummaries {
 public:
  // With `paged` key means and value means of the group level begin and end at pages of 4 KiB per
  // KV head, so that pages of them can go and come (SummaryPager).
  static Result<LayerSummaries> Make(const RoutingConfig& rule, const HeadShape& shape,
                                     int64_t capacity, bool paged, Device& device);
  const SummaryView& view() const { return view_; }
  static int64_t BytesPerToken(const RoutingConfig& rule, const HeadShape& shape);
  // Bytes of what can be paged of one chunk and KV head: key means and value means.
  static int64_t KeyBytesPerChunk(const RoutingConfig& rule, int head_dim);
  static int64_t ValueBytesPerChunk(const RoutingConfig& rule, int head_dim);

  bool paged() const { return paged_; }
  int64_t key_bytes_per_chunk() const { return key_bytes_; }
  int64_t value_bytes_per_chunk() const { return value_bytes_; }
  int64_t memory_bytes() const { return static_cast<int64_t>(memory_.size()); }
  int64_t OffsetOf(const void* p) const { return static_cast<const uint8_t*>(p) - memory_.data(); }
  std::byte* Page(int64_t page) const {
    return reinterpret_cast<std::byte*>(memory_.data()) + page * kPageBytes;
  }
  // The page reads as zeros afterwards and takes no memory.
  void DropPage(int64_t page) {
    memory_.Discard(static_cast<size_t>(page * kPageBytes), kPageBytes);
  }
  static constexpr int64_t kPageBytes = 4096;

 private:
  SummaryView view_;
  Array<uint8_t> memory_;
  DeviceArray<uint8_t> device_memory_;  // instead, on a GPU
  bool paged_ = false;
  int64_t key_bytes_ = 0, value_bytes_ = 0;
};

}  // namespace hga

#endif  // HGA_ATTENTION_SUMMARIES_H_
