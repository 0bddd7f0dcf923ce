// SPDX-License-Identifier: Apache-2.0
// Feeding a prompt and writing an answer token by token; what `run` and `chat` share.
#ifndef HGA_APPS_CLI_RUN_GENERATE_H_
#define HGA_APPS_CLI_RUN_GENERATE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/common/stop_filter.h"
#include "common.h"
#include "hga/engine.h"
#include "hga/sampler.h"

namespace hga::cli {

enum class FinishReason { kStopToken, kStopText, kLength, kInterrupted };
const char* FinishName(FinishReason reason);

struct GenerateRequest {
  std::span<const int32_t> history;  // tokens the sequence holds already
  std::span<const int32_t> prompt;   // to feed; 1 or more
  int64_t max_tokens = 0;
  std::vector<std::string> stops;
  std::set<int32_t> stop_tokens;  // end the answer, themselves not shown
  // When a session is kept: called with the tokens fed of the answer and the sampler's state for
  // the next one, once the prompt is fed (and the first token shown) and then every
  // `checkpoint_every` tokens (0: not then). The answer's last token is fed as well, so that the
  // sequence ends where the answer does.
  std::function<void(std::span<const int32_t>, const std::vector<std::byte>&)> checkpoint;
  int64_t checkpoint_every = 0;
};

struct Generated {
  std::vector<int32_t> tokens;  // without the stop token; the last one may not be fed yet
  std::string text;             // what was shown
  FinishReason finish = FinishReason::kLength;
  int64_t prompt_fed = 0;  // tokens; less than the prompt after an interrupt
  double prompt_seconds = 0;
  double first_token_seconds = 0;    // from the start of the prompt; 0: none came
  std::vector<double> step_seconds;  // of each token after the first, without checkpoints
  AttentionStats prompt_stats;
  AttentionStats decode_stats;
  KvStats kv_start, kv_fed, kv_end;  // around prompt and answer
  std::vector<std::byte> sampler;    // its state for the token behind the sequence's last
};

// `emit` gets whole UTF-8 characters. An interrupt ends it with kInterrupted, which is no error.
// The sequence then holds history + prompt_fed tokens + those of `tokens` that were fed.
Result<Generated> Generate(const GlobalOptions& global, Engine& engine, Sequence& sequence,
                           Sampler& sampler, const GenerateRequest& request,
                           const std::function<Status(std::string_view)>& emit);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_RUN_GENERATE_H_
