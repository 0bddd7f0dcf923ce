// SPDX-License-Identifier: Apache-2.0
// Matrix products of every instruction set against the reference, and their row invariance.
#include "reference/weight.h"
#include "tests/conformance/weights.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 11;

struct Case {
  int rows;
  int64_t outputs;
  int64_t cols;
  Dtype dtype;
  bool accumulate;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kFp8}) {
    for (int64_t cols : {16, 48, 384, 1040}) {
      for (int rows : {1, 3, 17}) cases.push_back({rows, 130, cols, dtype, rows == 3});
    }
    for (int rows : {64, 65, 130}) cases.push_back({rows, 33, 384, dtype, rows == 65});
    for (int64_t outputs : {1, 7, 127, 128, 129, 257}) {
      cases.push_back({5, outputs, 144, dtype, outputs == 7});
    }
  }
  return cases;
}

std::string Label(const Case& c) {
  return "linear " + std::to_string(c.rows) + "x" + std::to_string(c.cols) + " -> " +
         std::to_string(c.outputs) + " " + NameOf(c.dtype) + (c.accumulate ? " +=" : "");
}

// Rows and columns of the buffers are wider than needed, so that strides are seen to matter.
struct Problem {
  Problem(const Case& c, Random& random)
      : c(c),
        weight(c.outputs, c.cols, c.dtype, random),
        x_stride(c.cols + 16),
        y_stride(c.outputs + 3),
        x(random.Normals(c.rows * x_stride)),
        y0(random.Normals(c.rows * y_stride)) {}
  LinearParams Params(float* y, int first, int rows) const {
    LinearParams p;
    p.x = x.data() + first * x_stride;
    p.x_stride = x_stride;
    p.rows = rows;
    p.w = weight.view();
    p.y = y + first * y_stride;
    p.y_stride = y_stride;
    p.accumulate = c.accumulate;
    return p;
  }
  Guarded<float> Run(Ops& ops) const {
    Guarded<float> y(y0);
    const LinearParams p = Params(y.data(), 0, c.rows);
    ops.Linear({&p, 1});
    return y;
  }
  Case c;
  RandomWeight weight;
  int64_t x_stride, y_stride;
  std::vector<float> x, y0;
};

using LinearConformance = ConformanceTest;

TEST_P(LinearConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Random random(kSeed);
  for (const Case& c : Cases()) {
    const Problem problem(c, random);
    auto ops = Open(PlainLimits(c.rows, static_cast<int>(c.cols), static_cast<int>(c.outputs)));
    ASSERT_NE(ops, nullptr);
    const Guarded<float> got = problem.Run(*ops), want = problem.Run(*reference_);
    ASSERT_TRUE(got.Intact()) << Label(c) << " wrote outside its output";
    // A sum of `cols` products of relative error u each; one more rounding when the scale is
    // applied after the sum, and one when y is added.
    const auto bound = [&](size_t i) {
      const auto row = static_cast<int64_t>(i) / problem.y_stride;
      const auto o = static_cast<int64_t>(i) % problem.y_stride;
      if (o >= c.outputs) return kTiny;  // between the rows: untouched
      double norm = 0;
      for (int64_t k = 0; k < c.cols; ++k) {
        norm += std::fabs(static_cast<double>(problem.x[row * problem.x_stride + k]) *
                          reference::WeightAt(problem.weight.view(), o, k));
      }
      const double base = c.accumulate ? std::fabs(problem.y0[i]) : 0;
      return (Gamma(static_cast<double>(c.cols)) + 4 * kUnit) * norm + 2 * kUnit * base + kTiny;
    };
    ExpectWithin(Label(c), got.view(), want.view(), bound);
  }
}

TEST_P(LinearConformance, RowsDoNotDependOnTheirNeighbours) {
  Random random(kSeed + 1);
  for (const Case& c : Cases()) {
    if (c.rows < 17) continue;
    const Problem problem(c, random);
    auto ops = Open(PlainLimits(c.rows, static_cast<int>(c.cols), static_cast<int>(c.outputs)));
    ASSERT_NE(ops, nullptr);
    const Guarded<float> all = problem.Run(*ops);
    for (int part : {1, 2, 3, 5, 16, 63}) {
      Guarded<float> pieces(problem.y0);
      for (int row = 0; row < c.rows; row += part) {
        const LinearParams p = problem.Params(pieces.data(), row, std::min(part, c.rows - row));
        ops->Linear({&p, 1});
      }
      ASSERT_TRUE(SameBits(all.data(), pieces.data(), all.size()))
          << Label(c) << " in parts of " << part << " rows";
    }
    for (int threads : {1, 2, 3}) {
      auto other =
          Open(PlainLimits(c.rows, static_cast<int>(c.cols), static_cast<int>(c.outputs)), threads);
      ASSERT_NE(other, nullptr);
      const Guarded<float> y = problem.Run(*other);
      ASSERT_TRUE(SameBits(all.data(), y.data(), all.size()))
          << Label(c) << ", " << threads << " threads";
    }
  }
}

TEST_P(LinearConformance, JobsInOneCallEqualJobsAlone) {
  Random random(kSeed + 2);
  std::vector<std::unique_ptr<Problem>> problems;
  for (const Case& c :
       {Case{19, 130, 384, Dtype::kFp8, false}, Case{19, 33, 384, Dtype::kFp8, true},
        Case{3, 257, 48, Dtype::kBf16, false}, Case{1, 1, 16, Dtype::kF32, false}}) {
    problems.push_back(std::make_unique<Problem>(c, random));
  }
  auto ops = Open(PlainLimits(19, 384, 257));
  ASSERT_NE(ops, nullptr);
  std::vector<Guarded<float>> together;
  for (const auto& problem : problems) together.emplace_back(problem->y0);
  std::vector<LinearParams> jobs;
  for (size_t i = 0; i < problems.size(); ++i) {
    jobs.push_back(problems[i]->Params(together[i].data(), 0, problems[i]->c.rows));
  }
  ops->Linear(jobs);
  for (size_t i = 0; i < problems.size(); ++i) {
    const Guarded<float> alone = problems[i]->Run(*ops);
    EXPECT_TRUE(SameBits(alone.data(), together[i].data(), alone.size())) << Label(problems[i]->c);
    EXPECT_TRUE(together[i].Intact());
  }
}

HGA_EVERY_BACKEND(LinearConformance);

}  // namespace
}  // namespace hga::conformance
