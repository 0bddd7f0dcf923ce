// SPDX-License-Identifier: Apache-2.0
// Presets by name, and the rules every configuration must keep.
#include "hga/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "spec/layout.h"

namespace hga {

LayerKind AttentionConfig::KindOf(int layer) const {
  if (dense || std::find(dense_layers.begin(), dense_layers.end(), layer) != dense_layers.end()) {
    return LayerKind::kDense;
  }
  return sampled_layers.count(layer) ? LayerKind::kSampled : LayerKind::kRouted;
}

const RoutingConfig& AttentionConfig::RuleOf(int layer) const {
  const auto own = layers.find(layer);
  return own == layers.end() ? routing : own->second;
}

std::span<const std::string_view> PresetNames() {
  static constexpr std::array<std::string_view, 9> kNames = {
      "dense", "default", "exact", "fine", "half", "sparse", "long", "paper", "window"};
  return kNames;
}

namespace {

std::string Describe(const RoutingConfig& r) {
  return fmt::format("C{} G{} k{} K{} v{} s{} l{} b{} B{} S{} t{} T{} m{} q{} d{}", r.chunk,
                     r.group, r.key_span, r.chunk_key_span, r.value_span, r.sink_chunks,
                     r.local_chunks, r.groups_budget, r.chunk_beam, r.beam_share, r.tail ? 1 : 0,
                     r.trust, static_cast<int>(r.key_mean), static_cast<int>(r.scope),
                     static_cast<int>(r.summary_dtype));
}

}  // namespace

std::string Describe(const AttentionConfig& config) {
  std::string text = config.name;
  if (config.dense) return text;
  text += fmt::format(": {}", Describe(config.routing));
  for (int layer : config.dense_layers) text += fmt::format("; {} dense", layer);
  for (const auto& [layer, cells] : config.sampled_layers) {
    text += fmt::format("; {} sampled {}", layer, cells);
  }
  for (const auto& [layer, rule] : config.layers) {
    text += fmt::format("; {} {}", layer, Describe(rule));
  }
  return text;
}

Result<AttentionConfig> PresetConfig(std::string_view name) {
  AttentionConfig config;
  RoutingConfig& r = config.routing;
  config.name = std::string(name);
  config.dense_layers = {0};
  if (name == "default") return config;
  if (name == "dense") {
    config.dense = true;
    config.dense_layers.clear();
    return config;
  }
  if (name == "exact") {
    r.tail = false;
    return config;
  }
  if (name == "fine") {
    r.group = 4;
    r.groups_budget = 256;
    return config;
  }
  if (name == "half") {
    r.groups_budget = 64;
    return config;
  }
  config.dense_layers.clear();
  if (name == "sparse" || name == "long") {
    config.sampled_layers[0] = 1024;
    if (name == "long") r.chunk_beam = 256;
    return config;
  }
  r.tail = false;
  if (name == "paper") {
    r.group = r.key_span = 16;
    r.chunk_key_span = 64;
    r.key_mean = KeyMean::kMixedRope;
    r.scope = SelectionScope::kQueryHead;
    r.chunk_beam = 16;
    r.beam_share = 0;
    r.groups_budget = 64;
    return config;
  }
  if (name == "window") {
    r.groups_budget = 0;
    return config;
  }
  std::string known;
  for (std::string_view n : PresetNames())
    known += fmt::format("{}{}", known.empty() ? "" : ", ", n);
  return NotFound(fmt::format("no attention preset '{}'; known: {}", name, known));
}

namespace {

Status Divides(const char* small, int a, const char* large, int b) {
  if (a >= 1 && b % a == 0) return OkStatus();
  return InvalidArgument(fmt::format("{} ({}) must divide {} ({})", small, a, large, b));
}

Status InRange(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return OkStatus();  // NaN fails
  return InvalidArgument(fmt::format("{} is {}, allowed are {} to {}", field, value, low, high));
}

}  // namespace

Status Validate(const RoutingConfig& r) {
  if (r.chunk != spec::kChunk) {
    return InvalidArgument(
        fmt::format("chunk is {}, the stored chunk is always {}", r.chunk, spec::kChunk));
  }
  HGA_RETURN_IF_ERROR(Divides("group", r.group, "chunk", r.chunk));
  HGA_RETURN_IF_ERROR(Divides("key_span", r.key_span, "group", r.group));
  HGA_RETURN_IF_ERROR(Divides("chunk_key_span", r.chunk_key_span, "chunk", r.chunk));
  if (r.tail) {
    HGA_RETURN_IF_ERROR(Divides("group", r.group, "value_span", r.value_span));
    HGA_RETURN_IF_ERROR(Divides("value_span", r.value_span, "chunk", r.chunk));
  }
  HGA_RETURN_IF_ERROR(InRange("sink_chunks", r.sink_chunks, 0, 1 << 20));
  HGA_RETURN_IF_ERROR(InRange("local_chunks", r.local_chunks, 0, 1 << 20));
  HGA_RETURN_IF_ERROR(InRange("groups_budget", r.groups_budget, 0, 1 << 16));
  HGA_RETURN_IF_ERROR(InRange("chunk_beam", r.chunk_beam, 0, 1 << 24));
  HGA_RETURN_IF_ERROR(InRange("beam_share", r.beam_share, 0, 1));
  return InRange("trust", r.trust, 0, 1e9);
}

Status Validate(const AttentionConfig& config, int layers) {
  HGA_RETURN_IF_ERROR(Validate(config.routing));
  const auto known = [layers](const char* field, int layer) -> Status {
    if (layer >= 0 && layer < layers) return OkStatus();
    return InvalidArgument(
        fmt::format("{} names layer {}, the model has layers 0 to {}", field, layer, layers - 1));
  };
  for (int layer : config.dense_layers) {
    HGA_RETURN_IF_ERROR(known("dense_layers", layer));
    if (config.sampled_layers.count(layer)) {
      return InvalidArgument(
          fmt::format("layer {} is both dense and sampled, one of them by the preset: "
                      "dense_layers or sampled_layers none takes one away",
                      layer));
    }
  }
  for (const auto& [layer, cells] : config.sampled_layers) {
    HGA_RETURN_IF_ERROR(known("sampled_layers", layer));
    HGA_RETURN_IF_ERROR(InRange("cells of a sampled layer", cells, 1, 1 << 24));
  }
  for (const auto& [layer, rule] : config.layers) {
    HGA_RETURN_IF_ERROR(known("layers", layer));
    HGA_RETURN_IF_ERROR(Validate(rule));
  }
  return OkStatus();
}

}  // namespace hga
