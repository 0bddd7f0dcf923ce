// SPDX-License-Identifier: Apache-2.0
// Chooses the next token from logits.
#ifndef HGA_SAMPLER_H_
#define HGA_SAMPLER_H_

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "hga/status.h"

namespace hga {

struct SamplingOptions {
  double temperature = 0;          // 0: greedy
  int top_k = 0;                   // 0: off
  double top_p = 1;                // (0, 1]
  double min_p = 0;                // [0, 1]
  double repetition_penalty = 1;   // > 0; on tokens seen in prompt and answer
  double presence_penalty = 0;     // [-2, 2]; on tokens of the answer
  double frequency_penalty = 0;    // [-2, 2]; on tokens of the answer
  std::map<int32_t, double> logit_bias;
  uint64_t seed = 0;
};

// kInvalidArgument names the option and its range.
Status Validate(const SamplingOptions& options);

// One stream of choices: equal options, logits and history give equal tokens on every machine.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // logits [vocab] are not changed. Ties go to the lower id; NaN is never chosen.
  // `prompt` and `answer` are the tokens so far, for the penalties.
  int32_t Sample(std::span<const float> logits, std::span<const int32_t> prompt,
                 std::span<const int32_t> answer);

 private:
  SamplingOptions options_;
  uint64_t state_;
  std::vector<std::pair<float, int32_t>> candidates_;  // scratch
};

}  // namespace hga

#endif  // HGA_SAMPLER_H_
