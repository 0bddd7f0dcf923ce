// SPDX-License-Identifier: Apache-2.0
// What attention computes: the settings of the routing law, per layer, and the named presets.
// Terms and numbers: docs/spec/routing.md.
#ifndef HGA_CONFIG_H_
#define HGA_CONFIG_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

enum class KeyMean { kRotated, kMixedRope };        // mean of rotated keys; or the paper's mixture
enum class SelectionScope { kKvHead, kQueryHead };  // who selects: R query heads together, or each
enum class SummaryDtype { kFp8, kBf16 };

// The rule of one routed layer. All spans in tokens.
struct RoutingConfig {
  int chunk = 64;            // the stored chunk is always 64
  int group = 8;             // opened together; divides chunk
  int key_span = 4;          // tokens per key mean; divides group
  int chunk_key_span = 16;   // tokens per key mean of the chunk level; divides chunk
  int value_span = 16;       // tokens per value mean; a multiple of group, divides chunk
  int sink_chunks = 2;       // always visible from the start
  int local_chunks = 8;      // always visible before the query's own chunk
  int groups_budget = 128;   // groups opened per query and selector
  int chunk_beam = 0;        // chunks that survive the first level; 0: no first level
  double beam_share = 0.25;  // and at least this share of the candidate chunks
  bool tail = true;          // groups that were not opened contribute by their summaries
  double trust = 16.0;       // groups; the value correction weighs n / (n + trust)
  KeyMean key_mean = KeyMean::kRotated;
  SelectionScope scope = SelectionScope::kKvHead;
  SummaryDtype summary_dtype = SummaryDtype::kFp8;

  friend bool operator==(const RoutingConfig&, const RoutingConfig&) = default;
};

enum class LayerKind { kRouted, kDense, kSampled };

// The rules of a whole model.
struct AttentionConfig {
  std::string name = "default";  // for reports: "dense", a preset's name or "custom"
  bool dense = false;            // every layer keeps ordinary attention
  RoutingConfig routing;
  std::vector<int> dense_layers;        // these keep ordinary attention
  std::map<int, int> sampled_layers;    // layer -> most cells of 8 tokens in its sample
  std::map<int, RoutingConfig> layers;  // layer -> a rule of its own

  LayerKind KindOf(int layer) const;
  const RoutingConfig& RuleOf(int layer) const;
};

// The rules in one line that tells two of them apart, for messages and files.
std::string Describe(const AttentionConfig& config);

// Names accepted by PresetConfig, "dense" first.
std::span<const std::string_view> PresetNames();

// The settings behind a name; kNotFound lists the names.
Result<AttentionConfig> PresetConfig(std::string_view name);

// kInvalidArgument names the broken rule and both numbers.
Status Validate(const RoutingConfig& rule);
// The same for every layer of a model with `layers` layers: also layer numbers out of range and
// layers that are both dense and sampled.
Status Validate(const AttentionConfig& config, int layers);

}  // namespace hga

#endif  // HGA_CONFIG_H_
