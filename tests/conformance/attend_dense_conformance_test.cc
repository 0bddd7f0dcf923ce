// SPDX-License-Identifier: Apache-2.0
// Dense attention of every instruction set against the reference; causality and invariance.
#include "tests/conformance/attention_fixture.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 71;

struct Case {
  HeadShape shape;
  int64_t first_position;
  int queries;
};

const Case kCases[] = {
    {{8, 2, 128}, 0, 1},    {{8, 2, 128}, 0, 130}, {{4, 4, 64}, 61, 17},
    {{16, 2, 64}, 600, 65}, {{5, 1, 128}, 703, 3}, {{8, 2, 64}, 1020, 64},
    {{8, 2, 128}, 4092, 7}, {{5, 1, 64}, 8997, 3}, {{16, 2, 128}, 4096, 1},
};

AttendDenseParams ParamsOf(const History& history, const std::vector<float>& q,
                           int64_t first_position, int first, int queries, float* out) {
  AttendDenseParams p;
  p.shape = history.shape();
  const int64_t width = int64_t{p.shape.heads} * p.shape.head_dim;
  p.q = q.data() + first * width;
  p.first_position = first_position + first;
  p.queries = queries;
  p.kv = history.view();
  p.out = out + first * width;
  return p;
}

struct Problem {
  Problem(const Case& c, uint64_t seed)
      : c(c),
        history(c.shape, c.first_position + c.queries, seed),
        q(history.Queries(c.first_position, c.queries, seed + 1)) {}
  OpsLimits Limits() const { return AttentionLimits(c.shape, c.queries, history.tokens()); }
  Guarded<float> RunOn(Ops& ops, int part) const {
    Guarded<float> out(static_cast<int64_t>(q.size()));
    for (int first = 0; first < c.queries; first += part) {
      ops.AttendDense(ParamsOf(history, q, c.first_position, first,
                               std::min(part, c.queries - first), out.data()));
    }
    return out;
  }
  std::string Label() const {
    return "dense " + std::to_string(c.shape.heads) + "/" + std::to_string(c.shape.kv_heads) + "/" +
           std::to_string(c.shape.head_dim) + " at " + std::to_string(c.first_position) + "+" +
           std::to_string(c.queries);
  }
  Case c;
  History history;
  std::vector<float> q;
};

using AttendDenseConformance = ConformanceTest;

TEST_P(AttendDenseConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  for (const Case& c : kCases) {
    const Problem problem(c, kSeed);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> got = problem.RunOn(*ops, c.queries);
    const Guarded<float> want = problem.RunOn(*reference_, c.queries);
    EXPECT_TRUE(got.Intact());
    // o = sum w v / sum w: numerator and denominator each carry the relative error of a mass.
    const auto tokens = static_cast<double>(problem.history.tokens());
    const double bound = 2 * MassError(ScoreError(problem.history, problem.q), tokens) *
                         problem.history.value_size();
    ExpectWithin(problem.Label(), got.view(), want.view(), [&](size_t) { return bound; });
  }
}

TEST_P(AttendDenseConformance, OutputsDoNotDependOnTheSpan) {
  for (const Case& c : kCases) {
    const Problem problem(c, kSeed + 10);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> all = problem.RunOn(*ops, c.queries);
    for (int part : {1, 3, 16, 64}) {
      const Guarded<float> parts = problem.RunOn(*ops, part);
      ASSERT_TRUE(SameBits(all.data(), parts.data(), all.size()))
          << problem.Label() << " in parts of " << part;
    }
    for (int threads : {1, 3}) {
      auto other = Open(problem.Limits(), threads);
      ASSERT_NE(other, nullptr);
      for (int part : {c.queries, 1}) {
        const Guarded<float> y = problem.RunOn(*other, part);
        ASSERT_TRUE(SameBits(all.data(), y.data(), all.size()))
            << problem.Label() << ", " << threads << " threads, parts of " << part;
      }
    }
  }
}

// Later tokens, whatever their bits, change nothing: not even when they are NaN, as unwritten
// memory may be.
TEST_P(AttendDenseConformance, LaterTokensDoNotMatter) {
  const Bf16 nan = 0x7FC0;
  for (const Case& c : kCases) {
    Problem problem(c, kSeed + 20);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> before = problem.RunOn(*ops, c.queries);
    const int kept = c.queries / 2;  // queries whose future is rewritten
    const int64_t same = int64_t{kept + 1} * c.shape.heads * c.shape.head_dim;
    for (const Bf16* fill : {static_cast<const Bf16*>(nullptr), &nan}) {
      problem.history.Rewrite(c.first_position + kept + 1, kSeed + 21, fill);
      const Guarded<float> after = problem.RunOn(*ops, c.queries);
      EXPECT_TRUE(SameBits(before.data(), after.data(), same))
          << problem.Label() << (fill ? ", NaN after " : ", other tokens after ") << kept;
    }
  }
}

HGA_EVERY_BACKEND(AttendDenseConformance);

}  // namespace
}  // namespace hga::conformance
