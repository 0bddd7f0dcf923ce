// SPDX-License-Identifier: Apache-2.0
// The options of verbs that write text: lengths, sampling, stops.
#ifndef HGA_APPS_CLI_OPTIONS_SAMPLING_H_
#define HGA_APPS_CLI_OPTIONS_SAMPLING_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hga/engine.h"
#include "hga/sampler.h"
#include "hga/status.h"

namespace hga::cli {

// Empty optionals take the checkpoint's generation_config.json.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;
  std::optional<uint64_t> seed;         // empty: drawn
  std::vector<std::string> logit_bias;  // ID=V
  bool greedy = false;
};

struct LengthFlags {
  int64_t context = 0;                // 0: the model's
  std::optional<int64_t> max_tokens;  // empty: kDefaultMaxTokens or what the context leaves
  bool allow_past_limit = false;
  bool allow_overcommit = false;  // load although the memory plan does not fit
};
inline constexpr int64_t kDefaultMaxTokens = 512;

struct StopFlags {
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

void AddSamplingOptions(CLI::App& verb, SamplingFlags* flags);
void AddLengthOptions(CLI::App& verb, LengthFlags* flags);
void AddStopOptions(CLI::App& verb, StopFlags* flags);

// The checkpoint's defaults with the flags over them. The seed is drawn when none is given.
Result<SamplingOptions> MakeSampling(const SamplingFlags& flags, const std::string& directory,
                                     int vocab);
// The flags by themselves, before a checkpoint is known: ranges and contradictions.
Status CheckSampling(const SamplingFlags& flags);
// "temperature = 0.7 (generation_config.json)" for every setting no flag gives.
std::vector<std::string> SamplingNotes(const CLI::App& verb);

// The most tokens a sequence may hold: --ctx, else the model's; more than the model's only with
// --allow-past-limit (kInvalidArgument has both numbers).
Result<int64_t> ContextLimit(const LengthFlags& flags, const ModelInfo& info);
// Tokens to write at most after `prompt` tokens; kResourceExhausted has both numbers.
Result<int64_t> AnswerLimit(const LengthFlags& flags, int64_t limit, int64_t prompt);

// Empty and too many or too long stop strings are refused.
Status CheckStops(const StopFlags& flags);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_OPTIONS_SAMPLING_H_
