// SPDX-License-Identifier: Apache-2.0
// Selection: bit-equal to the law's order, whatever the scores are.
#include <algorithm>
#include <limits>

#include "tests/conformance/fixtures.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 41;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

enum class Kind { kNormal, kTies, kSpecial, kEqual, kAscending, kDescending, kShares, kAllNan };
constexpr Kind kKinds[] = {Kind::kNormal,    Kind::kTies,       Kind::kSpecial, Kind::kEqual,
                           Kind::kAscending, Kind::kDescending, Kind::kShares,  Kind::kAllNan};

std::vector<float> Scores(Kind kind, int64_t n, Random& random) {
  static const float kSpecials[] = {kNan,  -kNan,  0.f,     -0.f, kInf,
                                    -kInf, 1e-42f, -1e-42f, 1.f,  -1.f};
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) {
    switch (kind) {
      case Kind::kNormal:
        x[i] = random.Normal();
        break;
      case Kind::kTies:
        x[i] = static_cast<float>(random.Below(5)) - 2.f;
        break;
      case Kind::kSpecial:
        x[i] = kSpecials[random.Below(10)];
        break;
      case Kind::kEqual:
        x[i] = 0.25f;
        break;
      case Kind::kAscending:
        x[i] = static_cast<float>(i);
        break;
      case Kind::kDescending:
        x[i] = -static_cast<float>(i);
        break;
      case Kind::kShares:  // what routing makes: a few large, most near the smallest float
        x[i] = std::exp(random.Normal() * 20.f - 40.f);
        break;
      case Kind::kAllNan:
        x[i] = kNan;
        break;
    }
  }
  return x;
}

using SelectConformance = ConformanceTest;

TEST_P(SelectConformance, BitEqualToReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Random random(kSeed);
  OpsLimits limits = PlainLimits(4, 64, 64);
  limits.context = 131072;
  auto ops = Open(limits);
  ASSERT_NE(ops, nullptr);
  int64_t calls = 0;
  for (Kind kind : kKinds) {
    for (int64_t n : {1, 2, 15, 16, 17, 100, 128, 129, 1000, 4099, 16384}) {
      const std::vector<float> scores = Scores(kind, n, random);
      for (int64_t count :
           {int64_t{0}, int64_t{1}, int64_t{7}, int64_t{64}, int64_t{128}, n / 2, n - 1, n}) {
        if (count < 0 || count > n) continue;
        Guarded<int32_t> got(count), want(count);
        SelectParams p{scores.data(), n, static_cast<int>(count), got.data()};
        ops->Select(p);
        p.chosen = want.data();
        reference_->Select(p);
        ASSERT_TRUE(got.Intact());
        ASSERT_TRUE(SameBits(got.data(), want.data(), count))
            << "kind " << static_cast<int>(kind) << ", " << count << " of " << n;
        ++calls;
      }
    }
  }
  std::printf("  %lld calls, all equal\n", static_cast<long long>(calls));
}

TEST_P(SelectConformance, KnownAnswers) {
  auto ops = Open(PlainLimits(4, 64, 64));
  ASSERT_NE(ops, nullptr);
  const auto best = [&](const std::vector<float>& x, int count) {
    std::vector<int32_t> chosen(count);
    ops->Select({x.data(), static_cast<int64_t>(x.size()), count, chosen.data()});
    return chosen;
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(best({1, 3, 2, 3}, 2), (Ids{1, 3}));
  EXPECT_EQ(best({2, 2, 2, 2}, 3), (Ids{0, 1, 2}));
  EXPECT_EQ(best({-0.f, 0.f, -0.f}, 2), (Ids{0, 1}));  // equal: the index decides
  EXPECT_EQ(best({kNan, -1, -kInf}, 2), (Ids{0, 1}));  // NaN ranks with minus infinity
  EXPECT_EQ(best({-kInf, kNan, 5}, 2), (Ids{0, 2}));
  EXPECT_EQ(best({kInf, -kNan, kInf, 1e-42f}, 3), (Ids{0, 2, 3}));
}

HGA_EVERY_BACKEND(SelectConformance);

}  // namespace
}  // namespace hga::conformance
