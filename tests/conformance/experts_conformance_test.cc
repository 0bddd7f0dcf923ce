// SPDX-License-Identifier: Apache-2.0
// The routed feed-forward of every instruction set against the reference.
#include <algorithm>

#include "reference/weight.h"
#include "tests/conformance/weights.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 51;

struct Case {
  int rows, hidden, width, experts, per_token;
  Dtype dtype;
  bool renormalise;
};

const Case kCases[] = {
    {1, 384, 128, 16, 4, Dtype::kFp8, true},  {17, 384, 128, 16, 4, Dtype::kFp8, true},
    {65, 144, 48, 5, 2, Dtype::kBf16, false}, {3, 48, 16, 4, 4, Dtype::kF32, true},
    {130, 64, 32, 8, 1, Dtype::kF16, true},   {5, 1040, 144, 3, 2, Dtype::kFp8, false},
};

struct Problem {
  Problem(const Case& c, Random& random) : c(c), router(c.experts, c.hidden, Dtype::kBf16, random) {
    for (int e = 0; e < c.experts; ++e) {
      weights.emplace_back(c.width, c.hidden, c.dtype, random);
      weights.emplace_back(c.width, c.hidden, c.dtype, random);
      weights.emplace_back(c.hidden, c.width, c.dtype, random);
    }
    for (int e = 0; e < c.experts; ++e) {
      gate.push_back(weights[3 * e].view());
      up.push_back(weights[3 * e + 1].view());
      down.push_back(weights[3 * e + 2].view());
    }
    x = random.Normals(int64_t{c.rows} * c.hidden);
    y0 = random.Normals(int64_t{c.rows} * c.hidden);
  }
  void Run(Ops& ops, int first, int rows, float* y) const {
    ExpertsParams p;
    p.x = x.data() + int64_t{first} * c.hidden;
    p.rows = rows;
    p.hidden = c.hidden;
    p.width = c.width;
    p.experts = c.experts;
    p.experts_per_token = c.per_token;
    p.renormalise = c.renormalise;
    p.router = router.view();
    p.gate = gate.data();
    p.up = up.data();
    p.down = down.data();
    p.y = y + int64_t{first} * c.hidden;
    ops.Experts(p);
  }
  OpsLimits Limits() const {
    OpsLimits limits = PlainLimits(c.rows, c.hidden, c.width);
    limits.experts = c.experts;
    limits.experts_per_token = c.per_token;
    return limits;
  }
  Case c;
  RandomWeight router;
  std::vector<RandomWeight> weights;
  std::vector<WeightView> gate, up, down;
  std::vector<float> x, y0;
};

double DotNorm(const float* x, const WeightView& w, int64_t row) {
  double norm = 0;
  for (int64_t i = 0; i < w.cols; ++i) {
    norm += std::fabs(static_cast<double>(x[i]) * reference::WeightAt(w, row, i));
  }
  return norm;
}

// What one row's router says: experts by rank, their weights, whether the last one is clear of the
// first refused, and the error of a logit.
struct Choice {
  std::vector<int> ranked;
  std::vector<double> weight;
  double logit_error = 0;
  bool clear = true;
};

Choice ChoiceOf(const Problem& problem, int row) {
  const Case& c = problem.c;
  const float* x = problem.x.data() + int64_t{row} * c.hidden;
  std::vector<double> logit(c.experts);
  Choice choice;
  for (int e = 0; e < c.experts; ++e) {
    logit[e] = reference::DotRow(x, problem.router.view(), e);
    choice.ranked.push_back(e);
    choice.logit_error = std::max(
        choice.logit_error, (Gamma(c.hidden) + 2 * kUnit) * DotNorm(x, problem.router.view(), e));
  }
  std::stable_sort(choice.ranked.begin(), choice.ranked.end(),
                   [&](int a, int b) { return logit[a] > logit[b]; });
  if (c.per_token < c.experts) {
    const double gap = logit[choice.ranked[c.per_token - 1]] - logit[choice.ranked[c.per_token]];
    choice.clear = gap > 2 * choice.logit_error + 16 * kUnit;
    if (!choice.clear) return choice;
  }
  double all = 0, kept = 0;
  for (double l : logit) all += std::exp(l);
  for (int j = 0; j < c.per_token; ++j) kept += std::exp(logit[choice.ranked[j]]);
  for (int j = 0; j < c.per_token; ++j) {
    choice.weight.push_back(std::exp(logit[choice.ranked[j]]) / (c.renormalise ? kept : all));
  }
  return choice;
}

// Bound of every output of a row: the error of each inner value (its two dot products, passed on
// through silu, whose slope is below 1.1) goes through |down|; the last sum and the weight add
// their own.
std::vector<double> BoundOf(const Problem& problem, int row, const Choice& choice) {
  const Case& c = problem.c;
  const float* x = problem.x.data() + int64_t{row} * c.hidden;
  std::vector<double> bound(c.hidden, kTiny);
  const double weight_error = 4 * choice.logit_error + (Gamma(c.experts) + 16 * kUnit);
  for (int j = 0; j < c.per_token; ++j) {
    const int e = choice.ranked[j];
    std::vector<double> inner(c.width), error(c.width);
    for (int i = 0; i < c.width; ++i) {
      const double relative = Gamma(c.hidden) + 4 * kUnit;
      const double gate = reference::DotRow(x, problem.gate[e], i);
      const double up = reference::DotRow(x, problem.up[e], i);
      const double silu = gate / (1 + std::exp(-gate));
      inner[i] = std::fabs(silu * up);
      error[i] = 1.1 * relative * DotNorm(x, problem.gate[e], i) * std::fabs(up) +
                 relative * DotNorm(x, problem.up[e], i) * std::fabs(silu) + 12 * kUnit * inner[i];
    }
    for (int o = 0; o < c.hidden; ++o) {
      double passed = 0, sum = 0;
      for (int i = 0; i < c.width; ++i) {
        const double w = std::fabs(static_cast<double>(reference::WeightAt(problem.down[e], o, i)));
        passed += w * error[i];
        sum += w * inner[i];
      }
      bound[o] += choice.weight[j] * (passed + (Gamma(c.width) + 6 * kUnit + weight_error) * sum);
    }
  }
  return bound;
}

using ExpertsConformance = ConformanceTest;

TEST_P(ExpertsConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Random random(kSeed);
  for (const Case& c : kCases) {
    const Problem problem(c, random);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    Guarded<float> got(problem.y0), want(problem.y0);
    problem.Run(*ops, 0, c.rows, got.data());
    problem.Run(*reference_, 0, c.rows, want.data());
    ASSERT_TRUE(got.Intact());
    std::vector<float> clear_got, clear_want;
    std::vector<double> bound;
    int unclear = 0;
    for (int row = 0; row < c.rows; ++row) {
      const Choice choice = ChoiceOf(problem, row);
      if (!choice.clear) {
        ++unclear;
        continue;
      }
      const std::vector<double> row_bound = BoundOf(problem, row, choice);
      for (int o = 0; o < c.hidden; ++o) {
        const int64_t i = int64_t{row} * c.hidden + o;
        clear_got.push_back(got.data()[i]);
        clear_want.push_back(want.data()[i]);
        const double ends = std::fabs(problem.y0[i]) + std::fabs(want.data()[i]);
        bound.push_back(row_bound[o] + (c.per_token + 2) * kUnit * ends);
      }
    }
    const std::string label = std::string("experts ") + NameOf(c.dtype) + " " +
                              std::to_string(c.rows) + " rows, " + std::to_string(c.per_token) +
                              " of " + std::to_string(c.experts);
    std::printf("  %s: %d rows below the router's margin\n", label.c_str(), unclear);
    EXPECT_LE(unclear, c.rows / 10);
    ExpectWithin(label, clear_got, clear_want, [&](size_t i) { return bound[i]; });
  }
}

TEST_P(ExpertsConformance, RowsDoNotDependOnTheirNeighbours) {
  Random random(kSeed + 1);
  for (const Case& c : kCases) {
    const Problem problem(c, random);
    auto ops = Open(problem.Limits());
    ASSERT_NE(ops, nullptr);
    Guarded<float> all(problem.y0);
    problem.Run(*ops, 0, c.rows, all.data());
    for (int part : {1, 3, 16, 64}) {
      Guarded<float> parts(problem.y0);
      for (int row = 0; row < c.rows; row += part) {
        problem.Run(*ops, row, std::min(part, c.rows - row), parts.data());
      }
      ASSERT_TRUE(SameBits(all.data(), parts.data(), all.size()))
          << NameOf(c.dtype) << " in parts of " << part;
    }
    for (int threads : {1, 3}) {
      auto other = Open(problem.Limits(), threads);
      ASSERT_NE(other, nullptr);
      Guarded<float> y(problem.y0);
      problem.Run(*other, 0, c.rows, y.data());
      ASSERT_TRUE(SameBits(all.data(), y.data(), all.size())) << threads << " threads";
    }
  }
}

TEST_P(ExpertsConformance, EqualLogitsTakeTheLowerExpert) {
  Random random(kSeed + 2);
  const Case c{2, 48, 16, 6, 2, Dtype::kF32, true};
  Problem problem(c, random);
  const std::vector<float> zero(c.experts * c.hidden, 0.f);
  auto ops = Open(problem.Limits());
  ASSERT_NE(ops, nullptr);
  const auto run = [&](Ops& o, float* y) {
    ExpertsParams p{problem.x.data(),
                    c.rows,
                    c.hidden,
                    c.width,
                    c.experts,
                    c.per_token,
                    c.renormalise,
                    {zero.data(), Dtype::kF32, c.experts, c.hidden, nullptr},
                    problem.gate.data(),
                    problem.up.data(),
                    problem.down.data(),
                    y};
    o.Experts(p);
  };
  Guarded<float> got(problem.y0), want(problem.y0);
  run(*ops, got.data());
  run(*reference_, want.data());
  Choice choice;
  choice.ranked = {0, 1};
  choice.weight = {0.5, 0.5};
  ExpectWithin("experts, all logits equal", got.view(), want.view(), [&](size_t i) {
    const auto row = static_cast<int>(i) / c.hidden;
    return BoundOf(problem, row, choice)[i % c.hidden] +
           4 * kUnit * (std::fabs(problem.y0[i]) + std::fabs(want.data()[i]));
  });
}

HGA_EVERY_BACKEND(ExpertsConformance);

}  // namespace
}  // namespace hga::conformance
