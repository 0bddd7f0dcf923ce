// SPDX-License-Identifier: Apache-2.0
// The smallest program around libhga: opens a checkpoint, continues a prompt, prints what was seen.
//
//   embed MODEL_DIR [PROMPT]
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "hga/config.h"
#include "hga/engine.h"
#include "hga/sampler.h"
#include "hga/tokenizer.h"
#include "hga/version.h"

namespace {

constexpr int kNewTokens = 24;

hga::Status Generate(const std::string& model, const std::string& prompt) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<hga::Engine> engine, hga::Engine::Open(model, {}));
  HGA_ASSIGN_OR_RETURN(const hga::AttentionConfig rule, hga::PresetConfig("default"));
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                       engine->tokenizer().Encode(prompt, /*parse_special=*/false));
  const auto capacity = static_cast<int64_t>(tokens.size()) + kNewTokens;
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<hga::Sequence> sequence,
                       engine->NewSequence(rule, capacity));

  std::vector<float> logits(static_cast<size_t>(engine->info().vocab));
  HGA_RETURN_IF_ERROR(engine->Feed(*sequence, tokens, hga::LogitsWanted::kLast, logits, {}));
  sequence->ResetStats();                        // from here on: the answer alone
  hga::Sampler sampler(hga::SamplingOptions{});  // greedy
  std::vector<int32_t> answer;
  for (int i = 0; i < kNewTokens; ++i) {
    answer.push_back(sampler.Sample(logits, tokens, answer));
    HGA_RETURN_IF_ERROR(
        engine->Feed(*sequence, {&answer.back(), 1}, hga::LogitsWanted::kLast, logits, {}));
  }
  HGA_ASSIGN_OR_RETURN(const std::string text, engine->tokenizer().Decode(answer, false));
  const hga::AttentionStats::Sums& seen = sequence->stats().all;
  std::cout << "prompt: " << tokens.size() << " tokens\nanswer: " << text
            << "\nvisible share: " << 100 * seen.visible / seen.context
            << " % of the context, mean over " << sequence->stats().queries << " tokens\n";
  return hga::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: embed MODEL_DIR [PROMPT]\nlibhga " << HGA_VERSION << "\n";
    return 2;
  }
  // Long enough by default for attention to leave something out: windows and opened groups hold
  // 1,700 tokens.
  std::string prompt = argc > 2 ? argv[2] : "";
  for (int i = 0; argc <= 2 && i < 300; ++i) {
    prompt += "Day " + std::to_string(i) + ": the ship sailed on under a fair wind. ";
  }
  const hga::Status status = Generate(argv[1], prompt);
  if (!status.ok()) std::cerr << "embed: " << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
