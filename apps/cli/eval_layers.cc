// SPDX-License-Identifier: Apache-2.0
// `hga eval layers`: which layers of a checkpoint a rule misrepresents, each layer judged alone on
// dense attention's own trajectory.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "eval_common.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

struct LayersOptions {
  ModelOptions model;
  AttentionOptions flags;
  std::vector<std::string> rules = {"default"};
  std::string text;
  int64_t ctx = 16384;  // tokens
  int64_t from = -1;    // first measured query; negative: three quarters of ctx
  int64_t stride = 16;
  std::string json;
};

std::string KindName(LayerKind kind) {
  if (kind == LayerKind::kDense) return "dense";
  return kind == LayerKind::kSampled ? "sampled" : "routed";
}

std::string LayersTable(const std::vector<AttentionConfig>& rules,
                        const std::vector<Engine::LayerReport>& reports) {
  Table table;
  table.AddColumn("layer");
  table.AddColumn("entropy");
  table.AddColumn("beyond windows");
  for (const AttentionConfig& rule : rules) {
    table.AddColumn(rule.name + ": error");
    table.AddColumn("kind", Table::Align::kLeft);
  }
  for (const Engine::LayerReport& report : reports) {
    std::vector<std::string> cells = {fmt::format("{}", report.layer),
                                      fmt::format("{:.2f}", report.entropy),
                                      fmt::format("{:.1f} %", 100 * report.mass_beyond_windows)};
    for (size_t i = 0; i < rules.size(); ++i) {
      cells.push_back(fmt::format("{:.4f}", report.relative_error[i]));
      cells.push_back(KindName(rules[i].KindOf(report.layer)));
    }
    table.AddRow(std::move(cells));
  }
  return table.Text();
}

Json Report(const Engine& engine, const LayersOptions& options,
            const std::vector<AttentionConfig>& rules,
            const std::vector<Engine::LayerReport>& reports) {
  Json json = DescribeEngine(engine);
  json["text"] = BaseName(options.text);
  json["ctx"] = options.ctx;
  json["from"] = options.from;
  json["stride"] = options.stride;
  json["rows"] = Json::array();
  for (const AttentionConfig& rule : rules) {
    Json row = {{"attention", rule.name}, {"rule", DescribeRule(rule)}};
    row["relative_error"] = Json::array();
    row["kind"] = Json::array();
    const size_t i = json["rows"].size();
    for (const Engine::LayerReport& report : reports) {
      row["relative_error"].push_back(report.relative_error[i]);
      row["kind"].push_back(KindName(rule.KindOf(report.layer)));
    }
    json["rows"].push_back(std::move(row));
  }
  for (const Engine::LayerReport& report : reports) {
    json["layers"].push_back({{"layer", report.layer},
                              {"entropy", report.entropy},
                              {"mass_beyond_windows", report.mass_beyond_windows},
                              {"queries", report.rows}});
  }
  return json;
}

// The rules, and what else the command line alone can say about itself.
Result<std::vector<AttentionConfig>> Check(const LayersOptions& options) {
  if (options.from >= options.ctx) {
    return InvalidArgument(fmt::format("--from {} lies beyond the last position of --ctx {}",
                                       options.from, options.ctx));
  }
  return RulesFromSpecs(options.flags, options.rules, /*dense_first=*/false);
}

Status RunLayers(const GlobalOptions& global, const LayersOptions& options,
                 const std::vector<AttentionConfig>& rules) {
  HGA_ASSIGN_OR_RETURN(auto engine,
                       OpenEngine(global, options.model, KvOptions(), nullptr, nullptr));
  for (const AttentionConfig& rule : rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, engine->info().layers));
  }
  HGA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, ReadTokens(*engine, options.text, options.ctx));
  Progress progress(global, BaseName(options.text), Progress::Unit::kTokens);
  HGA_ASSIGN_OR_RETURN(std::vector<Engine::LayerReport> reports,
                       engine->CompareLayers(tokens, rules, options.from, options.stride,
                                             [&](int64_t done, int64_t total) {
                                               progress.Update(done, total);
                                               return !Interrupted();
                                             }));
  progress.Finish();
  if (options.json != "-") HGA_RETURN_IF_ERROR(WriteStdout(LayersTable(rules, reports)));
  if (options.json.empty()) return OkStatus();
  return WriteJson(options.json, Report(*engine, options, rules, reports));
}

}  // namespace

void AddEvalLayersCommand(CLI::App& eval, GlobalOptions& global, int* exit_code) {
  auto options = std::make_shared<LayersOptions>();
  CLI::App* verb = eval.add_subcommand(
      "layers", "Per layer: error of each rule's attention output, entropy, mass beyond windows");
  AddModelOptions(*verb, &options->model);
  AddAttentionOptions(*verb, &options->flags, /*preset_flag=*/false);
  verb->add_option(
          "--attention,-a", options->rules,
          "NAME[:field=value...] to look at, comma separated. Rules of attention: " + PresetList())
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--text", options->text, "Text file (UTF-8)")->required();
  verb->add_option("--ctx,-c", options->ctx, "Tokens taken from the start of the text")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_option("--from", options->from, "First measured position (default: 3/4 of --ctx)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  verb->add_option("--stride", options->stride, "Measure every so many positions")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_option("--json", options->json, "Write the figures to this file; - is stdout");
  verb->callback([options, &global, exit_code] {
    if (options->from < 0) options->from = options->ctx - options->ctx / 4;
    const auto rules = Check(*options);
    if (!rules.ok()) {
      *exit_code = FailUsage(rules.status());
      return;
    }
    const Status status = RunLayers(global, *options, *rules);
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
}

}  // namespace hga::cli
