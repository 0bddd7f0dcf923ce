// SPDX-License-Identifier: Apache-2.0
// Routed attention of every instruction set against the reference, the dense limit, causality.
#include "tests/conformance/attention_fixture.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 91;

struct Case {
  HeadShape shape;
  int64_t first_position;
  int queries;
};

const Case kCases[] = {
    {{8, 2, 128}, 698, 12}, {{4, 4, 64}, 1020, 7}, {{8, 2, 64}, 1250, 65},
    {{5, 1, 128}, 4093, 5}, {{4, 2, 64}, 8999, 1},
};

OpsLimits LimitsOf(const Case& c) {
  return AttentionLimits(c.shape, c.queries, c.first_position + c.queries);
}

// Against the reference, plans and tails come from the reference too, so that only the attention is
// judged; the other tests let the backend route, which is faster.
struct Problem {
  Problem(const Case& c, const RoutingConfig& rule, Ops& router, uint64_t seed)
      : c(c),
        rule(rule),
        history(c.shape, c.first_position + c.queries, seed),
        q(history.Queries(c.first_position, c.queries, seed + 1)),
        summaries(router, history, rule),
        routed(c.shape, rule, c.queries) {
    if (spec::NeedsSummaries(rule)) {
      router.Route(RouteOf(c.shape, rule, summaries, q, c.first_position, routed));
    } else {
      std::fill_n(routed.counts.data(), routed.counts.size(), 0);
    }
  }
  Guarded<float> RunOn(Ops& ops, int part) {
    Guarded<float> out(static_cast<int64_t>(q.size()));
    const int64_t width = int64_t{c.shape.heads} * c.shape.head_dim;
    const int64_t tail_width = int64_t{c.shape.heads} * TailLayout::Width(c.shape.head_dim);
    for (int first = 0; first < c.queries; first += part) {
      AttendRoutedParams p;
      p.shape = c.shape;
      p.q = q.data() + first * width;
      p.first_position = c.first_position + first;
      p.queries = std::min(part, c.queries - first);
      p.kv = history.view();
      p.out = out.data() + first * width;
      p.rule = &rule;
      p.plan = routed.plan(first);
      p.tail = rule.tail ? routed.tail.data() + first * tail_width : nullptr;
      ops.AttendRouted(p);
    }
    return out;
  }
  // With e the relative error of a mass: an exact softmax and the merge of windows and tail carry 2
  // e (see the dense test). The value correction adds 2 e for v_exact; its weight f = n / (n +
  // trust) moves by f (1 - f) 4 e <= e, times |v_exact - v_said| <= 2 |v|: another 2 e.
  double Bound() const {
    const auto tokens = static_cast<double>(history.tokens());
    const double error = MassError(ScoreError(history, q), tokens) + 8 * kUnit;
    return (rule.tail ? 6 : 2) * error * 1.07 * history.value_size();
  }

  Case c;
  RoutingConfig rule;
  History history;
  std::vector<float> q;
  Summaries summaries;
  Routed routed;
};

std::string LabelOf(const Case& c, const std::string& rule) {
  return rule + ", " + std::to_string(c.shape.heads) + "/" + std::to_string(c.shape.kv_heads) +
         "/" + std::to_string(c.shape.head_dim) + " at " + std::to_string(c.first_position) + "+" +
         std::to_string(c.queries);
}

template <typename Body>
void ForEveryRule(Body body) {
  for (const Case& c : kCases) {
    for (const NamedRule& named : AllRules()) body(c, named.rule, LabelOf(c, named.name));
  }
}

using AttendRoutedConformance = ConformanceTest;

TEST_P(AttendRoutedConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  ForEveryRule([&](const Case& c, const RoutingConfig& rule, const std::string& label) {
    Problem problem(c, rule, *reference_, kSeed);
    auto ops = Open(LimitsOf(c));
    ASSERT_NE(ops, nullptr);
    const Guarded<float> got = problem.RunOn(*ops, problem.c.queries);
    const Guarded<float> want = problem.RunOn(*reference_, problem.c.queries);
    EXPECT_TRUE(got.Intact()) << label;
    const double bound = problem.Bound();
    ExpectWithin(label, got.view(), want.view(), [&](size_t) { return bound; });
  });
}

TEST_P(AttendRoutedConformance, OutputsDoNotDependOnTheSpan) {
  ForEveryRule([&](const Case& c, const RoutingConfig& rule, const std::string& label) {
    const OpsLimits limits = LimitsOf(c);
    auto ops = Open(limits), other = Open(limits, 3), single = Open(limits, 1);
    ASSERT_TRUE(ops && other && single);
    Problem problem(c, rule, *ops, kSeed + 10);
    const Guarded<float> all = problem.RunOn(*ops, problem.c.queries);
    for (int part : {1, 5, 33}) {
      const Guarded<float> parts = problem.RunOn(part == 5 ? *other : *ops, part);
      ASSERT_TRUE(SameBits(all.data(), parts.data(), all.size())) << label << ", parts of " << part;
    }
    const Guarded<float> alone = problem.RunOn(*single, problem.c.queries);
    ASSERT_TRUE(SameBits(all.data(), alone.data(), all.size())) << label << ", 1 thread";
  });
}

// With a budget of at least the candidates every token is read: dense attention.
TEST_P(AttendRoutedConformance, DenseLimit) {
  for (const Case& c : kCases) {
    for (const NamedRule& named : AllRules()) {
      RoutingConfig rule = named.rule;
      if (rule.chunk_beam > 0) rule.beam_share = 1;  // every chunk survives
      rule.groups_budget = static_cast<int>(c.first_position + c.queries) / rule.group;
      auto ops = Open(LimitsOf(c));
      ASSERT_NE(ops, nullptr);
      Problem problem(c, rule, *ops, kSeed + 20);
      const Guarded<float> routed = problem.RunOn(*ops, c.queries);
      Guarded<float> dense(routed.size());
      AttendDenseParams p;
      p.shape = c.shape;
      p.q = problem.q.data();
      p.first_position = c.first_position;
      p.queries = c.queries;
      p.kv = problem.history.view();
      p.out = dense.data();
      ops->AttendDense(p);
      const double bound = 2 * problem.Bound();  // both sides round
      double worst = 0;
      for (int64_t i = 0; i < dense.size(); ++i) {
        worst = std::max(worst, std::fabs(static_cast<double>(dense.data()[i]) - routed.data()[i]));
      }
      EXPECT_LE(worst, bound) << LabelOf(c, named.name);
      EXPECT_FALSE(std::isnan(routed.data()[0]));
    }
  }
}

// Tokens after a query, and tokens outside its working set, may hold anything.
TEST_P(AttendRoutedConformance, OnlyTheWorkingSetMatters) {
  const Bf16 nan = 0x7FC0;
  for (const Case& c : kCases) {
    for (const NamedRule& named : AllRules()) {
      auto ops = Open(LimitsOf(c));
      ASSERT_NE(ops, nullptr);
      Problem problem({c.shape, c.first_position, 1}, named.rule, *ops, kSeed + 30);
      const Guarded<float> before = problem.RunOn(*ops, 1);
      const auto range =
          spec::CandidateRange(c.first_position, named.rule.sink_chunks, named.rule.local_chunks);
      const int per_kv = problem.routed.selectors / c.shape.kv_heads;
      for (int g = 0; g < c.shape.kv_heads; ++g) {
        std::vector<char> seen(problem.history.tokens(), 0);
        for (int s = g * per_kv; s < (g + 1) * per_kv; ++s) {
          for (int32_t x : problem.routed.Opened(0, s)) {
            std::fill_n(seen.begin() + int64_t{x} * named.rule.group, named.rule.group, 1);
          }
        }
        for (int64_t t = range.begin; t < range.end; ++t) {
          if (seen[t]) continue;
          std::fill_n(problem.history.Key(g, t), c.shape.head_dim, nan);
          std::fill_n(problem.history.Value(g, t), c.shape.head_dim, nan);
        }
      }
      problem.history.Rewrite(c.first_position + 1, kSeed, &nan);
      const Guarded<float> after = problem.RunOn(*ops, 1);
      EXPECT_TRUE(SameBits(before.data(), after.data(), before.size()))
          << LabelOf(problem.c, named.name);
    }
  }
}

// The bound is worth something: each part of the law, left out or a little off, exceeds it.
TEST(AttendRoutedBound, SeesEveryPartOfTheLaw) {
  auto reference = MakeReferenceOps();
  RoutingConfig rule;
  rule.groups_budget = 24;
  Problem problem({{8, 2, 64}, 1250, 2}, rule, *reference, kSeed + 40);
  const Guarded<float> truth = problem.RunOn(*reference, 2);
  const double bound = problem.Bound();
  const auto distance = [&](Problem& other) {
    const Guarded<float> out = other.RunOn(*reference, 2);
    double worst = 0;
    for (int64_t i = 0; i < out.size(); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(out.data()[i]) - truth.data()[i]));
    }
    return worst;
  };
  const auto expect_seen = [&](const char* what, Problem other) {
    const double worst = distance(other);
    std::printf("  %s: moves the output by %.3g, bound %.3g\n", what, worst, bound);
    EXPECT_GT(worst, bound) << what;
  };
  const int64_t width = TailLayout::Width(64), rows = problem.routed.tail.size() / width;
  Problem changed = problem;
  changed.rule.trust = 12;
  expect_seen("trust 12 instead of 16", changed);
  changed = problem;
  changed.rule.tail = false;
  expect_seen("no tail", changed);
  changed = problem;
  for (int64_t r = 0; r < rows; ++r) {
    float* tail = changed.routed.tail.data() + r * width;
    std::fill_n(tail + TailLayout::Said(64), 64, 0.f);
  }
  expect_seen("no v_said", changed);
  changed = problem;
  for (int64_t r = 0; r < rows; ++r) {
    float* tail = changed.routed.tail.data() + r * width;
    for (int i = 0; i < 64; ++i) tail[TailLayout::Out(64) + i] *= 1.02f;
    tail[TailLayout::kSum] *= 1.02f;
  }
  expect_seen("two percent more mass in the tail", changed);
  changed = problem;
  changed.rule.local_chunks = 7;
  expect_seen("one local chunk fewer", changed);
}

HGA_EVERY_BACKEND(AttendRoutedConformance);

}  // namespace
}  // namespace hga::conformance
