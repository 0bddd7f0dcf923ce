// SPDX-License-Identifier: Apache-2.0
// `hga demo`: facts drawn at run time are hidden in a long document and asked for at its end; the
// answers of a rule beside the right ones, its decode speed beside dense attention over the same
// K/V.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "commands.h"
#include "common.h"
#include "eval_common.h"
#include "facts.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

struct DemoOptions {
  ModelOptions model;
  AttentionOptions attention;
  std::string text;
  int64_t ctx = 32768;  // tokens, question and answer included
  int facts = 8;
  std::optional<uint64_t> seed;
  bool compare = false;
  std::string json;
};

// What one rule answered, and how fast.
struct Outcome {
  std::string rule;
  std::vector<std::string> answers;  // [facts]
  int found = 0;
  std::vector<double> step_seconds;  // of single decoded tokens
  AttentionStats stats;              // of questions and answers
  double prefill_seconds = 0;        // 0: it did not read the document itself
};

struct Demo {
  uint64_t seed = 0;
  FactDocument document;
  Outcome routed;
  Outcome dense;
  double total_seconds = 0;
};

// Peak of this process, bytes.
int64_t PeakMemory() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

// Without the blank in front of the number and what follows it.
std::string Shown(const std::string& answer) {
  std::string shown;
  for (const char c : answer) {
    if (shown.empty() && c == ' ') continue;
    if (static_cast<int>(shown.size()) == kFactDigits) break;
    shown += c >= ' ' && c <= '~' ? c : '?';
  }
  return shown;
}

Status ReadDocument(const GlobalOptions& global, Engine& engine, const FactDocument& document,
                    Sequence& sequence, Outcome* outcome) {
  Progress progress(global, fmt::format("reading with {}", sequence.attention().name),
                    Progress::Unit::kTokens);
  const double start = Now();
  HGA_RETURN_IF_ERROR(engine.Feed(sequence, document.tokens, LogitsWanted::kNone, {},
                                  [&](int64_t done, int64_t total) {
                                    progress.Update(done, total);
                                    return !Interrupted();
                                  }));
  outcome->prefill_seconds = Now() - start;
  progress.Finish();
  return OkStatus();
}

// Feeds the question and decodes greedily; the sequence is as before afterwards.
Status Ask(Engine& engine, Sequence& sequence, const Fact& fact, Outcome* outcome) {
  const int64_t length = sequence.length();
  std::vector<float> logits(static_cast<size_t>(engine.info().vocab));
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> question,
                       EncodeQuestion(engine.tokenizer(), fact));
  HGA_RETURN_IF_ERROR(engine.Feed(sequence, question, LogitsWanted::kLast, logits,
                                  [](int64_t, int64_t) { return !Interrupted(); }));
  std::vector<int32_t> tokens = {ArgMax(logits)};
  while (tokens.size() < kFactAnswerTokens) {
    const double start = Now();
    HGA_RETURN_IF_ERROR(
        engine.Feed(sequence, {&tokens.back(), 1}, LogitsWanted::kLast, logits, {}));
    tokens.push_back(ArgMax(logits));
    outcome->step_seconds.push_back(Now() - start);
  }
  HGA_ASSIGN_OR_RETURN(std::string answer,
                       engine.tokenizer().Decode(tokens, /*keep_special=*/true));
  const std::string wanted = WantedAnswer(fact);
  if (answer.size() >= wanted.size() && AnswerAgrees(answer, wanted)) ++outcome->found;
  outcome->answers.push_back(std::move(answer));
  return sequence.Truncate(length);
}

Status AskAll(const GlobalOptions& global, Engine& engine, Sequence& sequence,
              const FactDocument& document, Outcome* outcome) {
  outcome->rule = sequence.attention().name;
  Progress progress(global, fmt::format("asking {}", outcome->rule), Progress::Unit::kItems);
  sequence.ResetStats();
  for (size_t i = 0; i < document.facts.size(); ++i) {
    HGA_RETURN_IF_ERROR(Ask(engine, sequence, document.facts[i], outcome));
    progress.Update(static_cast<int64_t>(i + 1), static_cast<int64_t>(document.facts.size()));
  }
  outcome->stats = sequence.stats();
  progress.Finish();
  return OkStatus();
}

// One fact in each equal part of the document, somewhere inside it.
std::vector<double> DrawDepths(int count, std::mt19937_64* random) {
  std::vector<double> depths;
  for (int i = 0; i < count; ++i) {
    const double within = static_cast<double>((*random)() % 1000) / 1000;
    depths.push_back(100 * (i + within) / count);
  }
  return depths;
}

Result<FactDocument> MakeDocument(const DemoOptions& options, const Engine& engine, uint64_t seed) {
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> text, ReadAllTokens(engine, options.text));
  std::mt19937_64 random(seed);
  const std::vector<double> depths = DrawDepths(options.facts, &random);
  return HideFacts(engine.tokenizer(), BaseName(options.text), text,
                   options.ctx - kFactQuestionTokensMax - kFactAnswerTokens,
                   DrawFacts(depths, &random));
}

Status Perform(const GlobalOptions& global, const DemoOptions& options, Engine& engine,
               Demo* demo) {
  HGA_ASSIGN_OR_RETURN(const AttentionConfig rule, MakeAttention(options.attention));
  HGA_RETURN_IF_ERROR(Validate(rule, engine.info().layers));
  HGA_ASSIGN_OR_RETURN(const AttentionConfig dense, PresetConfig("dense"));
  HGA_ASSIGN_OR_RETURN(demo->document, MakeDocument(options, engine, demo->seed));
  {
    HGA_ASSIGN_OR_RETURN(auto sequence, engine.NewSequence(rule, options.ctx));
    HGA_RETURN_IF_ERROR(ReadDocument(global, engine, demo->document, *sequence, &demo->routed));
    HGA_RETURN_IF_ERROR(AskAll(global, engine, *sequence, demo->document, &demo->routed));
    HGA_RETURN_IF_ERROR(sequence->SetAttention(dense));
    HGA_RETURN_IF_ERROR(AskAll(global, engine, *sequence, demo->document, &demo->dense));
  }
  if (!options.compare) return OkStatus();
  HGA_ASSIGN_OR_RETURN(auto sequence, engine.NewSequence(dense, options.ctx));
  return ReadDocument(global, engine, demo->document, *sequence, &demo->dense);
}

std::string AnswersText(const Demo& demo) {
  Table table;
  table.AddColumn("secret number for the", Table::Align::kLeft);
  table.AddColumn("at");
  table.AddColumn("right answer");
  table.AddColumn(demo.routed.rule);
  table.AddColumn(demo.dense.rule);
  const std::vector<Fact>& facts = demo.document.facts;
  for (size_t i = 0; i < facts.size(); ++i) {
    table.AddRow({facts[i].key, fmt::format("token {}", FormatCount(facts[i].first)),
                  facts[i].number, Shown(demo.routed.answers[i]), Shown(demo.dense.answers[i])});
  }
  table.AddRow({"found", "", fmt::format("of {}", facts.size()), std::to_string(demo.routed.found),
                std::to_string(demo.dense.found)});
  return table.Text();
}

std::string Rate(double count, double seconds) {
  return seconds > 0 ? fmt::format("{:.1f}", count / seconds) : "-";
}

std::string Ratio(double slow, double fast) {
  return slow > 0 && fast > 0 ? fmt::format("{:.2f}x", slow / fast) : "-";
}

void AddShareRow(const std::string& name, const Demo& demo, double AttentionStats::Sums::*part,
                 AttentionStats::Sums AttentionStats::*sums, Table* table) {
  std::vector<std::string> row = {name};
  for (const Outcome* outcome : {&demo.routed, &demo.dense}) {
    const AttentionStats::Sums& of = outcome->stats.*sums;
    row.push_back(of.context > 0 ? fmt::format("{:.2f} %", 100 * Share(of.*part, of.context))
                                 : "-");
  }
  table->AddRow(std::move(row));
}

std::string FiguresText(const Demo& demo) {
  using Stats = AttentionStats;
  const auto tokens = static_cast<double>(demo.document.tokens.size());
  const double routed_step = Median(demo.routed.step_seconds);
  const double dense_step = Median(demo.dense.step_seconds);
  Table table;
  table.AddColumn("figure", Table::Align::kLeft);
  table.AddColumn(demo.routed.rule);
  table.AddColumn(demo.dense.rule);
  table.AddColumn("gain");
  table.AddRow({"decode over the same K/V, tokens/s (median)", Rate(1, routed_step),
                Rate(1, dense_step), Ratio(dense_step, routed_step)});
  AddShareRow("visible share of the context, all layers", demo, &Stats::Sums::visible, &Stats::all,
              &table);
  AddShareRow("visible share, without dense layers", demo, &Stats::Sums::visible, &Stats::routed,
              &table);
  AddShareRow("fetched share of the context, all layers", demo, &Stats::Sums::fetched, &Stats::all,
              &table);
  AddShareRow("fetched share, without dense layers", demo, &Stats::Sums::fetched, &Stats::routed,
              &table);
  table.AddRow({"reading the document, tokens/s", Rate(tokens, demo.routed.prefill_seconds),
                Rate(tokens, demo.dense.prefill_seconds),
                Ratio(demo.dense.prefill_seconds, demo.routed.prefill_seconds)});
  table.AddRow({"reading the document, seconds", fmt::format("{:.1f}", demo.routed.prefill_seconds),
                demo.dense.prefill_seconds > 0 ? fmt::format("{:.1f}", demo.dense.prefill_seconds)
                                               : "--compare"});
  return table.Text();
}

std::string ReportText(const Demo& demo, const Engine& engine) {
  return fmt::format(
      "document  {} tokens of {}, {} facts hidden in it\n"
      "seed      {} (--seed {} repeats this run)\n"
      "engine    {} threads, {}\n\n{}\n{}\n"
      "peak memory {}, {} in all\n",
      FormatCount(static_cast<int64_t>(demo.document.tokens.size())), demo.document.name,
      demo.document.facts.size(), demo.seed, demo.seed, engine.threads(), engine.isa(),
      AnswersText(demo), FiguresText(demo), FormatBytes(static_cast<double>(PeakMemory())),
      FormatSeconds(demo.total_seconds));
}

Json SumsJson(const AttentionStats::Sums& sums) {
  return {{"visible", Share(sums.visible, sums.context)},
          {"fetched", Share(sums.fetched, sums.context)}};
}

Json OutcomeJson(const Outcome& outcome) {
  const double step = Median(outcome.step_seconds);
  Json json = {{"attention", outcome.rule},
               {"found", outcome.found},
               {"answers", outcome.answers},
               {"decode_tokens_per_second", step > 0 ? 1 / step : 0},
               {"all_layers", SumsJson(outcome.stats.all)},
               {"without_dense_layers", SumsJson(outcome.stats.routed)}};
  if (outcome.prefill_seconds > 0) json["prefill_seconds"] = outcome.prefill_seconds;
  return json;
}

Json ReportJson(const Demo& demo, const Engine& engine) {
  Json json = DescribeEngine(engine);
  json["seed"] = demo.seed;
  json["text"] = demo.document.name;
  json["tokens"] = demo.document.tokens.size();
  json["facts"] = Json::array();
  for (const Fact& fact : demo.document.facts) {
    json["facts"].push_back({{"key", fact.key}, {"number", fact.number}, {"first", fact.first}});
  }
  json["rows"] = {OutcomeJson(demo.routed), OutcomeJson(demo.dense)};
  json["peak_memory_bytes"] = PeakMemory();
  json["seconds"] = demo.total_seconds;
  return json;
}

Status RunDemo(const GlobalOptions& global, const DemoOptions& options) {
  const double start = Now();
  Demo demo;
  // Short enough to be typed again.
  demo.seed = options.seed.value_or(std::random_device()() % 1000000);
  HGA_ASSIGN_OR_RETURN(auto engine,
                       OpenEngine(global, options.model, KvOptions(), nullptr, nullptr));
  Info(fmt::format("seed {}", demo.seed));
  HGA_RETURN_IF_ERROR(Perform(global, options, *engine, &demo));
  demo.total_seconds = Now() - start;
  if (options.json != "-") HGA_RETURN_IF_ERROR(WriteStdout(ReportText(demo, *engine)));
  if (options.json.empty()) return OkStatus();
  return WriteJson(options.json, ReportJson(demo, *engine));
}

}  // namespace

void AddDemoCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* verb = app.add_subcommand(
      "demo", "Facts hidden in a long text, asked for at its end, with the figures that matter");
  AddModelOptions(*verb, &options->model);
  AddAttentionOptions(*verb, &options->attention);
  verb->add_option("--text", options->text, "Text file (UTF-8) to hide facts in")->required();
  verb->add_option("--ctx,-c", options->ctx, "Tokens of document, question and answer")
      ->check(CLI::Range(int64_t{512}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_option("--facts", options->facts, "How many facts")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Draws facts and places; default: a new one each run");
  verb->add_flag("--compare", options->compare, "Also read the document with dense attention");
  verb->add_option("--json", options->json, "Write the figures to this file; - is stdout");
  verb->callback([options, &global, exit_code] {
    const Status status = RunDemo(global, *options);
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
}

}  // namespace hga::cli
