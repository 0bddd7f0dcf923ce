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
  static Result<LayerSummaries> Make(const RoutingConfig& rule, const HeadShape& shape,
                                     int64_t capacity, Device& device);
  const SummaryView& view() const { return view_; }
  static int64_t BytesPerToken(const RoutingConfig& rule, const HeadShape& shape);

 private:
  SummaryView view_;
  DeviceArray<uint8_t> memory_;
};

}  // namespace hga

#endif  // HGA_ATTENTION_SUMMARIES_H_
