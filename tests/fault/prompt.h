// SPDX-License-Identifier: Apache-2.0
// A short prompt, rules under which routing acts on it, and greedy answers.
#ifndef HGA_TESTS_FAULT_PROMPT_H_
#define HGA_TESTS_FAULT_PROMPT_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "hga/config.h"
#include "hga/engine.h"
#include "hga/sampler.h"
#include "tests/golden/npy.h"

namespace hga::rigs {

// Ids of prose.
inline std::vector<int32_t> ProsePrompt(int64_t tokens) {
  std::vector<int32_t> ids =
      golden::ReadNpy<int32_t>(std::string(HGA_SOURCE_DIR) + "/tests/golden/data/logits/ids.npy")
          .data;
  while (static_cast<int64_t>(ids.size()) < tokens) {
    ids.insert(ids.end(), ids.begin(), ids.begin() + 100);
  }
  ids.resize(static_cast<size_t>(tokens));
  return ids;
}

// Of 600 tokens seven chunks are routed, and a quarter of them is opened.
inline AttentionConfig SmallWindows() {
  AttentionConfig config = *PresetConfig("default");
  config.routing.sink_chunks = 1;
  config.routing.local_chunks = 1;
  config.routing.groups_budget = 12;
  return config;
}

// Makes the sequence hold `tokens`, then answers until it has `answer` more; all tokens.
inline std::vector<int32_t> Answer(Engine& engine, Sequence& sequence,
                                   std::span<const int32_t> tokens, int answer) {
  const auto failed = [](const Status& status) {
    EXPECT_TRUE(status.ok()) << status.message();
    return !status.ok();
  };
  std::vector<float> logits(static_cast<size_t>(engine.info().vocab));
  const size_t end = tokens.size() + static_cast<size_t>(answer);
  const auto have = static_cast<size_t>(std::min<int64_t>(
      sequence.length(), std::max<int64_t>(1, static_cast<int64_t>(tokens.size())) - 1));
  if (static_cast<size_t>(sequence.length()) > tokens.size()) {
    // A part of the answer is there: only its last token is computed again.
    const int32_t last = sequence.tokens().back();
    if (failed(sequence.Truncate(sequence.length() - 1))) return {};
    if (failed(engine.Feed(sequence, {&last, 1}, LogitsWanted::kLast, logits, {}))) return {};
  } else {
    if (failed(sequence.Truncate(static_cast<int64_t>(have)))) return {};
    if (failed(engine.Feed(sequence, tokens.subspan(have), LogitsWanted::kLast, logits, {}))) {
      return {};
    }
  }
  Sampler sampler({});
  while (static_cast<size_t>(sequence.length()) < end) {
    const int32_t token = sampler.Sample(logits, {}, {});
    if (failed(engine.Feed(sequence, {&token, 1}, LogitsWanted::kLast, logits, {}))) return {};
  }
  return {sequence.tokens().begin(), sequence.tokens().end()};
}

}  // namespace hga::rigs

#endif  // HGA_TESTS_FAULT_PROMPT_H_
