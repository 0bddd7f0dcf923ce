// SPDX-License-Identifier: Apache-2.0
// Fills one sequence to each depth and times every rule on it in turn.
#include "bench_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>

#include "common.h"

namespace hga::cli {
namespace {

constexpr std::string_view kAttentionStage = "attention";

void AddStages(const std::vector<Engine::StageTime>& from, std::vector<Engine::StageTime>* sums) {
  for (const Engine::StageTime& stage : from) {
    const auto same = [&](const Engine::StageTime& sum) { return sum.name == stage.name; };
    const auto sum = std::find_if(sums->begin(), sums->end(), same);
    if (sum == sums->end()) {
      sums->push_back(stage);
      continue;
    }
    sum->seconds += stage.seconds;
    sum->flops += stage.flops;
    sum->bytes += stage.bytes;
  }
}

void AddStats(const AttentionStats& from, AttentionStats* sums) {
  const auto add = [](const AttentionStats::Sums& part, AttentionStats::Sums* sum) {
    sum->context += part.context;
    sum->visible += part.visible;
    sum->fetched += part.fetched;
  };
  add(from.all, &sums->all);
  add(from.routed, &sums->routed);
  sums->queries += from.queries;
  sums->bytes_read += from.bytes_read;
}

class BenchRunner {
 public:
  BenchRunner(Engine& engine, const BenchPlan& plan, const BenchProgress& progress)
      : engine_(engine),
        plan_(plan),
        progress_(progress),
        logits_(static_cast<size_t>(engine.info().vocab)) {}

  Result<std::vector<BenchResult>> Run() {
    int64_t capacity = 1;
    for (const BenchTest& test : plan_.tests) {
      capacity = std::max(capacity, test.depth + test.tokens());
    }
    HGA_ASSIGN_OR_RETURN(sequence_, engine_.NewSequence(plan_.filler, capacity));
    std::vector<BenchTest> tests = plan_.tests;
    std::stable_sort(tests.begin(), tests.end(),
                     [](const BenchTest& a, const BenchTest& b) { return a.depth < b.depth; });
    total_ = static_cast<int64_t>(tests.size()) * plan_.repeats;
    std::vector<BenchResult> results;
    for (const BenchTest& test : tests) {
      HGA_RETURN_IF_ERROR(Fill(test.depth));
      HGA_RETURN_IF_ERROR(Measure(test, &results));
    }
    return results;
  }

 private:
  std::span<const int32_t> Tokens(int64_t first, int64_t count) const {
    return std::span(plan_.tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  }

  Status Fill(int64_t depth) {
    const int64_t held = sequence_->length();
    if (held == depth) return OkStatus();
    HGA_RETURN_IF_ERROR(sequence_->SetAttention(plan_.filler));
    const std::string text = fmt::format("filling {} tokens", depth);
    return engine_.Feed(*sequence_, Tokens(held, depth - held), LogitsWanted::kNone, {},
                        [&](int64_t done, int64_t) { return progress_(text, held + done, depth); });
  }

  // Appends one result per rule.
  Status Measure(const BenchTest& test, std::vector<BenchResult>* results) {
    const size_t first = results->size();
    for (const AttentionConfig& rule : plan_.rules) {
      BenchResult result;
      result.test = test;
      result.attention = rule.name;
      results->push_back(std::move(result));
      if (!plan_.warm_up) continue;
      BenchTest warm_up = test;
      warm_up.prompt = std::min<int64_t>(test.prompt, 2 * int64_t{engine_.span()});
      warm_up.generate = std::min<int64_t>(test.generate, 2);
      HGA_RETURN_IF_ERROR(Once(warm_up, rule, nullptr));
    }
    // Rules take turns within a repeat, so that a busy moment of the machine hits all alike.
    for (int repeat = 0; repeat < plan_.repeats; ++repeat) {
      if (!progress_("measuring", done_++, total_)) return Cancelled("interrupted");
      for (size_t rule = 0; rule < plan_.rules.size(); ++rule) {
        HGA_RETURN_IF_ERROR(Once(test, plan_.rules[rule], &(*results)[first + rule]));
      }
    }
    return OkStatus();
  }

  // One run of a test; the sequence is as before afterwards. `result` may be null.
  Status Once(const BenchTest& test, const AttentionConfig& rule, BenchResult* result) {
    HGA_RETURN_IF_ERROR(sequence_->SetAttention(rule));
    sequence_->ResetStats();
    engine_.ResetStageTimes();
    const double start = Now();
    if (test.prompt > 0) {
      HGA_RETURN_IF_ERROR(engine_.Feed(*sequence_, Tokens(test.depth, test.prompt),
                                       LogitsWanted::kLast, logits_,
                                       [](int64_t, int64_t) { return !Interrupted(); }));
    }
    for (int64_t i = 0; i < test.generate; ++i) {
      BatchItem item;
      item.sequence = sequence_.get();
      item.tokens = Tokens(test.depth + test.prompt + i, 1);
      item.wanted = LogitsWanted::kLast;
      item.logits = logits_;
      HGA_RETURN_IF_ERROR(engine_.Forward({&item, 1}));
      if (Interrupted()) return Cancelled("interrupted");
    }
    const double seconds = Now() - start;
    if (result != nullptr) {
      result->seconds.push_back(seconds);
      AddStages(engine_.stage_times(), &result->stages);
      AddStats(sequence_->stats(), &result->stats);
    }
    return sequence_->Truncate(test.depth);
  }

  Engine& engine_;
  const BenchPlan& plan_;
  const BenchProgress& progress_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<float> logits_;  // [vocab]
  int64_t done_ = 0;           // repeats
  int64_t total_ = 0;
};

std::vector<double> Speeds(const BenchResult& result) {
  std::vector<double> speeds;
  for (const double seconds : result.seconds) {
    speeds.push_back(static_cast<double>(result.test.tokens()) / seconds);
  }
  return speeds;
}

// 0 where nothing was timed.
double Rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

}  // namespace

std::string BenchTest::name() const {
  if (generate == 0) return fmt::format("pp{}", prompt);
  if (prompt == 0) return fmt::format("tg{}", generate);
  return fmt::format("pp{}+tg{}", prompt, generate);
}

double BenchResult::TotalSeconds() const {
  return std::accumulate(seconds.begin(), seconds.end(), 0.0);
}

double BenchResult::MeanSpeed() const {
  const std::vector<double> speeds = Speeds(*this);
  return std::accumulate(speeds.begin(), speeds.end(), 0.0) / static_cast<double>(speeds.size());
}

double BenchResult::SpeedDeviation() const {
  if (seconds.size() < 2) return 0;
  const double mean = MeanSpeed();
  double sum = 0;
  for (const double speed : Speeds(*this)) sum += (speed - mean) * (speed - mean);
  return std::sqrt(sum / static_cast<double>(seconds.size() - 1));
}

double BenchResult::MedianSpeed() const {
  std::vector<double> speeds = Speeds(*this);
  std::sort(speeds.begin(), speeds.end());
  const size_t middle = speeds.size() / 2;
  return speeds.size() % 2 == 1 ? speeds[middle] : (speeds[middle - 1] + speeds[middle]) / 2;
}

double BenchResult::BytesPerSecond() const {
  double bytes = 0;
  for (const Engine::StageTime& stage : stages) bytes += stage.bytes;
  return Rate(bytes, TotalSeconds());
}

double BenchResult::FlopsPerSecond() const {
  double flops = 0;
  for (const Engine::StageTime& stage : stages) flops += stage.flops;
  return Rate(flops, TotalSeconds());
}

double BenchResult::AttentionBytesPerSecond() const {
  for (const Engine::StageTime& stage : stages) {
    if (stage.name == kAttentionStage) return Rate(stage.bytes, stage.seconds);
  }
  return 0;
}

double BenchResult::AttentionFlopsPerSecond() const {
  for (const Engine::StageTime& stage : stages) {
    if (stage.name == kAttentionStage) return Rate(stage.flops, stage.seconds);
  }
  return 0;
}

Result<std::vector<BenchResult>> RunBench(Engine& engine, const BenchPlan& plan,
                                          const BenchProgress& progress) {
  return BenchRunner(engine, plan, progress).Run();
}

}  // namespace hga::cli
