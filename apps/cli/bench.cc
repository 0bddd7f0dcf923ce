// SPDX-License-Identifier: Apache-2.0
// `hga bench`: tokens per second over a grid of prompt sizes, answers and filled depths, dense
// attention and rules side by side, beside what the machine can do at most.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "bench_roof.h"
#include "bench_run.h"
#include "bench_tier.h"
#include "bench_tier_report.h"
#include "commands.h"
#include "eval_common.h"
#include "hga/version.h"
#include "memory_plan.h"
#include "options_kv.h"
#include "progress.h"
#include "report_machine.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  ModelOptions model;
  AttentionOptions flags;
  std::vector<std::string> rules = {"dense", "default"};
  std::vector<std::string> prompts = {"512"};
  std::vector<std::string> generates = {"64"};
  std::vector<std::string> pairs;  // "512+64"
  std::vector<std::string> depths = {"0", "4096", "16384"};
  int repeats = 5;
  bool no_warm_up = false;
  std::string output = "md";
  std::string text;  // "": seeded random token ids
  uint64_t seed = 1;
  bool roof_only = false;
  bool no_roof = false;
  bool allow_past_limit = false;
  KvFlags kv;
  std::vector<std::string> tiers;  // "memory", "disk"; none: the grid
};

constexpr int64_t kTokensMax = int64_t{1} << 24;
constexpr size_t kGridMax = 4096;

bool ParseCount(std::string_view text, int64_t* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && stop == end && *value >= 0 && *value <= kTokensMax;
}

// "512", "1024-8192+1024" or "1024-65536*2".
Status ParseItem(const std::string& option, std::string_view item, std::vector<int64_t>* values) {
  const Status bad = InvalidArgument(
      fmt::format("{}: \"{}\" is neither N, FIRST-LAST+STEP nor FIRST-LAST*FACTOR, with numbers "
                  "from 0 to {}",
                  option, item, kTokensMax));
  int64_t first = 0;
  const size_t dash = item.find('-');
  if (!ParseCount(item.substr(0, dash), &first)) return bad;
  if (dash == std::string_view::npos) {
    values->push_back(first);
    return OkStatus();
  }
  const size_t sign = item.find_first_of("+*", dash);
  int64_t last = 0;
  int64_t step = 0;
  if (sign == std::string_view::npos ||
      !ParseCount(item.substr(dash + 1, sign - dash - 1), &last) ||
      !ParseCount(item.substr(sign + 1), &step)) {
    return bad;
  }
  const bool factor = item[sign] == '*';
  // Anything else would never reach the end.
  if (step < (factor ? 2 : 1) || (factor && first == 0)) return bad;
  for (int64_t value = first; value <= last; value = factor ? value * step : value + step) {
    values->push_back(value);
    if (values->size() > kGridMax) {
      return InvalidArgument(fmt::format("{}: more than {} values", option, kGridMax));
    }
  }
  return OkStatus();
}

Result<std::vector<int64_t>> ParseList(const std::string& option,
                                       const std::vector<std::string>& items) {
  std::vector<int64_t> values;
  for (const std::string& item : items) HGA_RETURN_IF_ERROR(ParseItem(option, item, &values));
  return values;
}

// "512+64": 512 tokens of prompt, then 64 generated.
Result<BenchTest> ParsePair(const std::string& item) {
  const size_t plus = item.find('+');
  BenchTest test;
  if (plus == std::string::npos || !ParseCount(item.substr(0, plus), &test.prompt) ||
      !ParseCount(item.substr(plus + 1), &test.generate) || test.tokens() == 0) {
    return InvalidArgument(fmt::format("--pg: \"{}\" is not of the form PROMPT+GENERATE", item));
  }
  return test;
}

Result<std::vector<BenchTest>> MakeGrid(const BenchOptions& options) {
  HGA_ASSIGN_OR_RETURN(const auto prompts, ParseList("--n-prompt", options.prompts));
  HGA_ASSIGN_OR_RETURN(const auto generates, ParseList("--n-gen", options.generates));
  HGA_ASSIGN_OR_RETURN(const auto depths, ParseList("--n-depth", options.depths));
  std::vector<BenchTest> kinds;
  for (const int64_t count : prompts) kinds.push_back({count, 0, 0});
  for (const int64_t count : generates) kinds.push_back({0, count, 0});
  for (const std::string& item : options.pairs) {
    HGA_ASSIGN_OR_RETURN(const BenchTest test, ParsePair(item));
    kinds.push_back(test);
  }
  std::vector<BenchTest> grid;
  for (const int64_t depth : depths) {
    for (const BenchTest& kind : kinds) {
      if (kind.tokens() > 0) grid.push_back({kind.prompt, kind.generate, depth});
    }
  }
  if (grid.empty()) return InvalidArgument("nothing to measure: -p, -n and --pg are all 0");
  if (grid.size() > kGridMax) {
    return InvalidArgument(fmt::format("{} tests; at most {}", grid.size(), kGridMax));
  }
  return grid;
}

Result<std::vector<int32_t>> MakeTokens(const Engine& engine, const BenchOptions& options,
                                        const std::vector<BenchTest>& tests) {
  int64_t count = 0;
  for (const BenchTest& test : tests) count = std::max(count, test.depth + test.tokens());
  if (!options.text.empty()) {
    if (options.model.dummy) {
      return InvalidArgument("--text needs a tokenizer, which --load-format dummy does not read");
    }
    return ReadTokens(engine, options.text, count);
  }
  std::mt19937_64 random(options.seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  const auto vocab = static_cast<uint64_t>(engine.info().vocab);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

// The same test's result under dense attention; nullptr if it was not measured.
const BenchResult* DenseOf(const std::vector<BenchResult>& results, const BenchResult& result) {
  for (const BenchResult& other : results) {
    if (other.attention == "dense" && other.test.name() == result.test.name() &&
        other.test.depth == result.test.depth) {
      return &other;
    }
  }
  return nullptr;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

Json StagesToJson(const BenchResult& result) {
  Json stages = Json::array();
  for (const Engine::StageTime& stage : result.stages) {
    stages.push_back({{"name", stage.name},
                      {"seconds", stage.seconds},
                      {"gb_s", Share(stage.bytes, stage.seconds) / 1e9},
                      {"gflop_s", Share(stage.flops, stage.seconds) / 1e9}});
  }
  return stages;
}

struct Report {
  Json head;
  Roof roof;
  std::vector<BenchResult> results;
};

Json RoofToJson(const Roof& roof) {
  return {{"memory_gb_s", roof.memory_gb_s},
          {"matrix_gflop_s", roof.matrix_gflop_s},
          {"matrix_kernels", roof.matrix_kernels}};
}

Json ResultToJson(const Report& report, const BenchResult& result) {
  const BenchResult* dense = DenseOf(report.results, result);
  const double count = static_cast<double>(result.test.tokens() * result.seconds.size());
  Json json = {{"test", result.test.name()},           {"n_prompt", result.test.prompt},
               {"n_gen", result.test.generate},        {"n_depth", result.test.depth},
               {"attention", result.attention},        {"avg_ts", result.MeanSpeed()},
               {"stddev_ts", result.SpeedDeviation()}, {"median_ts", result.MedianSpeed()}};
  json["ratio_to_dense"] =
      dense == nullptr ? Json() : Json(result.MedianSpeed() / dense->MedianSpeed());
  json["samples_s"] = result.seconds;
  json["gb_s"] = result.BytesPerSecond() / 1e9;
  json["gflop_s"] = result.FlopsPerSecond() / 1e9;
  json["attention_gb_s"] = result.AttentionBytesPerSecond() / 1e9;
  json["attention_gflop_s"] = result.AttentionFlopsPerSecond() / 1e9;
  json["attention_bytes_per_token"] = result.stats.bytes_read / count;
  json["visible"] = Share(result.stats.all.visible, result.stats.all.context);
  json["fetched"] = Share(result.stats.all.fetched, result.stats.all.context);
  json["stages"] = StagesToJson(result);
  return json;
}

std::string WithRoof(double value, double roof) {
  if (roof <= 0) return fmt::format("{:.1f}", value);
  return fmt::format("{:.1f} ({:.0f} %)", value, 100 * value / roof);
}

Table ResultTable(const Report& report) {
  Table table;
  table.AddColumn("depth");
  table.AddColumn("test", Table::Align::kLeft);
  table.AddColumn("attention", Table::Align::kLeft);
  for (const char* title : {"t/s", "+-", "median", "x dense", "GB/s", "GFLOP/s", "att. GB/s",
                            "att. GFLOP/s", "visible"}) {
    table.AddColumn(title);
  }
  for (const BenchResult& result : report.results) {
    const BenchResult* dense = DenseOf(report.results, result);
    table.AddRow(
        {fmt::format("{}", result.test.depth), result.test.name(), result.attention,
         fmt::format("{:.1f}", result.MeanSpeed()), fmt::format("{:.1f}", result.SpeedDeviation()),
         fmt::format("{:.1f}", result.MedianSpeed()),
         dense == nullptr ? "" : fmt::format("{:.2f}", result.MedianSpeed() / dense->MedianSpeed()),
         WithRoof(result.BytesPerSecond() / 1e9, report.roof.memory_gb_s),
         WithRoof(result.FlopsPerSecond() / 1e9, report.roof.matrix_gflop_s),
         WithRoof(result.AttentionBytesPerSecond() / 1e9, report.roof.memory_gb_s),
         WithRoof(result.AttentionFlopsPerSecond() / 1e9, report.roof.matrix_gflop_s),
         fmt::format("{:.1f} %", 100 * Share(result.stats.all.visible, result.stats.all.context))});
  }
  return table;
}

std::string RoofLine(const Roof& roof, int threads) {
  return fmt::format(
      "roof, {} threads: memory reads {:.1f} GB/s, float32 matrix product {:.1f} GFLOP/s "
      "(OpenBLAS {})\n",
      threads, roof.memory_gb_s, roof.matrix_gflop_s, roof.matrix_kernels);
}

std::string Render(const Report& report, const std::string& format) {
  if (format == "csv") return ResultTable(report).Csv();
  Json rows = Json::array();
  for (const BenchResult& result : report.results) rows.push_back(ResultToJson(report, result));
  constexpr auto kReplace = Json::error_handler_t::replace;
  if (format == "json") {
    Json all = report.head;
    all["rows"] = std::move(rows);
    return all.dump(1, ' ', false, kReplace) + "\n";
  }
  if (format == "jsonl") {
    std::string text;
    for (const Json& row : rows) {
      Json line = report.head;
      line.update(row);
      text += line.dump(-1, ' ', false, kReplace) + "\n";
    }
    return text;
  }
  return fmt::format(
      "{}, {}, {} threads, {}\n{}\n{}", report.head["model"].get<std::string>(),
      report.head["weights"].get<std::string>(), report.head["threads"].get<int>(),
      report.head["isa"].get<std::string>(),
      report.roof.memory_gb_s > 0 ? RoofLine(report.roof, report.head["threads"].get<int>()) : "",
      ResultTable(report).Markdown());
}

Status RunRoof(const BenchOptions& options) {
  int threads = options.model.threads;
  if (threads == 0) {
    HGA_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, ListDevices());
    threads = devices.empty() ? 1 : std::max(1, devices.front().threads);
  }
  HGA_ASSIGN_OR_RETURN(const Roof roof, MeasureRoof(options.model.isa, threads));
  if (options.output == "json" || options.output == "jsonl") {
    return WriteStdout(RoofToJson(roof).dump() + "\n");
  }
  return WriteStdout(RoofLine(roof, threads));
}

// Rules and tests of `--tier`: only decoding is compared.
Status CheckTiers(const BenchOptions& options, BenchPlan* plan) {
  const bool dense = std::any_of(plan->rules.begin(), plan->rules.end(),
                                 [](const AttentionConfig& rule) { return rule.dense; });
  if (options.tiers.empty()) {
    if (options.kv.host_bytes == 0 || !dense) return OkStatus();
    return InvalidArgument(
        "--kv-host-mem: dense attention needs all K/V in memory; name other rules by --attention, "
        "or compare by --tier");
  }
  if (options.kv.host_bytes == 0) return InvalidArgument("--tier needs --kv-host-mem");
  std::erase_if(plan->tests, [](const BenchTest& test) { return test.prompt > 0; });
  if (plan->tests.empty()) return InvalidArgument("--tier measures decoding: -n is 0");
  return OkStatus();
}

// All but the tokens, for which the vocabulary must be known.
Result<BenchPlan> MakePlan(const BenchOptions& options) {
  if (options.model.model.empty()) return InvalidArgument("--model is required");
  BenchPlan plan;
  plan.repeats = options.repeats;
  plan.warm_up = !options.no_warm_up;
  HGA_ASSIGN_OR_RETURN(plan.tests, MakeGrid(options));
  HGA_ASSIGN_OR_RETURN(plan.rules,
                       RulesFromSpecs(options.flags, options.rules, /*dense_first=*/false));
  HGA_ASSIGN_OR_RETURN(plan.filler, PresetConfig("default"));
  HGA_RETURN_IF_ERROR(CheckTiers(options, &plan));
  return plan;
}

// The better of two measurements: neighbours on a machine only ever make it look slower.
Roof Better(const Roof& a, const Roof& b) {
  return {std::max(a.memory_gb_s, b.memory_gb_s), std::max(a.matrix_gflop_s, b.matrix_gflop_s),
          a.matrix_kernels};
}

// Shows one bar after the other, each with its own text.
BenchProgress ShowProgress(const GlobalOptions& global) {
  struct Shown {
    std::string text;
    std::unique_ptr<Progress> bar;
  };
  const auto shown = std::make_shared<Shown>();
  return [shown, &global](const std::string& text, int64_t done, int64_t total) {
    if (text != shown->text) {
      shown->text = text;
      const bool filling = text.starts_with("filling");
      shown->bar = std::make_unique<Progress>(
          global, text, filling ? Progress::Unit::kTokens : Progress::Unit::kItems);
    }
    shown->bar->Update(done, total);
    return !Interrupted();
  };
}

// The plan for the longest test, told as the other verbs do.
Status TellPlan(const BenchOptions& options, const KvOptions& kv, bool session,
                const std::vector<BenchTest>& tests, const AttentionConfig& rule) {
  if (options.model.dummy) return OkStatus();  // there need not be any weights to count
  int64_t context = 0;
  for (const BenchTest& test : tests) context = std::max(context, test.depth + test.tokens());
  HGA_ASSIGN_OR_RETURN(const std::string directory,
                       ResolveModel(options.model.model, options.model.revision));
  HGA_ASSIGN_OR_RETURN(
      const MemoryPlan plan,
      PlanMemory(directory, rule, kv, session, context, options.model.span, options.model.threads));
  for (const std::string& line : PlanLines(plan)) (options.kv.any() ? Info : Detail)(line);
  return OkStatus();
}

// What can be said once the model's facts are known.
Status CheckAgainstModel(const BenchOptions& options, const BenchPlan& plan,
                         const ModelInfo& info) {
  for (const AttentionConfig& rule : plan.rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, info.layers));
  }
  for (const BenchTest& test : plan.tests) {
    const int64_t tokens = test.depth + test.tokens();
    if (tokens <= info.max_position || options.allow_past_limit) continue;
    return InvalidArgument(fmt::format(
        "{} behind {} tokens are {} tokens, the model was made for {}; --allow-past-limit runs it",
        test.name(), test.depth, tokens, info.max_position));
  }
  return OkStatus();
}

nlohmann::ordered_json DescribeRun(const BenchOptions& options, const Engine& engine) {
  Json head = {{"version", HGA_VERSION}, {"commit", CommitText()}, {"cpu", ProcessorName()}};
  head.update(DescribeEngine(engine));
  head["tokens"] =
      options.text.empty() ? fmt::format("random, seed {}", options.seed) : BaseName(options.text);
  head["repeats"] = options.repeats;
  return head;
}

Status RunGrid(const GlobalOptions& global, const BenchOptions& options, BenchPlan plan) {
  HGA_ASSIGN_OR_RETURN(const KvOptions kv, MakeKvOptions(options.kv, /*session=*/false));
  HGA_RETURN_IF_ERROR(TellPlan(options, kv, false, plan.tests, plan.filler));
  HGA_ASSIGN_OR_RETURN(auto engine, OpenEngine(global, options.model, kv, nullptr, nullptr));
  HGA_RETURN_IF_ERROR(CheckAgainstModel(options, plan, engine->info()));
  HGA_ASSIGN_OR_RETURN(plan.tokens, MakeTokens(*engine, options, plan.tests));
  Roof before;
  if (!options.no_roof) {
    HGA_ASSIGN_OR_RETURN(before, MeasureRoof(options.model.isa, engine->threads()));
  }
  Report report;
  HGA_ASSIGN_OR_RETURN(report.results, RunBench(*engine, plan, ShowProgress(global)));
  WarnOfDisk(*engine);
  if (!options.no_roof) {
    HGA_ASSIGN_OR_RETURN(const Roof after, MeasureRoof(options.model.isa, engine->threads()));
    report.roof = Better(before, after);
  }
  report.head = DescribeRun(options, *engine);
  report.head["roof"] = options.no_roof ? Json() : RoofToJson(report.roof);
  return WriteStdout(Render(report, options.output));
}

// Removes a session when it goes.
class TemporarySession {
 public:
  explicit TemporarySession(std::string directory)
      : directory_(std::move(directory)), name_(fmt::format("hga bench {}", getpid())) {}
  ~TemporarySession() {
    const Status status = DeleteSession(directory_, name_);
    if (status.ok() || status.code() == StatusCode::kNotFound) return;
    Warn(fmt::format("session {} stays in {}: {}", name_, directory_, status.message()));
  }
  TemporarySession(const TemporarySession&) = delete;
  TemporarySession& operator=(const TemporarySession&) = delete;
  const std::string& name() const { return name_; }

 private:
  std::string directory_;
  std::string name_;
};

// Measures the disk, and again after the work; the better figure counts, as with the roof.
Status AddLimits(const KvOptions& kv, std::optional<DiskLimits>* limits) {
  constexpr double kSeconds = 0.5;
  HGA_ASSIGN_OR_RETURN(const DiskLimits found, MeasureDisk(kv.directory, kv.io, kSeconds));
  if (!*limits || found.random_reads_per_second > (*limits)->random_reads_per_second) {
    *limits = found;
  }
  return OkStatus();
}

Status RunTierGrid(const GlobalOptions& global, const BenchOptions& options, BenchPlan plan) {
  const auto wanted = [&](const char* tier) {
    return std::find(options.tiers.begin(), options.tiers.end(), tier) != options.tiers.end();
  };
  HGA_ASSIGN_OR_RETURN(const KvOptions kv, MakeKvOptions(options.kv, /*session=*/true));
  KvOptions in_memory = kv;
  in_memory.host_bytes = 0;
  HGA_RETURN_IF_ERROR(TellPlan(options, in_memory, true, plan.tests, plan.filler));
  HGA_RETURN_IF_ERROR(TellPlan(options, kv, true, plan.tests, plan.filler));
  HGA_ASSIGN_OR_RETURN(auto memory, OpenEngine(global, options.model, in_memory, nullptr, nullptr));
  HGA_ASSIGN_OR_RETURN(auto disk, OpenEngine(global, options.model, kv, nullptr, nullptr));
  HGA_RETURN_IF_ERROR(CheckAgainstModel(options, plan, memory->info()));
  TierPlan tiers{plan.tests,   plan.rules,       plan.filler,    {},
                 plan.repeats, wanted("memory"), wanted("disk"), ""};
  HGA_ASSIGN_OR_RETURN(tiers.tokens, MakeTokens(*memory, options, plan.tests));
  TierReport report;
  if (!options.no_roof) HGA_RETURN_IF_ERROR(AddLimits(kv, &report.limits));
  {
    const TemporarySession session(kv.directory);
    tiers.session = session.name();
    HGA_ASSIGN_OR_RETURN(report.results, RunTiers(*memory, *disk, tiers, ShowProgress(global)));
  }
  if (!options.no_roof) HGA_RETURN_IF_ERROR(AddLimits(kv, &report.limits));
  report.head = DescribeRun(options, *memory);
  report.head["kv_host_bytes"] = kv.host_bytes;
  report.head["kv_io"] = disk->kv_stats().io;
  return WriteStdout(RenderTiers(report, options.output));
}

void AddGridOptions(CLI::App& verb, BenchOptions* options) {
  const std::string form = "; N, FIRST-LAST+STEP or FIRST-LAST*FACTOR, comma separated";
  const auto list = [&](const char* name, std::vector<std::string>& field,
                        const std::string& text) {
    verb.add_option(name, field, text)->delimiter(',')->capture_default_str();
  };
  list("-p,--n-prompt", options->prompts, "Prompt sizes (0: none)" + form);
  list("-n,--n-gen", options->generates, "Tokens generated one by one (0: none)" + form);
  list("--pg", options->pairs, "PROMPT+GENERATE pairs timed as one, comma separated");
  list("-d,--n-depth", options->depths, "Tokens that are there before" + form);
  list("-a,--attention", options->rules,
       "NAME[:field=value...] to measure, comma separated. Rules of attention: " + PresetList());
}

}  // namespace

void AddBenchCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* verb = app.add_subcommand(
      "bench", "Speed over a grid of sizes and depths, dense attention and rules side by side");
  AddModelOptions(*verb, &options->model, /*allow_dummy=*/true);
  verb->get_option("--model")->required(false);  // --roof needs none
  AddAttentionOptions(*verb, &options->flags, /*preset_flag=*/false);
  AddGridOptions(*verb, options.get());
  verb->add_option("-r,--repetitions", options->repeats, "Times each test is run")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_flag("--no-warmup", options->no_warm_up, "Time the first run as well");
  verb->add_option("-o,--output", options->output, "Form of the report")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str();
  verb->add_option("--text", options->text, "Text file whose tokens are fed; else random ids");
  verb->add_option("--seed", options->seed, "Draws random ids and dummy weights")
      ->capture_default_str();
  verb->add_flag("--roof", options->roof_only, "Only measure what the machine can do");
  verb->add_flag("--no-roof", options->no_roof, "Leave that out, and the disk's limits");
  verb->add_flag("--allow-past-limit", options->allow_past_limit,
                 "Allow more tokens than the model was made for");
  AddKvOptions(*verb, &options->kv);
  verb->add_option("--tier", options->tiers,
                   "Instead of the grid: decode with K/V where it says, comma separated; "
                   "--kv-host-mem is what the disk tier may keep in memory")
      ->delimiter(',')
      ->check(CLI::IsMember({"memory", "disk"}));
  verb->callback([options, &global, exit_code] {
    Status status;
    if (options->roof_only) {
      status = RunRoof(*options);
    } else {
      auto plan = MakePlan(*options);
      if (!plan.ok()) {
        *exit_code = FailUsage(plan.status());
        return;
      }
      status = options->tiers.empty() ? RunGrid(global, *options, *std::move(plan))
                                      : RunTierGrid(global, *options, *std::move(plan));
    }
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
}

}  // namespace hga::cli
