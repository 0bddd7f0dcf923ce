// SPDX-License-Identifier: Apache-2.0
// `hga eval needle`: facts hidden in long texts, asked for at the end; what each rule still finds.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <set>

#include "eval_common.h"
#include "facts.h"
#include "options_kv.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

struct NeedleOptions {
  ModelOptions model;
  AttentionOptions flags;
  KvFlags kv;
  std::vector<std::string> rules = {"dense", "default"};
  std::vector<std::string> texts;
  std::vector<int64_t> ctx = {4096, 16384};           // tokens, questions and answers included
  std::vector<double> depths = {0, 25, 50, 75, 100};  // percent of the document
  int facts = 4;                                      // of each depth
  int documents = 2;                                  // that share the facts of a depth
  uint64_t seed = 1;
  std::string json;
};

struct Answer {
  std::string text;
  bool found = false;
  std::string plan;  // of the step that chose the first wrong digit
};

// Adds up answers of one (context, rule).
struct Score {
  int64_t ctx = 0;
  std::string rule;
  std::vector<int> found;  // [depths]
  std::vector<int> asked;  // [depths]
};

// Which (layer, KV head) had the fact's number before its eyes at the newest decoded token.
std::string DescribePlan(const Engine& engine, const Sequence& sequence, const Fact& fact) {
  const RoutingConfig& any = sequence.attention().routing;
  const int64_t query = sequence.length() - 1;
  const int64_t local = (query / any.chunk - any.local_chunks) * any.chunk;
  if (sequence.attention().dense) return "dense attention sees everything";
  if (fact.last < int64_t{any.sink_chunks} * any.chunk) return "in the sink window";
  if (fact.first >= local) return "in the local window";
  std::string heads;
  int open = 0;
  int routed = 0;
  for (int layer = 0; layer < engine.info().layers; ++layer) {
    if (sequence.attention().KindOf(layer) != LayerKind::kRouted) continue;
    heads += fmt::format(" L{}:", layer);
    for (int head = 0; head < engine.info().kv_heads; ++head) {
      const auto plan = sequence.LastPlan(layer, head);
      const bool hit = std::any_of(plan.begin(), plan.end(), [&](const auto& group) {
        return group.first <= fact.last && fact.first < group.first + group.tokens;
      });
      heads += hit ? '#' : '.';
      open += hit ? 1 : 0;
      ++routed;
    }
  }
  return fmt::format("opened by {} of {} (layer, KV head):{}", open, routed, heads);
}

// Asks questions at the end of a document that has been fed once.
class Examiner {
 public:
  Examiner(Engine& engine, Sequence& sequence)
      : engine_(engine),
        sequence_(sequence),
        document_length_(sequence.length()),
        logits_(static_cast<size_t>(engine.info().vocab)) {}

  // Greedy answer; the sequence is as before afterwards.
  Result<Answer> Ask(const Fact& fact) {
    HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> question,
                         EncodeQuestion(engine_.tokenizer(), fact));
    // The last token goes alone, so that a plan of its own leads to the first answer token.
    const std::span<const int32_t> all(question);
    HGA_RETURN_IF_ERROR(engine_.Feed(sequence_, all.first(all.size() - 1), LogitsWanted::kNone, {},
                                     [](int64_t, int64_t) { return !Interrupted(); }));
    Answer answer;
    int32_t token = question.back();
    const std::string wanted = WantedAnswer(fact);
    for (int step = 0; step < kFactAnswerTokens && answer.text.size() <= wanted.size(); ++step) {
      HGA_RETURN_IF_ERROR(engine_.Feed(sequence_, {&token, 1}, LogitsWanted::kLast, logits_, {}));
      token = ArgMax(logits_);
      HGA_ASSIGN_OR_RETURN(const std::string piece,
                           engine_.tokenizer().Decode({&token, 1}, /*keep_special=*/true));
      answer.text += piece;
      if (answer.plan.empty() && !AnswerAgrees(answer.text, wanted)) {
        answer.plan = DescribePlan(engine_, sequence_, fact);
      }
    }
    answer.found = answer.text.size() >= wanted.size() && AnswerAgrees(answer.text, wanted);
    HGA_RETURN_IF_ERROR(sequence_.Truncate(document_length_));
    return answer;
  }

 private:
  Engine& engine_;
  Sequence& sequence_;
  int64_t document_length_;
  std::vector<float> logits_;  // [vocab]
};

// All documents of all lengths through all rules.
class NeedleRun {
 public:
  NeedleRun(const GlobalOptions& global, const NeedleOptions& options, Engine& engine,
            const std::vector<AttentionConfig>& rules)
      : global_(global), options_(options), engine_(engine), rules_(rules) {}

  Status Run() {
    for (const std::string& path : options_.texts) {
      HGA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, ReadAllTokens(engine_, path));
      texts_.push_back(std::move(tokens));
    }
    for (const int64_t ctx : options_.ctx) {
      const size_t first = scores_.size();
      for (const AttentionConfig& rule : rules_) {
        const std::vector<int> none(options_.depths.size(), 0);
        scores_.push_back({ctx, rule.name, none, none});
      }
      HGA_ASSIGN_OR_RETURN(const std::vector<FactDocument> documents, MakeDocuments(ctx));
      for (const FactDocument& document : documents) {
        for (size_t rule = 0; rule < rules_.size(); ++rule) {
          HGA_RETURN_IF_ERROR(Examine(ctx, document, rules_[rule], &scores_[first + rule]));
        }
      }
    }
    return OkStatus();
  }

  std::string Text() const {
    Table table;
    table.AddColumn("ctx");
    table.AddColumn("attention", Table::Align::kLeft);
    for (const double depth : options_.depths) table.AddColumn(fmt::format("{:g} %", depth));
    table.AddColumn("found");
    for (const Score& score : scores_) {
      std::vector<std::string> cells = {ShortCount(score.ctx), score.rule};
      for (size_t d = 0; d < score.found.size(); ++d) {
        cells.push_back(fmt::format("{}/{}", score.found[d], score.asked[d]));
      }
      cells.push_back(fmt::format("{}/{}", Sum(score.found), Sum(score.asked)));
      table.AddRow(std::move(cells));
    }
    std::string text = table.Text();
    // As JSON, so that a line break stays on its line.
    const auto quoted = [](const Json& value) {
      return value.dump(-1, ' ', true, Json::error_handler_t::replace);
    };
    for (const Json& miss : misses_) {
      text += fmt::format("missed: {} {} at {:g} % of {}: {} is {}, answer {}; {}\n",
                          miss["attention"].get<std::string>(), miss["ctx"].get<int64_t>(),
                          miss["depth"].get<double>(), miss["text"].get<std::string>(),
                          miss["key"].get<std::string>(), miss["number"].get<std::string>(),
                          quoted(miss["answer"]), miss["plan"].get<std::string>());
    }
    return text;
  }

  Json Report() const {
    Json json = DescribeEngine(engine_);
    json["seed"] = options_.seed;
    json["depths"] = options_.depths;
    json["rows"] = Json::array();
    for (const Score& score : scores_) {
      json["rows"].push_back({{"ctx", score.ctx},
                              {"attention", score.rule},
                              {"found", Sum(score.found)},
                              {"asked", Sum(score.asked)},
                              {"found_by_depth", score.found},
                              {"asked_by_depth", score.asked}});
    }
    json["misses"] = misses_;
    return json;
  }

 private:
  static int Sum(const std::vector<int>& counts) {
    int sum = 0;
    for (const int count : counts) sum += count;
    return sum;
  }

  // Every length has facts of its own; those of a depth are dealt out over the documents.
  Result<std::vector<FactDocument>> MakeDocuments(int64_t ctx) const {
    std::mt19937_64 random(options_.seed * 1000003 + static_cast<uint64_t>(ctx));
    std::vector<double> depths;
    for (const double depth : options_.depths) {
      depths.insert(depths.end(), static_cast<size_t>(options_.facts), depth);
    }
    const std::vector<Fact> facts = DrawFacts(depths, &random);
    const int count = std::min(options_.documents, options_.facts);
    std::vector<FactDocument> documents;
    for (int i = 0; i < count; ++i) {
      std::vector<Fact> share;
      for (size_t f = 0; f < facts.size(); ++f) {
        const int of_depth = static_cast<int>(f) % options_.facts;
        if (of_depth % count == i) share.push_back(facts[f]);
      }
      const size_t text = static_cast<size_t>(i) % texts_.size();
      HGA_ASSIGN_OR_RETURN(
          FactDocument document,
          HideFacts(engine_.tokenizer(), BaseName(options_.texts[text]), texts_[text],
                    ctx - kFactQuestionTokensMax - kFactAnswerTokens, std::move(share)));
      documents.push_back(std::move(document));
    }
    return documents;
  }

  Status Examine(int64_t ctx, const FactDocument& document, const AttentionConfig& rule,
                 Score* score) {
    HGA_ASSIGN_OR_RETURN(auto sequence, engine_.NewSequence(rule, ctx));
    Progress progress(global_, fmt::format("{} {} {}", document.name, ShortCount(ctx), rule.name),
                      Progress::Unit::kTokens);
    HGA_RETURN_IF_ERROR(engine_.Feed(*sequence, document.tokens, LogitsWanted::kNone, {},
                                     [&](int64_t done, int64_t total) {
                                       progress.Update(done, total);
                                       return !Interrupted();
                                     }));
    progress.Finish();
    Examiner examiner(engine_, *sequence);
    for (const Fact& fact : document.facts) {
      HGA_ASSIGN_OR_RETURN(const Answer answer, examiner.Ask(fact));
      const auto depth = std::find(options_.depths.begin(), options_.depths.end(), fact.depth);
      const auto column = static_cast<size_t>(depth - options_.depths.begin());
      score->asked[column] += 1;
      score->found[column] += answer.found ? 1 : 0;
      if (answer.found) continue;
      misses_.push_back({{"attention", rule.name},
                         {"ctx", ctx},
                         {"text", document.name},
                         {"depth", fact.depth},
                         {"first", fact.first},
                         {"last", fact.last},
                         {"key", fact.key},
                         {"number", fact.number},
                         {"answer", answer.text},
                         {"plan", answer.plan}});
    }
    return OkStatus();
  }

  const GlobalOptions& global_;
  const NeedleOptions& options_;
  Engine& engine_;
  const std::vector<AttentionConfig>& rules_;
  std::vector<std::vector<int32_t>> texts_;  // [texts] tokens
  std::vector<Score> scores_;
  std::vector<Json> misses_;
};

// The rules, and what else the command line alone can say about itself.
Result<std::vector<AttentionConfig>> Check(const NeedleOptions& options) {
  const size_t facts = options.depths.size() * static_cast<size_t>(options.facts);
  if (facts > kFactKeysMax) {
    return InvalidArgument(
        fmt::format("{} depths times {} facts are {} facts; at most {} have "
                    "names of their own",
                    options.depths.size(), options.facts, facts, kFactKeysMax));
  }
  const std::set<double> distinct(options.depths.begin(), options.depths.end());
  if (distinct.size() != options.depths.size()) {
    return InvalidArgument("--depths names a depth twice");
  }
  return RulesFromSpecs(options.flags, options.rules, /*dense_first=*/true);
}

Status RunNeedle(const GlobalOptions& global, const NeedleOptions& options,
                 const std::vector<AttentionConfig>& rules) {
  HGA_ASSIGN_OR_RETURN(const KvOptions kv, MakeKvOptions(options.kv, /*session=*/false));
  HGA_ASSIGN_OR_RETURN(auto engine, OpenEngine(global, options.model, kv, nullptr, nullptr));
  for (const AttentionConfig& rule : rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, engine->info().layers));
  }
  Info(fmt::format("seed {}", options.seed));
  NeedleRun run(global, options, *engine, rules);
  HGA_RETURN_IF_ERROR(run.Run());
  WarnOfDisk(*engine);
  if (options.json != "-") HGA_RETURN_IF_ERROR(WriteStdout(run.Text()));
  if (options.json.empty()) return OkStatus();
  return WriteJson(options.json, run.Report());
}

}  // namespace

void AddEvalNeedleCommand(CLI::App& eval, GlobalOptions& global, int* exit_code) {
  auto options = std::make_shared<NeedleOptions>();
  CLI::App* verb = eval.add_subcommand(
      "needle", "Facts hidden in long texts, asked for at the end: exact answers per rule");
  AddModelOptions(*verb, &options->model);
  AddAttentionOptions(*verb, &options->flags, /*preset_flag=*/false);
  AddKvOptions(*verb, &options->kv);
  verb->add_option("--attention,-a", options->rules,
                   "NAME[:field=value...] to examine beside dense, comma separated. Rules of "
                   "attention: " +
                       PresetList())
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--text", options->texts, "Text files (UTF-8) to hide facts in")->required();
  verb->add_option("--ctx,-c", options->ctx, "Context lengths in tokens, comma separated")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{512}, int64_t{1} << 24))
      ->capture_default_str();
  verb->add_option("--depths", options->depths, "Depths in percent, comma separated")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  verb->add_option("--facts", options->facts, "Facts of each depth")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_option("--documents", options->documents,
                   "Documents of each length, which share the facts of every depth")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Draws names and numbers")->capture_default_str();
  verb->add_option("--json", options->json, "Write the figures to this file; - is stdout");
  verb->callback([options, &global, exit_code] {
    const auto rules = Check(*options);
    if (!rules.ok()) {
      *exit_code = FailUsage(rules.status());
      return;
    }
    const Status status = RunNeedle(global, *options, *rules);
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
}

}  // namespace hga::cli
