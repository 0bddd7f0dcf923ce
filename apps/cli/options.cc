// SPDX-License-Identifier: Apache-2.0
// The option groups every verb shares, and the attention rule they describe.
#include <fmt/core.h>

#include <charconv>
#include <utility>

#include "common.h"

namespace hga::cli {
namespace {

constexpr const char* kModelGroup = "Model";
constexpr const char* kAttentionGroup = "Attention (a field left out keeps the preset's value)";
constexpr const char* kOutputGroup = "Output";

bool AnyField(const AttentionOptions& o) {
  return o.group || o.key_span || o.chunk_key_span || o.value_span || o.sink_chunks ||
         o.local_chunks || o.groups_budget || o.chunk_beam || o.beam_share || o.trust || o.tail ||
         o.key_mean || o.scope || o.summary_dtype || o.dense_layers || o.sampled_layers;
}

void ApplyFields(const AttentionOptions& o, RoutingConfig* rule) {
  const auto set = [](const auto& given, auto* field) {
    if (given) *field = *given;
  };
  set(o.group, &rule->group);
  set(o.key_span, &rule->key_span);
  set(o.chunk_key_span, &rule->chunk_key_span);
  set(o.value_span, &rule->value_span);
  set(o.sink_chunks, &rule->sink_chunks);
  set(o.local_chunks, &rule->local_chunks);
  set(o.groups_budget, &rule->groups_budget);
  set(o.chunk_beam, &rule->chunk_beam);
  set(o.beam_share, &rule->beam_share);
  set(o.trust, &rule->trust);
  set(o.tail, &rule->tail);
  if (o.key_mean) {
    rule->key_mean = *o.key_mean == "rotated" ? KeyMean::kRotated : KeyMean::kMixedRope;
  }
  if (o.scope) {
    rule->scope = *o.scope == "kv_head" ? SelectionScope::kKvHead : SelectionScope::kQueryHead;
  }
  if (o.summary_dtype) {
    rule->summary_dtype = *o.summary_dtype == "fp8" ? SummaryDtype::kFp8 : SummaryDtype::kBf16;
  }
}

// All of `text` as a number of at most `limit`.
bool ParseNumber(std::string_view text, int limit, int* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && *value >= 0 && *value <= limit;
}

// "0,3" or "0:1024,5:512"; "none" or "" is empty. `paired` tells which.
Result<std::map<int, int>> ParseLayers(const std::string& flag, std::string_view text,
                                       bool paired) {
  std::map<int, int> layers;
  if (text == "none" || text.empty()) return layers;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const size_t colon = item.find(':');
    int layer = 0;
    int cells = 0;
    const bool good =
        ParseNumber(item.substr(0, colon), 1 << 16, &layer) &&
        (colon != std::string_view::npos) == paired &&
        (!paired || (ParseNumber(item.substr(colon + 1), 1 << 24, &cells) && cells > 0));
    if (!good) {
      return InvalidArgument(
          fmt::format("{}: '{}' is not {}", flag, item, paired ? "LAYER:CELLS" : "a layer number"));
    }
    if (!layers.emplace(layer, cells).second) {
      return InvalidArgument(fmt::format("{}: layer {} is there twice", flag, layer));
    }
    if (comma == std::string_view::npos) return layers;
    text.remove_prefix(comma + 1);
  }
}

Status ApplyLayers(const AttentionOptions& options, AttentionConfig* config) {
  if (options.dense_layers) {
    HGA_ASSIGN_OR_RETURN(const auto layers,
                         ParseLayers("--dense-layers", *options.dense_layers, false));
    config->dense_layers.clear();
    for (const auto& [layer, unused] : layers) config->dense_layers.push_back(layer);
  }
  if (options.sampled_layers) {
    HGA_ASSIGN_OR_RETURN(config->sampled_layers,
                         ParseLayers("--sampled-layers", *options.sampled_layers, true));
  }
  return OkStatus();
}

}  // namespace

std::string PresetList() {
  std::string list;
  for (std::string_view name : PresetNames())
    list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

void AddModelOptions(CLI::App& verb, ModelOptions* options, bool allow_dummy, bool positional) {
  verb.add_option(positional ? "model,-m,--model" : "-m,--model", options->model,
                  "Checkpoint: a directory, or ORG/NAME from the local Hugging Face cache")
      ->type_name("DIR|ORG/NAME")
      ->required()
      ->group(kModelGroup);
  verb.add_option("--revision", options->revision, "Branch, tag or commit of ORG/NAME [main]")
      ->type_name("REV")
      ->group(kModelGroup);
  if (allow_dummy) {
    verb.add_option_function<std::string>(
            "--load-format",
            [options](const std::string& format) { options->dummy = format == "dummy"; },
            "auto, or dummy for random weights of the checkpoint's shape (needs config.json only)")
        ->check(CLI::IsMember({"auto", "dummy"}))
        ->default_str("auto")
        ->group(kModelGroup);
  }
  verb.add_option("--threads", options->threads, "Threads; 0 is one per available core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str()
      ->group(kModelGroup);
  verb.add_option("--isa", options->isa,
                  "Best instruction set to use: auto, ssse3, avx2, avx3 (AVX-512), avx3_bf16")
      ->check(CLI::Validator(
          [](const std::string& name) {
            constexpr std::string_view kKnown[] = {"auto", "ssse3",     "avx2",
                                                   "avx3", "avx3_bf16", "neon"};
            const bool known = std::ranges::find(kKnown, name) != std::end(kKnown);
            return known ? std::string() : "no instruction set '" + name + "'";
          },
          ""))
      ->capture_default_str()
      ->group(kModelGroup);
  verb.add_option("--span", options->span, "Most tokens computed in one pass (prefill)")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->group(kModelGroup);
}

void AddAttentionOptions(CLI::App& verb, AttentionOptions* options, bool preset_flag) {
  const RoutingConfig shown;  // the values of the preset `default`
  const auto add = [&verb](const char* name, auto& field, const std::string& text,
                           const std::string& value) {
    return verb.add_option(name, field, fmt::format("{} [{}]", text, value))
        ->group(kAttentionGroup);
  };
  if (preset_flag) {
    verb.add_option("--attention", options->preset, "Rule of attention: " + PresetList())
        ->type_name("dense|PRESET")
        ->capture_default_str()
        ->group(kAttentionGroup);
  }
  const auto num = [](auto value) { return fmt::format("{}", value); };
  add("--group", options->group, "Tokens opened together", num(shown.group));
  add("--key-span", options->key_span, "Tokens per key mean", num(shown.key_span));
  add("--chunk-key-span", options->chunk_key_span, "Tokens per key mean of the chunk level",
      num(shown.chunk_key_span));
  add("--value-span", options->value_span, "Tokens per value mean", num(shown.value_span));
  add("--sink-chunks", options->sink_chunks, "Chunks of 64 tokens always visible from the start",
      num(shown.sink_chunks));
  add("--local-chunks", options->local_chunks, "Chunks always visible before the query's own chunk",
      num(shown.local_chunks));
  add("--groups-budget", options->groups_budget, "Groups opened per query and selector",
      num(shown.groups_budget));
  add("--chunk-beam", options->chunk_beam, "Chunks that survive a first level; 0: no such level",
      num(shown.chunk_beam));
  add("--beam-share", options->beam_share, "And at least this share of the candidate chunks",
      num(shown.beam_share));
  add("--trust", options->trust, "Groups at which the value correction has half its weight",
      num(shown.trust));
  verb.add_flag_function(
          "--tail,!--no-tail", [options](int64_t count) { options->tail = count > 0; },
          "Groups that stay closed contribute by their summaries, or not [on]")
      ->group(kAttentionGroup);
  add("--key-mean", options->key_mean, "Mean of rotated keys, or the mixture", "rotated")
      ->check(CLI::IsMember({"rotated", "mixed_rope"}));
  add("--scope", options->scope, "Who selects", "kv_head")
      ->check(CLI::IsMember({"kv_head", "query_head"}));
  add("--summary-dtype", options->summary_dtype, "Precision of summaries", "fp8")
      ->check(CLI::IsMember({"fp8", "bf16"}));
  add("--dense-layers", options->dense_layers, "Layers with ordinary attention, or none", "0")
      ->type_name("0,3");
  add("--sampled-layers", options->sampled_layers,
      "Layers that see a sample, with its cells of 8 tokens, or none", "none")
      ->type_name("0:1024");
}

void AddGlobalOptions(CLI::App& verb, GlobalOptions* options) {
  verb.add_flag("-q,--quiet", options->quiet, "Only errors on stderr")->group(kOutputGroup);
  verb.add_flag("-v,--verbose", options->verbose, "More on stderr")->group(kOutputGroup);
  verb.add_option("--color", options->color, "Colours on stderr; auto obeys NO_COLOR")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str()
      ->group(kOutputGroup);
  verb.add_option("--log-file", options->log_file, "Append messages to this file as well")
      ->type_name("FILE")
      ->group(kOutputGroup);
  verb.add_flag("--log-json", options->log_json, "The log file holds one JSON object per line")
      ->group(kOutputGroup);
  verb.add_flag("--print-config", options->print_config,
                "Print the settings in effect in the form --config reads, and leave")
      ->configurable(false)
      ->group(kOutputGroup);
}

Result<AttentionConfig> MakeAttention(const AttentionOptions& options, std::string_view preset) {
  HGA_ASSIGN_OR_RETURN(AttentionConfig config, PresetConfig(preset));
  if (config.dense || !AnyField(options)) return config;
  ApplyFields(options, &config.routing);
  for (auto& [layer, rule] : config.layers) ApplyFields(options, &rule);
  HGA_RETURN_IF_ERROR(ApplyLayers(options, &config));
  config.name += "+custom";
  HGA_RETURN_IF_ERROR(Validate(config.routing));
  return config;
}

Result<AttentionConfig> MakeAttention(const AttentionOptions& options) {
  HGA_ASSIGN_OR_RETURN(AttentionConfig config, MakeAttention(options, options.preset));
  if (config.dense && AnyField(options)) {
    return InvalidArgument("--attention dense takes none of the fields of a routing rule");
  }
  return config;
}

}  // namespace hga::cli
