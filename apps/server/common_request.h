// SPDX-License-Identifier: Apache-2.0
// Fields that chat and plain completions share.
#ifndef HGA_APPS_SERVER_COMMON_REQUEST_H_
#define HGA_APPS_SERVER_COMMON_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/server/fields.h"
#include "apps/server/model.h"
#include "hga/sampler.h"

namespace hga::server {

struct CommonRequest {
  std::string model;  // as the answer names it
  SamplingOptions sampling;
  std::optional<int64_t> max_tokens;
  int n = 1;
  std::vector<std::string> stops;
  std::vector<int32_t> stop_ids;  // the checkpoint's own and the request's
  int top_logprobs = -1;          // -1: no logprobs
  bool stream = false;
  bool include_usage = false;
  bool return_progress = false;
  bool timings_per_token = false;
  bool reuse_prefix = true;
  bool trace = false;  // where each token of the answer looked
};

// Reads them all; errors are in `fields`. `least` is the smallest max_tokens. The caller reads
// `logprobs`, whose type differs.
CommonRequest ReadCommon(Fields& fields, const ServedModel& model, int64_t least);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_COMMON_REQUEST_H_
