// SPDX-License-Identifier: Apache-2.0
// Chooses the next token from logits.
#ifndef HGA_SAMPLER_H_
#define HGA_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hga/status.h"

namespace hga {

struct SamplingOptions {
  double temperature = 0;                     // 0: greedy
  int top_k = 0;                              // 0: off
  double top_p = 1;                           // (0, 1]
  double min_p = 0;                           // [0, 1]
  double repetition_penalty = 1;              // > 0; on tokens seen in prompt and answer
  double presence_penalty = 0;                // [-2, 2]; on tokens of the answer
  double frequency_penalty = 0;               // [-2, 2]; on tokens of the answer
  std::map<int32_t, double> logit_bias = {};  // [-100, 100]
  uint64_t seed = 0;
};

// kInvalidArgument names the option and its range.
Status Validate(const SamplingOptions& options);

// The checkpoint's own defaults from DIR/generation_config.json; greedy where there is no such
// file or it says do_sample false. Errors as any other file of the checkpoint.
Result<SamplingOptions> ReadSamplingDefaults(const std::string& directory);

// One stream of choices: equal options, logits and history give equal tokens on every machine.
// Order: logit bias; repetition, presence and frequency penalty; temperature; top-k; top-p; min-p;
// draw. Each filter sees the probabilities the one before it left, scaled to sum 1. Temperature 0
// takes the highest logit after the penalties.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // logits [vocab] are not changed. Ties go to the lower id; NaN is never chosen; -1 if there is
  // nothing else.
  // `prompt` and `answer` are the tokens so far, for the penalties. With `allowed` (bit i % 64 of
  // word i / 64, as Constraint::Allowed) no other token is chosen, as if their logits were NaN;
  // empty: all.
  int32_t Sample(std::span<const float> logits, std::span<const int32_t> prompt,
                 std::span<const int32_t> answer, std::span<const uint64_t> allowed = {});
  // Where the stream of random numbers is; a sampler of equal options that takes it goes on alike.
  std::vector<std::byte> state() const;
  // kInvalidArgument when `state` is not what state() gives.
  Status set_state(std::span<const std::byte> state);

 private:
  using Candidate = std::pair<float, int32_t>;  // logit, id

  void Penalise(std::span<const int32_t> prompt, std::span<const int32_t> answer);
  void Forbid(std::span<const uint64_t> allowed);
  double Weight(float logit) const;
  double SortHead(size_t count);
  void KeepTopP();
  int32_t Draw();

  SamplingOptions options_;
  uint64_t state_;
  std::vector<Candidate> candidates_;  // those left, best first once a filter sorted them
  std::vector<float> logits_;          // after bias and penalties
  std::vector<int32_t> counts_;        // per id: 0 unseen, -1 prompt only, else times in the answer
  float best_ = 0;                     // highest logit
};

}  // namespace hga

#endif  // HGA_SAMPLER_H_
