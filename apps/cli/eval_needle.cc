// SPDX-License-Identifier: Apache-2.0
// `hga eval needle`: facts hidden in long texts, asked for at the end; what each rule still finds.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <set>

#include "eval_common.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using Json = nlohmann::ordered_json;

struct NeedleOptions {
  ModelOptions model;
  AttentionOptions flags;
  std::vector<std::string> rules = {"dense", "default"};
  std::vector<std::string> texts;
  std::vector<int64_t> ctx = {4096, 16384};           // tokens, questions and answers included
  std::vector<double> depths = {0, 25, 50, 75, 100};  // percent of the document
  int facts = 4;                                      // of each depth
  int documents = 2;                                  // that share the facts of a depth
  uint64_t seed = 1;
  std::string json;
};

constexpr int kDigits = 7;
constexpr int kAnswerTokens = kDigits + 4;  // room for a space and the end of the sentence
constexpr int kQuestionTokensMax = 64;
constexpr int64_t kFactSpacing = 192;  // tokens between facts of one depth: no shared chunk
constexpr int64_t kSnapTokens = 48;    // how far a fact may move to stand at the end of a line

constexpr std::array<const char*, 24> kAdjectives = {
    "amber",  "brass",  "copper", "crimson", "distant", "emerald", "frozen", "gentle",
    "golden", "hidden", "hollow", "ivory",   "jade",    "lunar",   "marble", "narrow",
    "olive",  "pale",   "quiet",  "rusty",   "scarlet", "silver",  "velvet", "wooden"};
constexpr std::array<const char*, 24> kNouns = {
    "anchor", "basket",  "beacon", "bridge", "candle", "castle", "compass", "falcon",
    "garden", "hammer",  "harbor", "island", "kettle", "ladder", "lantern", "meadow",
    "mirror", "orchard", "pillar", "ribbon", "saddle", "tower",  "valley",  "window"};

struct Fact {
  std::string key;     // "amber anchor"
  std::string number;  // kDigits digits
  double depth = 0;    // percent
  int64_t first = 0;   // positions of the number in its document
  int64_t last = 0;
};

struct Document {
  std::string text;  // file name
  std::vector<int32_t> tokens;
  std::vector<Fact> facts;
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

// Same numbers on every machine, unlike the library's distributions.
int64_t Draw(std::mt19937_64* random, int64_t count) {
  return static_cast<int64_t>((*random)() % static_cast<uint64_t>(count));
}

std::vector<Fact> DrawFacts(const std::vector<double>& depths, int per_depth,
                            std::mt19937_64* random) {
  std::vector<Fact> facts;
  std::set<std::string> keys;
  for (const double depth : depths) {
    for (int i = 0; i < per_depth; ++i) {
      Fact fact;
      fact.depth = depth;
      do {
        fact.key = fmt::format("{} {}", kAdjectives[Draw(random, kAdjectives.size())],
                               kNouns[Draw(random, kNouns.size())]);
      } while (!keys.insert(fact.key).second);
      fact.number = fmt::format("{}", 1000000 + Draw(random, 9000000));
      facts.push_back(std::move(fact));
    }
  }
  return facts;
}

// Builds documents out of text tokens with facts between them. Pieces are encoded apart: the
// tokens of the surrounding text stay those of the file.
class DocumentMaker {
 public:
  explicit DocumentMaker(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // `text` [any]: the whole file's tokens. `length`: tokens of the finished document.
  Result<Document> Make(const std::string& name, const std::vector<int32_t>& text, int64_t length,
                        std::vector<Fact> facts) {
    std::vector<std::array<std::vector<int32_t>, 3>> pieces;
    int64_t base = length;
    for (const Fact& fact : facts) {
      HGA_ASSIGN_OR_RETURN(auto piece, Encode(fact));
      for (const auto& part : piece) base -= static_cast<int64_t>(part.size());
      pieces.push_back(std::move(piece));
    }
    if (base < 1 || static_cast<int64_t>(text.size()) < base) {
      return InvalidArgument(
          fmt::format("{}: the text has {} tokens; a document of {} tokens with "
                      "{} facts needs {}",
                      name, text.size(), length, facts.size(), base));
    }
    std::vector<std::pair<int64_t, size_t>> places;  // where in the text, which fact
    for (size_t i = 0; i < facts.size(); ++i) {
      HGA_ASSIGN_OR_RETURN(const int64_t place, Place(text, base, facts, i));
      places.emplace_back(place, i);
    }
    std::stable_sort(places.begin(), places.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    Document document{name, {}, std::move(facts)};
    int64_t at = 0;
    for (const auto& [place, i] : places) {
      Append(text, at, place, &document.tokens);
      at = place;
      const auto& [before, number, after] = pieces[i];
      document.tokens.insert(document.tokens.end(), before.begin(), before.end());
      document.facts[i].first = static_cast<int64_t>(document.tokens.size());
      document.tokens.insert(document.tokens.end(), number.begin(), number.end());
      document.facts[i].last = static_cast<int64_t>(document.tokens.size()) - 1;
      document.tokens.insert(document.tokens.end(), after.begin(), after.end());
    }
    Append(text, at, base, &document.tokens);
    return document;
  }

 private:
  Result<std::array<std::vector<int32_t>, 3>> Encode(const Fact& fact) const {
    std::array<std::vector<int32_t>, 3> piece;
    const std::array<std::string, 3> texts = {
        fmt::format("\n\nThe secret number for the {} is", fact.key), " " + fact.number, ".\n\n"};
    for (size_t i = 0; i < texts.size(); ++i) {
      HGA_ASSIGN_OR_RETURN(piece[i], tokenizer_.Encode(texts[i], /*parse_special=*/false));
    }
    return piece;
  }

  // The fact's depth, apart from the others of the same depth, moved to the next end of a line.
  Result<int64_t> Place(const std::vector<int32_t>& text, int64_t base,
                        const std::vector<Fact>& facts, size_t which) const {
    int64_t earlier = 0;
    for (size_t i = 0; i < which; ++i) earlier += facts[i].depth == facts[which].depth ? 1 : 0;
    const double depth = facts[which].depth;
    const int64_t shift = (depth <= 50 ? earlier : -earlier) * kFactSpacing;
    const int64_t wanted =
        std::clamp<int64_t>(std::llround(depth / 100 * static_cast<double>(base)) + shift, 0, base);
    if (wanted == 0 || wanted == base) return wanted;
    const int64_t end = std::min(base, wanted + kSnapTokens);
    for (int64_t place = wanted; place < end; ++place) {
      HGA_ASSIGN_OR_RETURN(const std::string before,
                           tokenizer_.Decode(std::span(text).subspan(place - 1, 1), true));
      if (before.ends_with('\n')) return place;
    }
    return wanted;
  }

  static void Append(const std::vector<int32_t>& text, int64_t first, int64_t last,
                     std::vector<int32_t>* out) {
    out->insert(out->end(), text.begin() + first, text.begin() + last);
  }

  const Tokenizer& tokenizer_;
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

// Whether `text` is the start of the wanted answer, or all of it and no further digit.
bool Agrees(std::string_view text, std::string_view wanted) {
  const size_t both = std::min(text.size(), wanted.size());
  if (text.substr(0, both) != wanted.substr(0, both)) return false;
  return text.size() <= wanted.size() || text[wanted.size()] < '0' || text[wanted.size()] > '9';
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
    HGA_ASSIGN_OR_RETURN(
        std::vector<int32_t> question,
        engine_.tokenizer().Encode(fmt::format("\n\nWhat is the secret number for the {0}? "
                                               "The secret number for the {0} is",
                                               fact.key),
                                   /*parse_special=*/false));
    if (question.size() > kQuestionTokensMax) {
      return InvalidArgument(fmt::format("the question for \"{}\" has {} tokens, room is for {}",
                                         fact.key, question.size(), kQuestionTokensMax));
    }
    // The last token goes alone, so that a plan of its own leads to the first answer token.
    const std::span<const int32_t> all(question);
    HGA_RETURN_IF_ERROR(engine_.Feed(sequence_, all.first(all.size() - 1), LogitsWanted::kNone, {},
                                     [](int64_t, int64_t) { return !Interrupted(); }));
    Answer answer;
    int32_t token = question.back();
    const std::string wanted = " " + fact.number;
    for (int step = 0; step < kAnswerTokens && answer.text.size() <= wanted.size(); ++step) {
      HGA_RETURN_IF_ERROR(engine_.Feed(sequence_, {&token, 1}, LogitsWanted::kLast, logits_, {}));
      token = ArgMax(logits_);
      HGA_ASSIGN_OR_RETURN(const std::string piece,
                           engine_.tokenizer().Decode({&token, 1}, /*keep_special=*/true));
      answer.text += piece;
      if (answer.plan.empty() && !Agrees(answer.text, wanted)) {
        answer.plan = DescribePlan(engine_, sequence_, fact);
      }
    }
    answer.found = answer.text.size() >= wanted.size() && Agrees(answer.text, wanted);
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
      HGA_ASSIGN_OR_RETURN(const std::vector<Document> documents, MakeDocuments(ctx));
      for (const Document& document : documents) {
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
    for (const Json& miss : misses_) {
      text += fmt::format("missed: {} {} at {:g} % of {}: {} is {}, answer \"{}\"; {}\n",
                          miss["attention"].get<std::string>(), miss["ctx"].get<int64_t>(),
                          miss["depth"].get<double>(), miss["text"].get<std::string>(),
                          miss["key"].get<std::string>(), miss["number"].get<std::string>(),
                          miss["answer"].get<std::string>(), miss["plan"].get<std::string>());
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
  Result<std::vector<Document>> MakeDocuments(int64_t ctx) const {
    std::mt19937_64 random(options_.seed * 1000003 + static_cast<uint64_t>(ctx));
    const std::vector<Fact> facts = DrawFacts(options_.depths, options_.facts, &random);
    const int count = std::min(options_.documents, options_.facts);
    std::vector<Document> documents;
    for (int i = 0; i < count; ++i) {
      std::vector<Fact> share;
      for (size_t f = 0; f < facts.size(); ++f) {
        const int of_depth = static_cast<int>(f) % options_.facts;
        if (of_depth % count == i) share.push_back(facts[f]);
      }
      const size_t text = static_cast<size_t>(i) % texts_.size();
      HGA_ASSIGN_OR_RETURN(Document document,
                           DocumentMaker(engine_.tokenizer())
                               .Make(BaseName(options_.texts[text]), texts_[text],
                                     ctx - kQuestionTokensMax - kAnswerTokens, std::move(share)));
      documents.push_back(std::move(document));
    }
    return documents;
  }

  Status Examine(int64_t ctx, const Document& document, const AttentionConfig& rule, Score* score) {
    HGA_ASSIGN_OR_RETURN(auto sequence, engine_.NewSequence(rule, ctx));
    Progress progress(global_, fmt::format("{} {} {}", document.text, ShortCount(ctx), rule.name),
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
                         {"text", document.text},
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

Status CheckOptions(const NeedleOptions& options) {
  const size_t facts = options.depths.size() * static_cast<size_t>(options.facts);
  constexpr size_t kKeys = kAdjectives.size() * kNouns.size();
  if (facts > kKeys / 2) {
    return InvalidArgument(
        fmt::format("{} depths times {} facts are {} facts; at most {} have "
                    "names of their own",
                    options.depths.size(), options.facts, facts, kKeys / 2));
  }
  const std::set<double> distinct(options.depths.begin(), options.depths.end());
  if (distinct.size() != options.depths.size()) {
    return InvalidArgument("--depths names a depth twice");
  }
  return OkStatus();
}

Status RunNeedle(const GlobalOptions& global, const NeedleOptions& options) {
  HGA_RETURN_IF_ERROR(CheckOptions(options));
  HGA_ASSIGN_OR_RETURN(std::vector<AttentionConfig> rules,
                       RulesFromSpecs(options.flags, options.rules, /*dense_first=*/true));
  HGA_ASSIGN_OR_RETURN(auto engine, OpenEngine(global, options.model, nullptr, nullptr));
  for (const AttentionConfig& rule : rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, engine->info().layers));
  }
  Info(fmt::format("seed {}", options.seed));
  NeedleRun run(global, options, *engine, rules);
  HGA_RETURN_IF_ERROR(run.Run());
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
  verb->add_option("--attention,-a", options->rules,
                   "Rules to examine beside dense: NAME[:field=value...], comma separated")
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
    const Status status = RunNeedle(global, *options);
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
}

}  // namespace hga::cli
