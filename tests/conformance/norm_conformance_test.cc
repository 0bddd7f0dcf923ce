// SPDX-License-Identifier: Apache-2.0
// RMS norm and SiLU of every instruction set against the reference.
#include "tests/conformance/fixtures.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 21;
constexpr float kEpsilon = 1e-6f;

struct NormCase {
  int rows;
  int width;
};
constexpr NormCase kNormCases[] = {{1, 16},   {3, 48},   {17, 384}, {64, 1040},
                                   {65, 384}, {130, 64}, {2, 1},    {5, 7}};

using NormConformance = ConformanceTest;

NormParams ParamsOf(const NormCase& c, const std::vector<float>& x, const std::vector<float>& w,
                    float* y) {
  NormParams p;
  p.x = x.data();
  p.weight = w.data();
  p.y = y;
  p.rows = c.rows;
  p.width = c.width;
  p.epsilon = kEpsilon;
  return p;
}

TEST_P(NormConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Random random(kSeed);
  for (const NormCase& c : kNormCases) {
    auto ops = Open(PlainLimits(c.rows, c.width, c.width));
    ASSERT_NE(ops, nullptr);
    std::vector<float> x = random.Normals(int64_t{c.rows} * c.width, 3.f);
    std::fill(x.begin(), x.begin() + c.width, 0.f);  // a row of zeros: epsilon alone
    const std::vector<float> w = random.Normals(c.width);
    Guarded<float> got(c.rows * c.width), want(c.rows * c.width);
    ops->Norm(ParamsOf(c, x, w, got.data()));
    reference_->Norm(ParamsOf(c, x, w, want.data()));
    EXPECT_TRUE(got.Intact());
    // Half the relative error of the sum of squares (a root halves it), then a division, a root
    // and two products.
    const double relative = Gamma(c.width) / 2 + 6 * kUnit;
    ExpectWithin("norm " + std::to_string(c.rows) + "x" + std::to_string(c.width), got.view(),
                 want.view(),
                 [&](size_t i) { return relative * std::fabs(want.data()[i]) + kTiny; });
  }
}

TEST_P(NormConformance, RowsDoNotDependOnTheirNeighbours) {
  Random random(kSeed + 1);
  for (const NormCase& c : kNormCases) {
    const std::vector<float> x = random.Normals(int64_t{c.rows} * c.width);
    const std::vector<float> w = random.Normals(c.width);
    Guarded<float> all(c.rows * c.width), alone(c.rows * c.width);
    auto ops = Open(PlainLimits(c.rows, c.width, c.width));
    ASSERT_NE(ops, nullptr);
    ops->Norm(ParamsOf(c, x, w, all.data()));
    for (int row = 0; row < c.rows; ++row) {
      NormParams p = ParamsOf({1, c.width}, x, w, alone.data());
      p.x += int64_t{row} * c.width;
      p.y += int64_t{row} * c.width;
      ops->Norm(p);
    }
    EXPECT_TRUE(SameBits(all.data(), alone.data(), all.size())) << c.rows << "x" << c.width;
    for (int threads : {1, 3}) {
      auto other = Open(PlainLimits(c.rows, c.width, c.width), threads);
      ASSERT_NE(other, nullptr);
      Guarded<float> y(c.rows * c.width);
      other->Norm(ParamsOf(c, x, w, y.data()));
      EXPECT_TRUE(SameBits(all.data(), y.data(), all.size())) << threads << " threads";
    }
  }
}

TEST_P(NormConformance, SiluEqualsReference) {
  Random random(kSeed + 2);
  for (int64_t count : {1, 15, 16, 17, 1000, 4099}) {
    std::vector<float> gate = random.Normals(count, 8.f);
    const std::vector<float> up = random.Normals(count, 3.f);
    const std::vector<float> edges = {0.f, -0.f, 90.f, -90.f, 1e4f, -1e4f, 1e-30f, -1e-30f};
    for (size_t i = 0; i < edges.size() && static_cast<int64_t>(i) < count; ++i) {
      gate[i] = edges[i];
    }
    Guarded<float> got(count), want(count);
    auto ops = Open(PlainLimits(1, static_cast<int>(count), static_cast<int>(count)));
    ASSERT_NE(ops, nullptr);
    SiluParams p{gate.data(), up.data(), got.data(), count};
    ops->Silu(p);
    p.out = want.data();
    reference_->Silu(p);
    EXPECT_TRUE(got.Intact());
    // An exponential within 8 u (a few u of its polynomial, its argument rounded once), a sum, a
    // division and two products. Far below zero exp(-gate) is as large as a float gets, so that a
    // factor of 2^-125 may remain where the truth is nothing.
    ExpectWithin("silu " + std::to_string(count), got.view(), want.view(), [&](size_t i) {
      return 12 * kUnit * std::fabs(want.data()[i]) +
             0x1p-125 * (1 + std::fabs(static_cast<double>(gate[i]) * up[i]));
    });
    Guarded<float> parts(count);
    for (int64_t begin = 0; begin < count; begin += 13) {
      ops->Silu({gate.data() + begin, up.data() + begin, parts.data() + begin,
                 std::min<int64_t>(13, count - begin)});
    }
    EXPECT_TRUE(SameBits(got.data(), parts.data(), count)) << count;
  }
}

HGA_EVERY_BACKEND(NormConformance);

}  // namespace
}  // namespace hga::conformance
