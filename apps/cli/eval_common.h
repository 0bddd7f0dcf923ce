// SPDX-License-Identifier: Apache-2.0
// What the `eval` verbs share: lists of rules, texts as tokens, position ranges, figures of logits.
#ifndef HGA_APPS_CLI_EVAL_COMMON_H_
#define HGA_APPS_CLI_EVAL_COMMON_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common.h"
#include "hga/config.h"
#include "hga/engine.h"
#include "hga/status.h"

namespace hga::cli {

// The verbs below `eval`.
void AddEvalGapCommand(CLI::App& eval, GlobalOptions& global, int* exit_code);
void AddEvalLayersCommand(CLI::App& eval, GlobalOptions& global, int* exit_code);
void AddEvalNeedleCommand(CLI::App& eval, GlobalOptions& global, int* exit_code);

// A rule by its text: a preset's name and fields put over it, "NAME[:field=value...]", with the
// fields of AttentionOptions. As ',' and ':' separate rules and fields, layer lists are written
// with '+' and '@': "sparse:dense_layers=0+3", "long:sampled_layers=0@2048". The config's name is
// the whole text. Errors name the part that is wrong.
Result<AttentionConfig> RuleFromSpec(std::string_view spec);
// The same on top of flags given for every rule; flags don't apply to "dense".
Result<AttentionConfig> RuleFromSpec(const AttentionOptions& flags, std::string_view spec);
// Rules of a list in its order, without repeats. `dense_first` puts "dense" before all others.
Result<std::vector<AttentionConfig>> RulesFromSpecs(const AttentionOptions& flags,
                                                    const std::vector<std::string>& specs,
                                                    bool dense_first);

// The first `count` tokens of a text file, special tokens not parsed. kInvalidArgument with both
// numbers if the text is shorter.
Result<std::vector<int32_t>> ReadTokens(const Engine& engine, const std::string& path,
                                        int64_t count);
// All tokens of a text file.
Result<std::vector<int32_t>> ReadAllTokens(const Engine& engine, const std::string& path);
// A path's last part.
std::string BaseName(const std::string& path);

// Positions [begin, end).
struct PositionRange {
  int64_t begin;
  int64_t end;
  std::string label;  // "4K-8K"
};
// Positions 0 to tokens - 2, those that have a next token: 0-4K, 4K-8K, 8K-16K and so on, doubling.
// The last range is named after `tokens`.
std::vector<PositionRange> MakeRanges(int64_t tokens);
// "512", "4K", "1M"; other numbers in full.
std::string ShortCount(int64_t value);

// log(sum(exp(logits))) of a row [vocab], in double.
double LogSumExp(std::span<const float> logits);
// Index of the largest logit of a row; the lower of equal ones.
int32_t ArgMax(std::span<const float> logits);

// Calls `work(first, last)` on pieces of [0, count) on up to `threads` threads.
void ParallelRows(int64_t count, int threads, const std::function<void(int64_t, int64_t)>& work);

// "+.0053", "-.0088", "+1.2000": a signed figure as in published tables.
std::string SignedFigure(double value, int decimals);

// Model, threads, instruction set and span, for the head of every report.
nlohmann::ordered_json DescribeEngine(const Engine& engine);
// The numbers behind a rule's name.
nlohmann::ordered_json DescribeRule(const AttentionConfig& rule);
// Pretty-printed JSON into a file ("-" is stdout).
Status WriteJson(const std::string& path, const nlohmann::ordered_json& json);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_EVAL_COMMON_H_
