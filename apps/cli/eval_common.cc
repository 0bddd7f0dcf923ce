// SPDX-License-Identifier: Apache-2.0
// Rules, texts, ranges and figures for the `eval` verbs; registers `eval` itself.
#include "eval_common.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <thread>

#include "commands.h"

namespace hga::cli {
namespace {

constexpr int64_t kTextBytesMax = int64_t{1} << 30;

// The fields that are one of two words.
const std::map<std::string_view, std::pair<std::string_view, std::string_view>> kChoices = {
    {"key_mean", {"rotated", "mixed_rope"}},
    {"scope", {"kv_head", "query_head"}},
    {"summary_dtype", {"fp8", "bf16"}},
    {"tail", {"true", "false"}}};

Status FieldError(std::string_view spec, std::string_view field, std::string_view value,
                  std::string_view wanted) {
  return InvalidArgument(
      fmt::format("rule \"{}\": {} is \"{}\", wanted {}", spec, field, value, wanted));
}

template <typename T>
bool ParseNumber(std::string_view text, T* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && stop == end;
}

std::string Replaced(std::string_view text, char from, char to) {
  std::string copy(text);
  std::replace(copy.begin(), copy.end(), from, to);
  return copy;
}

// Puts one field into `options`.
Status SetField(std::string_view spec, std::string_view field, std::string_view value,
                AttentionOptions* options) {
  const std::map<std::string_view, std::optional<int>*> ints = {
      {"group", &options->group},
      {"key_span", &options->key_span},
      {"chunk_key_span", &options->chunk_key_span},
      {"value_span", &options->value_span},
      {"sink_chunks", &options->sink_chunks},
      {"local_chunks", &options->local_chunks},
      {"groups_budget", &options->groups_budget},
      {"chunk_beam", &options->chunk_beam}};
  const std::map<std::string_view, std::optional<double>*> doubles = {
      {"beam_share", &options->beam_share}, {"trust", &options->trust}};
  const std::map<std::string_view, std::optional<std::string>*> texts = {
      {"key_mean", &options->key_mean},
      {"scope", &options->scope},
      {"summary_dtype", &options->summary_dtype},
      {"dense_layers", &options->dense_layers},
      {"sampled_layers", &options->sampled_layers}};
  if (const auto it = ints.find(field); it != ints.end()) {
    int number = 0;
    if (!ParseNumber(value, &number)) return FieldError(spec, field, value, "a whole number");
    *it->second = number;
    return OkStatus();
  }
  if (const auto it = doubles.find(field); it != doubles.end()) {
    double number = 0;
    if (!ParseNumber(value, &number)) return FieldError(spec, field, value, "a number");
    *it->second = number;
    return OkStatus();
  }
  if (const auto it = kChoices.find(field);
      it != kChoices.end() && value != it->second.first && value != it->second.second) {
    return FieldError(spec, field, value,
                      fmt::format("{} or {}", it->second.first, it->second.second));
  }
  if (const auto it = texts.find(field); it != texts.end()) {
    *it->second = Replaced(Replaced(value, '+', ','), '@', ':');
    return OkStatus();
  }
  if (field == "tail") {
    options->tail = value == "true";
    return OkStatus();
  }
  return InvalidArgument(fmt::format("rule \"{}\": no field is called \"{}\"", spec, field));
}

}  // namespace

Result<AttentionConfig> RuleFromSpec(std::string_view spec) {
  return RuleFromSpec(AttentionOptions(), spec);
}

Result<AttentionConfig> RuleFromSpec(const AttentionOptions& flags, std::string_view spec) {
  const std::string_view name = spec.substr(0, spec.find(':'));
  if (name == "dense" && spec.size() > name.size()) {
    return InvalidArgument(fmt::format("rule \"{}\": dense attention has no fields", spec));
  }
  AttentionOptions options = name == "dense" ? AttentionOptions() : flags;
  for (size_t at = name.size(); at < spec.size();) {
    const size_t begin = at + 1;
    at = std::min(spec.find(':', begin), spec.size());
    const std::string_view part = spec.substr(begin, at - begin);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      return InvalidArgument(
          fmt::format("rule \"{}\": \"{}\" is not of the form field=value", spec, part));
    }
    HGA_RETURN_IF_ERROR(SetField(spec, part.substr(0, equals), part.substr(equals + 1), &options));
  }
  HGA_ASSIGN_OR_RETURN(AttentionConfig config, MakeAttention(options, name));
  if (spec.size() > name.size()) config.name = std::string(spec);
  return config;
}

Result<std::vector<AttentionConfig>> RulesFromSpecs(const AttentionOptions& flags,
                                                    const std::vector<std::string>& specs,
                                                    bool dense_first) {
  std::vector<std::string> wanted;
  if (dense_first) wanted.push_back("dense");
  wanted.insert(wanted.end(), specs.begin(), specs.end());
  std::vector<AttentionConfig> rules;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto here = wanted.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(wanted.begin(), here, wanted[i]) != here) continue;
    HGA_ASSIGN_OR_RETURN(AttentionConfig rule, RuleFromSpec(flags, wanted[i]));
    rules.push_back(std::move(rule));
  }
  if (rules.empty()) return InvalidArgument("--attention names no rule");
  return rules;
}

Result<std::vector<int32_t>> ReadAllTokens(const Engine& engine, const std::string& path) {
  HGA_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kTextBytesMax));
  auto tokens = engine.tokenizer().Encode(text, /*parse_special=*/false);
  if (tokens.ok()) return tokens;
  return Status(tokens.status().code(), path + ": " + tokens.status().message());
}

Result<std::vector<int32_t>> ReadTokens(const Engine& engine, const std::string& path,
                                        int64_t count) {
  HGA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, ReadAllTokens(engine, path));
  const auto held = static_cast<int64_t>(tokens.size());
  if (held < count) {
    return InvalidArgument(fmt::format("{}: the text has {} tokens, {} are needed", path,
                                       FormatCount(held), FormatCount(count)));
  }
  tokens.resize(static_cast<size_t>(count));
  return tokens;
}

std::string BaseName(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::vector<PositionRange> MakeRanges(int64_t tokens) {
  std::vector<PositionRange> ranges;
  int64_t begin = 0;
  for (int64_t border = 4096; begin < tokens - 1; border *= 2) {
    const int64_t end = std::min(border, tokens);
    ranges.push_back({begin, std::min(end, tokens - 1),
                      fmt::format("{}-{}", ShortCount(begin), ShortCount(end))});
    begin = end;
  }
  return ranges;
}

std::string ShortCount(int64_t value) {
  constexpr int64_t kKibi = 1024;
  if (value >= kKibi * kKibi && value % (kKibi * kKibi) == 0) {
    return fmt::format("{}M", value / (kKibi * kKibi));
  }
  if (value >= kKibi && value % kKibi == 0) return fmt::format("{}K", value / kKibi);
  return fmt::format("{}", value);
}

double LogSumExp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void ParallelRows(int64_t count, int threads, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t workers = std::clamp<int64_t>(threads, 1, std::max<int64_t>(count, 1));
  std::vector<std::thread> others;
  for (int64_t i = 1; i < workers; ++i) {
    others.emplace_back([&, i] { work(count * i / workers, count * (i + 1) / workers); });
  }
  work(0, count / workers);
  for (std::thread& other : others) other.join();
}

std::string SignedFigure(double value, int decimals) {
  std::string text = fmt::format("{:+.{}f}", value, decimals);
  if (text.size() > 2 && text[1] == '0' && text[2] == '.') text.erase(1, 1);
  return text;
}

nlohmann::ordered_json DescribeEngine(const Engine& engine) {
  return {{"model", BaseName(engine.info().directory)},
          {"family", engine.info().family},
          {"weights", engine.info().weight_format},
          {"parameters", engine.info().parameters},
          {"threads", engine.threads()},
          {"isa", engine.isa()},
          {"span", engine.span()}};
}

nlohmann::ordered_json DescribeRule(const AttentionConfig& rule) {
  nlohmann::ordered_json json = {{"name", rule.name}};
  if (rule.dense) return json;
  const RoutingConfig& routing = rule.routing;
  json["group"] = routing.group;
  json["key_span"] = routing.key_span;
  json["chunk_key_span"] = routing.chunk_key_span;
  json["value_span"] = routing.value_span;
  json["sink_chunks"] = routing.sink_chunks;
  json["local_chunks"] = routing.local_chunks;
  json["groups_budget"] = routing.groups_budget;
  json["chunk_beam"] = routing.chunk_beam;
  json["beam_share"] = routing.beam_share;
  json["tail"] = routing.tail;
  json["trust"] = routing.trust;
  json["key_mean"] = routing.key_mean == KeyMean::kRotated ? "rotated" : "mixed_rope";
  json["scope"] = routing.scope == SelectionScope::kKvHead ? "kv_head" : "query_head";
  json["summary_dtype"] = routing.summary_dtype == SummaryDtype::kFp8 ? "fp8" : "bf16";
  json["dense_layers"] = rule.dense_layers;
  json["sampled_layers"] = nlohmann::ordered_json::object();
  for (const auto& [layer, cells] : rule.sampled_layers) {
    json["sampled_layers"][fmt::format("{}", layer)] = cells;
  }
  return json;
}

Status WriteJson(const std::string& path, const nlohmann::ordered_json& json) {
  // File names need not be UTF-8.
  const std::string text =
      json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  return path == "-" ? WriteStdout(text) : WriteTextFile(path, text);
}

void AddEvalCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* eval = app.add_subcommand(
      "eval", "Measure what a rule costs in quality: loss gap, layers, facts found");
  eval->require_subcommand(1);
  AddEvalGapCommand(*eval, global, exit_code);
  AddEvalLayersCommand(*eval, global, exit_code);
  AddEvalNeedleCommand(*eval, global, exit_code);
}

}  // namespace hga::cli
