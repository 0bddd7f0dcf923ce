// SPDX-License-Identifier: Apache-2.0
// What must be known before an engine is opened, for verbs that write text.
#ifndef HGA_APPS_CLI_RUN_H_
#define HGA_APPS_CLI_RUN_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "common.h"
#include "hga/engine.h"
#include "options_sampling.h"

namespace hga::cli {

// A checkpoint looked at without its weights, so that a wrong command fails at once.
struct Checkpoint {
  std::string directory;
  ModelInfo info;
  std::unique_ptr<Tokenizer> tokenizer;
  AttentionConfig attention;
};
Result<Checkpoint> LookAt(const ModelOptions& model, const AttentionOptions& attention);

// kResourceExhausted with the plan when `context` tokens do not fit and overcommit is not allowed.
Status CheckMemory(const Checkpoint& checkpoint, const ModelOptions& model,
                   const LengthFlags& length, int64_t context);

// The tokens that end an answer.
std::set<int32_t> StopTokens(const ModelInfo& info, const StopFlags& stop,
                             const std::set<int32_t>& turn_end);

// One line that says where the bytes go.
std::string MemoryLine(const MemoryPlan& plan);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_RUN_H_
