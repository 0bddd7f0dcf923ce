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

// Tells the plan for `context` tokens. kResourceExhausted with it when they do not fit and
// overcommit is not allowed.
Status CheckMemory(const Checkpoint& checkpoint, const ModelOptions& model, const KvOptions& kv,
                   bool session, const LengthFlags& length, int64_t context);

// The tokens that end an answer.
std::set<int32_t> StopTokens(const ModelInfo& info, const StopFlags& stop,
                             const std::set<int32_t>& turn_end);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_RUN_H_
