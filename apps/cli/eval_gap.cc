// SPDX-License-Identifier: Apache-2.0
// `hga eval gap`: what each rule costs against dense attention, token by token on the same text.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <optional>

#include "eval_common.h"
#include "options_kv.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

struct GapOptions {
  ModelOptions model;
  AttentionOptions flags;
  KvFlags kv;
  std::vector<std::string> rules = {"default"};
  std::vector<std::string> texts;
  int64_t ctx = 16384;  // tokens
  std::string json;
  std::string checkpoint;
};

// Means over the positions of one range. `agreement` is the share of positions where the rule's
// most likely token is dense attention's.
struct Figures {
  double loss = 0;  // nats
  double gap = 0;   // nats above dense
  double kl = 0;    // nats, KL(dense || rule)
  double agreement = 0;
  double visible = 0;
  double fetched = 0;
  double visible_routed = 0;  // the last two without dense layers
  double fetched_routed = 0;
};

struct FigureName {
  const char* name;
  double Figures::*field;
};
constexpr FigureName kFigureNames[] = {{"loss", &Figures::loss},
                                       {"gap", &Figures::gap},
                                       {"kl", &Figures::kl},
                                       {"top1", &Figures::agreement},
                                       {"visible", &Figures::visible},
                                       {"fetched", &Figures::fetched},
                                       {"visible_routed", &Figures::visible_routed},
                                       {"fetched_routed", &Figures::fetched_routed}};

using RuleFigures = std::vector<Figures>;      // [ranges]
using TextFigures = std::vector<RuleFigures>;  // [rules]

// One text through every rule, span by span, so that only one span of logits per rule is held.
class GapRun {
 public:
  // All references must outlive the run; the first rule is dense.
  GapRun(Engine& engine, const std::vector<AttentionConfig>& rules,
         const std::vector<PositionRange>& ranges)
      : engine_(engine), rules_(rules), ranges_(ranges) {}

  // tokens [N]: the loss of token t+1 is counted at position t, so ranges end at N-1.
  Result<TextFigures> Measure(const std::vector<int32_t>& tokens, Progress* progress) {
    HGA_RETURN_IF_ERROR(Start(tokens));
    for (size_t range = 0; range < ranges_.size(); ++range) {
      for (int64_t at = ranges_[range].begin; at < ranges_[range].end;) {
        const int64_t rows = std::min<int64_t>(engine_.span(), ranges_[range].end - at);
        HGA_RETURN_IF_ERROR(Span(range, at, rows));
        at += rows;
        progress->Update(at, ranges_.back().end);
        if (Interrupted()) return Cancelled("interrupted");
      }
      CloseRange(range);
    }
    return std::move(figures_);
  }

 private:
  Status Start(const std::vector<int32_t>& tokens) {
    tokens_ = &tokens;
    vocab_ = engine_.info().vocab;
    figures_.assign(rules_.size(), RuleFigures(ranges_.size()));
    sequences_.clear();
    logits_.resize(rules_.size());
    const int64_t rows = std::min<int64_t>(engine_.span(), ranges_.back().end);
    for (size_t i = 0; i < rules_.size(); ++i) {
      HGA_ASSIGN_OR_RETURN(auto sequence, engine_.NewSequence(rules_[i], ranges_.back().end));
      sequences_.push_back(std::move(sequence));
      logits_[i].resize(static_cast<size_t>(rows * vocab_));
    }
    return OkStatus();
  }

  Status Span(size_t range, int64_t first, int64_t rows) {
    for (size_t i = 0; i < rules_.size(); ++i) {
      BatchItem item;
      item.sequence = sequences_[i].get();
      item.tokens =
          std::span(*tokens_).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
      item.wanted = LogitsWanted::kAll;
      item.logits = std::span(logits_[i]).first(static_cast<size_t>(rows * vocab_));
      HGA_RETURN_IF_ERROR(engine_.Forward({&item, 1}));
    }
    row_figures_.assign(static_cast<size_t>(rows) * rules_.size(), Figures());
    ParallelRows(rows, engine_.threads(), [&](int64_t begin, int64_t end) {
      std::vector<double> dense(static_cast<size_t>(vocab_));
      for (int64_t row = begin; row < end; ++row) CompareRow(first, row, &dense);
    });
    for (int64_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < rules_.size(); ++i) {
        const Figures& from = row_figures_[static_cast<size_t>(row) * rules_.size() + i];
        Figures& to = figures_[i][range];
        to.loss += from.loss;
        to.kl += from.kl;
        to.agreement += from.agreement;
      }
    }
    return OkStatus();
  }

  std::span<const float> Row(size_t rule, int64_t row) const {
    return std::span(logits_[rule])
        .subspan(static_cast<size_t>(row * vocab_), static_cast<size_t>(vocab_));
  }

  // dense [vocab] is scratch: dense attention's probabilities of this row.
  void CompareRow(int64_t first, int64_t row, std::vector<double>* dense) {
    const auto target = static_cast<size_t>((*tokens_)[static_cast<size_t>(first + row + 1)]);
    const std::span<const float> reference = Row(0, row);
    const double reference_sum = LogSumExp(reference);
    for (size_t v = 0; v < dense->size(); ++v) {
      (*dense)[v] = std::exp(reference[v] - reference_sum);
    }
    const int32_t best = ArgMax(reference);
    for (size_t i = 0; i < rules_.size(); ++i) {
      const std::span<const float> own = Row(i, row);
      const double sum = i == 0 ? reference_sum : LogSumExp(own);
      Figures& out = row_figures_[static_cast<size_t>(row) * rules_.size() + i];
      out.loss = sum - own[target];
      out.agreement = ArgMax(own) == best ? 1 : 0;
      if (i == 0) continue;
      const double shift = sum - reference_sum;
      for (size_t v = 0; v < dense->size(); ++v) {
        out.kl += (*dense)[v] * (static_cast<double>(reference[v]) - own[v] + shift);
      }
    }
  }

  // Turns sums into means and starts the shares of the next range.
  void CloseRange(size_t range) {
    const auto count = static_cast<double>(ranges_[range].end - ranges_[range].begin);
    for (size_t i = 0; i < rules_.size(); ++i) {
      Figures& out = figures_[i][range];
      out.loss /= count;
      out.kl /= count;
      out.agreement /= count;
      out.gap = out.loss - figures_[0][range].loss;
      const AttentionStats& stats = sequences_[i]->stats();
      const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 1.0; };
      out.visible = share(stats.all.visible, stats.all.context);
      out.fetched = share(stats.all.fetched, stats.all.context);
      out.visible_routed = share(stats.routed.visible, stats.routed.context);
      out.fetched_routed = share(stats.routed.fetched, stats.routed.context);
      sequences_[i]->ResetStats();
    }
  }

  Engine& engine_;
  const std::vector<AttentionConfig>& rules_;
  const std::vector<PositionRange>& ranges_;
  const std::vector<int32_t>* tokens_ = nullptr;
  int64_t vocab_ = 0;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // [rules]
  std::vector<std::vector<float>> logits_;            // [rules][rows][vocab]
  std::vector<Figures> row_figures_;                  // [rows][rules]
  TextFigures figures_;
};

// One object per rule, lists over the ranges.
Json RowsToJson(const std::vector<AttentionConfig>& rules, const TextFigures& figures) {
  Json rows = Json::array();
  for (size_t i = 0; i < rules.size(); ++i) {
    Json row = {{"attention", rules[i].name}};
    for (const auto& [name, field] : kFigureNames) {
      Json list = Json::array();
      for (const Figures& range : figures[i]) list.push_back(range.*field);
      row[name] = std::move(list);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

// The inverse, for checkpoints; nothing if `rows` is not what RowsToJson would have written.
std::optional<TextFigures> RowsFromJson(const Json& rows, size_t rules, size_t ranges) {
  if (!rows.is_array() || rows.size() != rules) return std::nullopt;
  TextFigures figures(rules, RuleFigures(ranges));
  for (size_t i = 0; i < rules; ++i) {
    for (const auto& [name, field] : kFigureNames) {
      if (!rows[i].is_object() || !rows[i].contains(name)) return std::nullopt;
      const Json& list = rows[i][name];
      if (!list.is_array() || list.size() != ranges) return std::nullopt;
      for (size_t r = 0; r < ranges; ++r) {
        if (!list[r].is_number()) return std::nullopt;
        figures[i][r].*field = list[r].get<double>();
      }
    }
  }
  return figures;
}

// FNV-1a over the token ids: tells a changed text or tokenizer from the one of a checkpoint.
std::string TokenHash(const std::vector<int32_t>& tokens) {
  uint64_t hash = 14695981039346656037u;
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 1099511628211u;
  }
  return fmt::format("{:016x}", hash);
}

// What must be equal for a text's figures to be taken from a checkpoint.
Json CheckpointKey(const Engine& engine, const std::vector<AttentionConfig>& rules,
                   const std::vector<int32_t>& tokens) {
  Json key = DescribeEngine(engine);
  key["weight_bytes"] = engine.info().weight_bytes;
  key["tokens"] = tokens.size();
  key["hash"] = TokenHash(tokens);
  for (const AttentionConfig& rule : rules) key["rules"].push_back(DescribeRule(rule));
  return key;
}

// Lines that can't be used (cut short by an interruption, other runs) are passed over.
std::optional<TextFigures> FindInCheckpoint(const std::string& path, const Json& key, size_t rules,
                                            size_t ranges) {
  std::ifstream file(path);
  std::string line;
  while (file && std::getline(file, line)) {
    const Json entry = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object() || !entry.contains("key") || !entry.contains("rows")) continue;
    if (entry["key"] != key) continue;
    if (auto figures = RowsFromJson(entry["rows"], rules, ranges)) return figures;
  }
  return std::nullopt;
}

Status AppendToCheckpoint(const std::string& path, const Json& key, const Json& rows) {
  std::ofstream file(path, std::ios::app);
  file << Json({{"key", key}, {"rows", rows}}).dump() << "\n";
  file.flush();
  return file ? OkStatus() : IoError(path + ": the checkpoint could not be written");
}

TextFigures MeanOfTexts(const std::vector<TextFigures>& texts) {
  TextFigures mean = texts.front();
  for (size_t i = 0; i < mean.size(); ++i) {
    for (size_t r = 0; r < mean[i].size(); ++r) {
      for (const auto& [name, field] : kFigureNames) {
        double sum = 0;
        for (const TextFigures& text : texts) sum += text[i][r].*field;
        mean[i][r].*field = sum / static_cast<double>(texts.size());
      }
    }
  }
  return mean;
}

std::string FormatFigure(std::string_view name, double value) {
  if (name == "gap") return SignedFigure(value, 4);
  if (name == "loss" || name == "kl") return fmt::format("{:.4f}", value);
  return fmt::format("{:.2f} %", 100 * value);
}

std::string GapTable(const std::vector<AttentionConfig>& rules,
                     const std::vector<PositionRange>& ranges, const TextFigures& figures) {
  Table table;
  table.AddColumn("attention", Table::Align::kLeft);
  table.AddColumn("figure", Table::Align::kLeft);
  for (const PositionRange& range : ranges) table.AddColumn(range.label);
  for (size_t i = 0; i < rules.size(); ++i) {
    bool named = false;
    for (const auto& [name, field] : kFigureNames) {
      // Dense attention is the measure: it has a loss and nothing to compare.
      if (i == 0 && std::string_view(name) != "loss") continue;
      std::vector<std::string> cells = {named ? "" : rules[i].name, name};
      for (const Figures& range : figures[i]) cells.push_back(FormatFigure(name, range.*field));
      table.AddRow(std::move(cells));
      named = true;
    }
  }
  return table.Text();
}

Json Report(const Engine& engine, const GapOptions& options,
            const std::vector<AttentionConfig>& rules, const std::vector<PositionRange>& ranges,
            const std::vector<TextFigures>& texts) {
  Json report = DescribeEngine(engine);
  report["ctx"] = options.ctx;
  report["ranges"] = Json::array();
  for (const PositionRange& range : ranges) report["ranges"].push_back(range.label);
  report["rules"] = Json::array();
  for (const AttentionConfig& rule : rules) report["rules"].push_back(DescribeRule(rule));
  report["rows"] = RowsToJson(rules, MeanOfTexts(texts));
  report["texts"] = Json::array();
  for (size_t i = 0; i < texts.size(); ++i) {
    report["texts"].push_back(
        {{"text", BaseName(options.texts[i])}, {"rows", RowsToJson(rules, texts[i])}});
  }
  return report;
}

Result<TextFigures> MeasureText(Engine& engine, const GlobalOptions& global,
                                const GapOptions& options, const std::string& path,
                                const std::vector<AttentionConfig>& rules,
                                const std::vector<PositionRange>& ranges) {
  HGA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, ReadTokens(engine, path, options.ctx));
  const Json key = CheckpointKey(engine, rules, tokens);
  if (!options.checkpoint.empty()) {
    if (auto found = FindInCheckpoint(options.checkpoint, key, rules.size(), ranges.size())) {
      Info(BaseName(path) + ": taken from the checkpoint");
      return *std::move(found);
    }
  }
  Progress progress(global, BaseName(path), Progress::Unit::kTokens);
  GapRun run(engine, rules, ranges);
  HGA_ASSIGN_OR_RETURN(TextFigures figures, run.Measure(tokens, &progress));
  progress.Finish();
  if (!options.checkpoint.empty()) {
    HGA_RETURN_IF_ERROR(AppendToCheckpoint(options.checkpoint, key, RowsToJson(rules, figures)));
  }
  return figures;
}

Status RunGap(const GlobalOptions& global, const GapOptions& options,
              const std::vector<AttentionConfig>& rules) {
  HGA_ASSIGN_OR_RETURN(const KvOptions kv, MakeKvOptions(options.kv, /*session=*/false));
  HGA_ASSIGN_OR_RETURN(auto engine, OpenEngine(global, options.model, kv, nullptr, nullptr));
  for (const AttentionConfig& rule : rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, engine->info().layers));
  }
  const std::vector<PositionRange> ranges = MakeRanges(options.ctx);
  std::vector<TextFigures> texts;
  for (const std::string& path : options.texts) {
    HGA_ASSIGN_OR_RETURN(TextFigures figures,
                         MeasureText(*engine, global, options, path, rules, ranges));
    if (options.texts.size() > 1) {
      Info(fmt::format("{}\n{}", BaseName(path), GapTable(rules, ranges, figures)));
    }
    texts.push_back(std::move(figures));
  }
  if (options.json != "-") {
    HGA_RETURN_IF_ERROR(WriteStdout(GapTable(rules, ranges, MeanOfTexts(texts))));
  }
  if (options.json.empty()) return OkStatus();
  return WriteJson(options.json, Report(*engine, options, rules, ranges, texts));
}

}  // namespace

void AddEvalGapCommand(CLI::App& eval, GlobalOptions& global, int* exit_code) {
  auto options = std::make_shared<GapOptions>();
  CLI::App* verb = eval.add_subcommand(
      "gap", "Loss, gap, KL divergence and agreement against dense attention, per position range");
  AddModelOptions(*verb, &options->model);
  AddAttentionOptions(*verb, &options->flags, /*preset_flag=*/false);
  AddKvOptions(*verb, &options->kv);
  verb->add_option("--attention,-a", options->rules,
                   "NAME[:field=value...] to compare with dense, comma separated. Rules of "
                   "attention: " +
                       PresetList())
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--text", options->texts, "Text files (UTF-8); figures are means over them")
      ->required();
  verb->add_option("--ctx,-c", options->ctx, "Tokens taken from the start of each text")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_option("--json", options->json,
                   "Write the figures to this file (tools/plot_gap.py draws them); - is stdout");
  verb->add_option("--checkpoint", options->checkpoint,
                   "Keep each finished text's figures here and take them up again");
  verb->callback([options, &global, exit_code] {
    const auto rules = RulesFromSpecs(options->flags, options->rules, /*dense_first=*/true);
    if (!rules.ok()) {
      *exit_code = FailUsage(rules.status());
      return;
    }
    const Status status = RunGap(global, *options, *rules);
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
}

}  // namespace hga::cli
