// SPDX-License-Identifier: Apache-2.0
// Sampled attention of every instruction set against the reference, and its promises.
#include "tests/conformance/attention_fixture.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 101;

struct Case {
  HeadShape shape;
  int64_t first_position;
  int queries;
  int sink_chunks, local_chunks, most_cells;
};

const Case kCases[] = {
    {{8, 2, 128}, 698, 12, 2, 8, 1024}, {{4, 4, 64}, 1020, 7, 2, 8, 16},
    {{16, 2, 64}, 1300, 65, 0, 1, 1},   {{5, 1, 128}, 4093, 5, 2, 8, 100},
    {{8, 2, 64}, 8998, 2, 2, 8, 1024},  {{8, 2, 64}, 2047, 2, 0, 0, 64},
    {{8, 2, 128}, 127, 3, 1, 0, 7},     {{8, 2, 128}, 3000, 1, 2, 0, 128},
};

struct Problem {
  Problem(const Case& c, uint64_t seed)
      : c(c),
        history(c.shape, c.first_position + c.queries, seed),
        q(history.Queries(c.first_position, c.queries, seed + 1)) {}
  Guarded<float> RunOn(Ops& ops, int part) const {
    Guarded<float> out(static_cast<int64_t>(q.size()));
    const int64_t width = int64_t{c.shape.heads} * c.shape.head_dim;
    for (int first = 0; first < c.queries; first += part) {
      AttendSampledParams p;
      p.shape = c.shape;
      p.q = q.data() + first * width;
      p.first_position = c.first_position + first;
      p.queries = std::min(part, c.queries - first);
      p.kv = history.view();
      p.out = out.data() + first * width;
      p.sink_chunks = c.sink_chunks;
      p.local_chunks = c.local_chunks;
      p.most_cells = c.most_cells;
      ops.AttendSampled(p);
    }
    return out;
  }
  OpsLimits Limits() const { return AttentionLimits(c.shape, c.queries, history.tokens()); }
  // As for dense attention; the factor on the sample's mass rounds once.
  double Bound() const {
    const auto tokens = static_cast<double>(history.tokens());
    return 2 * (MassError(ScoreError(history, q), tokens) + kUnit) * history.value_size();
  }
  std::string Label() const {
    return "sampled by " + std::to_string(c.most_cells) + " at " +
           std::to_string(c.first_position) + "+" + std::to_string(c.queries) + ", windows " +
           std::to_string(c.sink_chunks) + " and " + std::to_string(c.local_chunks);
  }
  Case c;
  History history;
  std::vector<float> q;
};

using AttendSampledConformance = ConformanceTest;

TEST_P(AttendSampledConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  for (const Case& c : kCases) {
    const Problem problem(c, kSeed);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> got = problem.RunOn(*ops, c.queries);
    const Guarded<float> want = problem.RunOn(*reference_, c.queries);
    EXPECT_TRUE(got.Intact());
    const double bound = problem.Bound();
    ExpectWithin(problem.Label(), got.view(), want.view(), [&](size_t) { return bound; });
  }
}

TEST_P(AttendSampledConformance, OutputsDoNotDependOnTheSpan) {
  for (const Case& c : kCases) {
    const Problem problem(c, kSeed + 10);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> all = problem.RunOn(*ops, c.queries);
    for (int threads : {1, 2, 3}) {
      auto other = Open(problem.Limits(), threads);
      ASSERT_NE(other, nullptr);
      for (int part : {1, 3, 33, c.queries}) {
        const Guarded<float> parts = problem.RunOn(*other, part);
        ASSERT_TRUE(SameBits(all.data(), parts.data(), all.size()))
            << problem.Label() << ", parts of " << part << ", " << threads << " threads";
      }
    }
  }
}

// A sample of every cell is dense attention.
TEST_P(AttendSampledConformance, DenseLimit) {
  for (Case c : kCases) {
    c.most_cells = 1 << 20;
    const Problem problem(c, kSeed + 20);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> sampled = problem.RunOn(*ops, c.queries);
    Guarded<float> dense(sampled.size());
    AttendDenseParams p;
    p.shape = c.shape;
    p.q = problem.q.data();
    p.first_position = c.first_position;
    p.queries = c.queries;
    p.kv = problem.history.view();
    p.out = dense.data();
    ops->AttendDense(p);
    const double bound = 2 * problem.Bound();
    ExpectWithin(problem.Label(), sampled.view(), dense.view(), [&](size_t) { return bound; });
  }
}

TEST_P(AttendSampledConformance, LaterTokensDoNotMatter) {
  const Bf16 nan = 0x7FC0;
  for (const Case& c : kCases) {
    Problem problem(c, kSeed + 30);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    const Guarded<float> before = problem.RunOn(*ops, c.queries);
    const int kept = c.queries / 2;
    const int64_t same = int64_t{kept + 1} * c.shape.heads * c.shape.head_dim;
    for (const Bf16* fill : {static_cast<const Bf16*>(nullptr), &nan}) {
      problem.history.Rewrite(c.first_position + kept + 1, kSeed + 31, fill);
      const Guarded<float> after = problem.RunOn(*ops, c.queries);
      EXPECT_TRUE(SameBits(before.data(), after.data(), same))
          << problem.Label() << (fill ? ", NaN after " : ", other tokens after ") << kept;
    }
  }
}

HGA_EVERY_BACKEND(AttendSampledConformance);

}  // namespace
}  // namespace hga::conformance
