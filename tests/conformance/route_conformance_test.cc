// SPDX-License-Identifier: Apache-2.0
// Scores, plans and tails of every instruction set against the reference, under every rule.
#include <set>

#include "tests/conformance/attention_fixture.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 81;

struct Case {
  HeadShape shape;
  int64_t first_position;
  int queries;
};

// Around the first candidate chunk of the default windows (position 704), the edge of a chunk, and
// past the segments of the scan.
const Case kCases[] = {
    {{8, 2, 128}, 700, 8},  {{4, 4, 64}, 1020, 7}, {{16, 2, 64}, 2047, 3},
    {{5, 1, 128}, 4093, 5}, {{4, 2, 64}, 8999, 1},
};

std::string LabelOf(const Case& c, const std::string& rule) {
  return rule + ", " + std::to_string(c.shape.heads) + "/" + std::to_string(c.shape.kv_heads) +
         "/" + std::to_string(c.shape.head_dim) + " at " + std::to_string(c.first_position) + "+" +
         std::to_string(c.queries);
}

// A case under a rule, with the reference's own plan, tail, scores and margins.
struct Problem {
  Problem(const Case& c, const RoutingConfig& rule, Ops& reference, uint64_t seed)
      : c(c),
        rule(rule),
        history(c.shape, c.first_position + c.queries, seed),
        q(history.Queries(c.first_position, c.queries, seed + 1)),
        summaries(reference, history, rule) {
    const auto range =
        spec::CandidateRange(history.tokens() - 1, rule.sink_chunks, rule.local_chunks);
    groups = range.size() / rule.group;
    const double score_error = ScoreError(history, q);
    // A share is a mass over a sum of masses; `groups` of them, of up to 64 exponentials each.
    mass_error = MassError(score_error, static_cast<double>(groups) + 64);
    share_error = 2 * mass_error;
  }
  Guarded<float> ScoresOf(Ops& ops, int part) {
    const int selectors = spec::Selectors(rule, c.shape.heads, c.shape.kv_heads);
    Guarded<float> scores(int64_t{c.queries} * selectors * groups);
    for (int first = 0; first < c.queries; first += part) {
      ScoreParams p;
      p.shape = c.shape;
      p.rule = &rule;
      p.q = q.data() + int64_t{first} * c.shape.heads * c.shape.head_dim;
      p.first_position = c.first_position + first;
      p.queries = std::min(part, c.queries - first);
      p.summaries = summaries.view();
      p.scores = scores.data() + int64_t{first} * selectors * groups;
      p.groups = groups;
      ops.Score(p);
    }
    return scores;
  }
  Routed RouteWith(Ops& ops, int part) {
    Routed routed(c.shape, rule, c.queries);
    for (int first = 0; first < c.queries; first += part) {
      ops.Route(RouteOf(c.shape, rule, summaries, q, c.first_position, routed, first,
                        std::min(part, c.queries - first)));
    }
    return routed;
  }
  int64_t Candidates(int query) const {
    return spec::CandidateRange(c.first_position + query, rule.sink_chunks, rule.local_chunks)
               .size() /
           rule.group;
  }
  // Whether a choice is clearer than rounding.
  bool Clear(double last, double refused) const {
    if (std::isinf(last) || std::isinf(refused)) return true;
    return last - refused > share_error * (last + refused) + kTiny;
  }
  OpsLimits Limits() const { return AttentionLimits(c.shape, c.queries, history.tokens()); }

  Case c;
  RoutingConfig rule;
  History history;
  std::vector<float> q;
  Summaries summaries;
  int64_t groups = 0;
  double mass_error = 0, share_error = 0;
};

template <typename Body>
void ForEveryProblem(Ops& reference, uint64_t seed, Body body) {
  for (const Case& c : kCases) {
    for (const NamedRule& named : AllRules()) {
      if (!spec::NeedsSummaries(named.rule)) continue;
      Problem problem(c, named.rule, reference, seed);
      body(problem, LabelOf(c, named.name));
    }
  }
}

using RouteConformance = ConformanceTest;

// --- scores -----------------------------------------------------------------------------------

TEST_P(RouteConformance, ScoresEqualReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  int unclear = 0, rows = 0;
  double worst = 0;
  ForEveryProblem(*reference_, kSeed, [&](Problem& problem, const std::string& label) {
    if (problem.groups == 0) return;
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> got = problem.ScoresOf(*ops, problem.c.queries);
    const Guarded<float> want = problem.ScoresOf(*reference_, problem.c.queries);
    ASSERT_TRUE(got.Intact()) << label;
    Routed unused(problem.c.shape, problem.rule, problem.c.queries);
    const auto margins = PlanMargins(RouteOf(problem.c.shape, problem.rule, problem.summaries,
                                             problem.q, problem.c.first_position, unused));
    for (size_t row = 0; row < margins.size(); ++row, ++rows) {
      if (!problem.Clear(margins[row].last_kept, margins[row].first_dropped)) {
        ++unclear;
        continue;
      }
      const int64_t n = problem.Candidates(static_cast<int>(row) / unused.selectors);
      for (int64_t x = 0; x < n; ++x) {
        const int64_t i = static_cast<int64_t>(row) * problem.groups + x;
        const float a = got.data()[i], b = want.data()[i];
        ASSERT_TRUE(SameKind(a, b)) << label << " [" << row << "][" << x << "] " << a << " " << b;
        if (!std::isfinite(b)) continue;
        const double ratio = std::fabs(static_cast<double>(a) - b) /
                             (problem.share_error * std::fabs(b) + problem.c.shape.heads * kTiny);
        worst = std::max(worst, ratio);
        ASSERT_LE(ratio, 1.0) << label << " [" << row << "][" << x << "] got " << a << " want "
                              << b;
      }
    }
  });
  std::printf("  scores: worst %.3f of its bound; %d of %d rows below the beam's margin\n", worst,
              unclear, rows);
  EXPECT_LE(unclear, rows / 20);
}

// --- first level ------------------------------------------------------------------------------

// A chunk survives for some query exactly if Score gives one of its groups a number there.
TEST_P(RouteConformance, BeamKeepsWhatScoreScores) {
  int with_beam = 0;
  ForEveryProblem(*reference_, kSeed + 5, [&](Problem& problem, const std::string& label) {
    if (problem.groups == 0 || problem.rule.chunk_beam == 0) return;
    ++with_beam;
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    for (Ops* backend : {ops.get(), reference_.get()}) {
      // The reference is slow; a few candidates show as much of it as many.
      if (backend == reference_.get() && problem.c.first_position > 1100) continue;
      const Guarded<float> scores = problem.ScoresOf(*backend, problem.c.queries);
      const int selectors =
          spec::Selectors(problem.rule, problem.c.shape.heads, problem.c.shape.kv_heads);
      const int64_t chunks = spec::CeilDiv(problem.history.tokens(), spec::kChunk);
      std::vector<uint8_t> want(static_cast<size_t>(problem.c.shape.kv_heads * chunks));
      for (int64_t row = 0; row < int64_t{problem.c.queries} * selectors; ++row) {
        const int query = static_cast<int>(row / selectors);
        const int head = static_cast<int>(row % selectors) * problem.c.shape.kv_heads / selectors;
        const auto range = spec::CandidateRange(
            problem.c.first_position + query, problem.rule.sink_chunks, problem.rule.local_chunks);
        for (int64_t x = 0; x < problem.Candidates(query); ++x) {
          if (std::isinf(scores.data()[row * problem.groups + x])) continue;
          const int64_t chunk = (range.begin + x * problem.rule.group) / spec::kChunk;
          want[static_cast<size_t>(head * chunks + chunk)] = 1;
        }
      }
      Guarded<uint8_t> kept(problem.c.shape.kv_heads * chunks);
      BeamParams p;
      p.shape = problem.c.shape;
      p.rule = &problem.rule;
      p.q = problem.q.data();
      p.first_position = problem.c.first_position;
      p.queries = problem.c.queries;
      p.summaries = problem.summaries.view();
      p.kept = kept.data();
      p.kept_stride = chunks;
      backend->Beam(p);
      ASSERT_TRUE(kept.Intact()) << label;
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(kept.data()[i], want[i])
            << label << ", " << backend->name() << ", chunk " << i % static_cast<size_t>(chunks);
      }
    }
  });
  EXPECT_GT(with_beam, 0);
}

// --- plans and tails --------------------------------------------------------------------------

struct Tally {
  int plans = 0, unclear = 0, different = 0;
  double worst_mass = 0, worst_out = 0;
};

// Equal where the reference's margin exceeds the bound; elsewhere only groups whose scores lie
// within the bound of the boundary may have changed places.
bool ComparePlan(Problem& problem, const Routed& got, const Routed& want, const PlanMargin& margin,
                 const Guarded<float>& scores, int row, const std::string& label, Tally& tally) {
  const int query = row / want.selectors, selector = row % want.selectors;
  const std::vector<int32_t> mine = got.Opened(query, selector);
  const std::vector<int32_t> theirs = want.Opened(query, selector);
  ++tally.plans;
  EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end())) << label;
  EXPECT_EQ(mine.size(), theirs.size()) << label;
  const bool beam_clear = problem.Clear(margin.last_kept, margin.first_dropped);
  const bool clear = beam_clear && problem.Clear(margin.last_opened, margin.first_shut);
  if (clear) {
    EXPECT_EQ(mine, theirs) << label << ", row " << row;
    return mine == theirs;
  }
  ++tally.unclear;
  if (mine == theirs) return true;
  ++tally.different;
  if (!beam_clear) return false;
  std::vector<int32_t> changed;
  std::set_symmetric_difference(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                                std::back_inserter(changed));
  const int64_t first = spec::CandidateRange(problem.c.first_position + query,
                                             problem.rule.sink_chunks, problem.rule.local_chunks)
                            .begin /
                        problem.rule.group;
  for (int32_t x : changed) {
    const double score = scores.data()[int64_t{row} * problem.groups + x - first];
    EXPECT_LE(std::fabs(score - margin.last_opened),
              2 * problem.share_error * (score + margin.last_opened) + kTiny)
        << label << ": group " << x << " is not at the boundary";
  }
  return false;
}

// m + log(sum), out / sum and said of one (query, head).
void CompareTail(Problem& problem, const float* got, const float* want, bool any_opened,
                 const std::string& label, Tally& tally) {
  const int d = problem.c.shape.head_dim;
  const double sum = got[TailLayout::kSum], true_sum = want[TailLayout::kSum];
  if (true_sum == 0) {
    EXPECT_EQ(sum, 0) << label << ": nothing is left in the tail";
    return;
  }
  ASSERT_GT(sum, 0) << label;
  const double mass = got[TailLayout::kMax] + std::log(sum);
  const double true_mass = want[TailLayout::kMax] + std::log(true_sum);
  const double reference_size =
      std::max(std::fabs(got[TailLayout::kMax]), std::fabs(want[TailLayout::kMax]));
  const double bound = problem.mass_error + 4 * kUnit * (1 + reference_size) + kTiny / true_sum;
  tally.worst_mass = std::max(tally.worst_mass, std::fabs(mass - true_mass) / bound);
  EXPECT_LE(std::fabs(mass - true_mass), bound) << label << ": log-mass of the tail";
  const double out_bound =
      (2 * problem.mass_error + 8 * kUnit + kTiny / true_sum) * 1.07 * problem.history.value_size();
  for (int i = 0; i < d; ++i) {
    const double mine = got[TailLayout::Out(d) + i] / sum;
    const double theirs = want[TailLayout::Out(d) + i] / true_sum;
    double error = std::fabs(mine - theirs);
    if (any_opened) {
      error = std::max(error, std::fabs(static_cast<double>(got[TailLayout::Said(d) + i]) -
                                        want[TailLayout::Said(d) + i]));
    }
    tally.worst_out = std::max(tally.worst_out, error / out_bound);
    ASSERT_LE(error, out_bound) << label << ": values of the tail [" << i << "]";
  }
}

TEST_P(RouteConformance, PlansAndTailsEqualReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Tally tally;
  ForEveryProblem(*reference_, kSeed, [&](Problem& problem, const std::string& label) {
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Routed got = problem.RouteWith(*ops, problem.c.queries);
    Routed want = problem.RouteWith(*reference_, problem.c.queries);
    ASSERT_TRUE(got.Intact()) << label;
    const auto margins = PlanMargins(RouteOf(problem.c.shape, problem.rule, problem.summaries,
                                             problem.q, problem.c.first_position, want));
    const Guarded<float> scores = problem.ScoresOf(*reference_, problem.c.queries);
    const int heads = problem.c.shape.heads, per_selector = heads / want.selectors;
    const int64_t width = TailLayout::Width(problem.c.shape.head_dim);
    for (int row = 0; row < static_cast<int>(margins.size()); ++row) {
      const bool equal = ComparePlan(problem, got, want, margins[row], scores, row, label, tally);
      if (!equal || !problem.rule.tail) continue;
      const int query = row / want.selectors, selector = row % want.selectors;
      for (int h = selector * per_selector; h < (selector + 1) * per_selector; ++h) {
        const int64_t at = (int64_t{query} * heads + h) * width;
        CompareTail(problem, got.tail.data() + at, want.tail.data() + at,
                    want.counts.data()[row] > 0, label, tally);
      }
    }
  });
  std::printf(
      "  %d plans: %d below the margin, of them %d different; tail: worst mass %.3f, "
      "values %.3f of their bounds\n",
      tally.plans, tally.unclear, tally.different, tally.worst_mass, tally.worst_out);
  EXPECT_LE(tally.unclear, tally.plans / 5) << "the cases are too close to say much";
}

// --- invariance -------------------------------------------------------------------------------

void ExpectSameRouted(const Routed& a, const Routed& b, int64_t queries, const HeadShape& shape,
                      const std::string& label) {
  const int64_t width = TailLayout::Width(shape.head_dim);
  for (int64_t query = 0; query < queries; ++query) {
    for (int selector = 0; selector < a.selectors; ++selector) {
      ASSERT_EQ(a.Opened(query, selector), b.Opened(query, selector)) << label << " " << query;
    }
    for (int64_t h = 0; a.tail.size() > 0 && h < shape.heads; ++h) {
      const float* x = a.tail.data() + (query * shape.heads + h) * width;
      const float* y = b.tail.data() + (query * shape.heads + h) * width;
      ASSERT_TRUE(SameBits(x, y, 3)) << label << ", query " << query << ", masses of head " << h;
      ASSERT_TRUE(
          SameBits(x + TailLayout::kHeader, y + TailLayout::kHeader, width - TailLayout::kHeader))
          << label << ", query " << query << ", values of head " << h;
    }
  }
}

TEST_P(RouteConformance, PlansDoNotDependOnTheSpan) {
  ForEveryProblem(*reference_, kSeed + 10, [&](Problem& problem, const std::string& label) {
    auto ops = Open(problem.Limits()), other = Open(problem.Limits(), 3);
    auto single = Open(problem.Limits(), 1);
    ASSERT_TRUE(ops && other && single);
    const int n = problem.c.queries;
    const Routed all = problem.RouteWith(*ops, n);
    for (int part : {1, 3}) {
      const Routed parts = problem.RouteWith(part == 1 ? *other : *ops, part);
      ExpectSameRouted(all, parts, n, problem.c.shape, label + " in parts");
    }
    ExpectSameRouted(all, problem.RouteWith(*single, n), n, problem.c.shape, label + " 1 thread");
    if (problem.groups == 0) return;
    const Guarded<float> scores = problem.ScoresOf(*ops, n);
    for (int part : {1, 3}) {
      const Guarded<float> parts = problem.ScoresOf(part == 1 ? *single : *other, part);
      const int selectors = all.selectors;
      for (int row = 0; row < n * selectors; ++row) {
        const int64_t at = int64_t{row} * problem.groups;
        ASSERT_TRUE(
            SameBits(scores.data() + at, parts.data() + at, problem.Candidates(row / selectors)))
            << label << ": scores of row " << row << " in parts of " << part;
      }
    }
  });
}

// The plan is what select makes of the score bits.
TEST_P(RouteConformance, RouteSelectsWhatScoreSays) {
  ForEveryProblem(*reference_, kSeed + 20, [&](Problem& problem, const std::string& label) {
    if (problem.groups == 0) return;
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Routed routed = problem.RouteWith(*ops, problem.c.queries);
    const Guarded<float> scores = problem.ScoresOf(*ops, problem.c.queries);
    for (int row = 0; row < problem.c.queries * routed.selectors; ++row) {
      const int query = row / routed.selectors;
      const int64_t n = problem.Candidates(query);
      const float* mine = scores.data() + int64_t{row} * problem.groups;
      const int64_t inside = std::count_if(mine, mine + n, [](float x) { return !std::isinf(x); });
      std::vector<int32_t> chosen(std::min<int64_t>(problem.rule.groups_budget, inside));
      reference_->Select({mine, n, static_cast<int>(chosen.size()), chosen.data()});
      const int64_t first =
          spec::CandidateRange(problem.c.first_position + query, problem.rule.sink_chunks,
                               problem.rule.local_chunks)
              .begin /
          problem.rule.group;
      for (int32_t& x : chosen) x += static_cast<int32_t>(first);
      ASSERT_EQ(routed.Opened(query, row % routed.selectors), chosen) << label << ", row " << row;
    }
  });
}

TEST_P(RouteConformance, LaterTokensDoNotMatter) {
  ForEveryProblem(*reference_, kSeed + 30, [&](Problem& problem, const std::string& label) {
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Routed before = problem.RouteWith(*ops, problem.c.queries);
    const int kept = problem.c.queries / 2;
    problem.history.Rewrite(problem.c.first_position + kept + 1, kSeed + 31);
    problem.summaries = Summaries(*reference_, problem.history, problem.rule);
    const Routed after = problem.RouteWith(*ops, problem.c.queries);
    ExpectSameRouted(before, after, kept + 1, problem.c.shape, label);
  });
}

HGA_EVERY_BACKEND(RouteConformance);

}  // namespace
}  // namespace hga::conformance
