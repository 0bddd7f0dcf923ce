// SPDX-License-Identifier: Apache-2.0
// Norm per head, RoPE and rounding to bf16 of every instruction set against the reference.
#include "spec/layout.h"
#include "tests/conformance/fixtures.h"

namespace hga::conformance {
namespace {

constexpr uint64_t kSeed = 31;
constexpr double kTheta = 1e7;

struct Case {
  HeadShape shape;
  int rows;
  bool norms;
  int64_t first_position;
};

const Case kCases[] = {{{8, 2, 128}, 17, true, 0},
                       {{4, 4, 64}, 3, true, 1000},
                       {{16, 2, 64}, 65, false, 60},
                       {{5, 1, 128}, 130, true, 65000},
                       {{8, 2, 64}, 1, false, 8191}};

// Inputs of a call, and where its keys and values go: every row into its own guarded slot, slots
// in reverse order so that nothing but the pointers can be right.
struct Problem {
  Problem(const Case& c, Random& random) : c(c) {
    const int d = c.shape.head_dim, half = d / 2;
    q = random.Normals(int64_t{c.rows} * c.shape.heads * d, 2.f);
    k = random.Normals(int64_t{c.rows} * c.shape.kv_heads * d, 2.f);
    v = random.Normals(int64_t{c.rows} * c.shape.kv_heads * d, 2.f);
    q_norm = random.Normals(d);
    k_norm = random.Normals(d);
    for (int row = 0; row < c.rows; ++row) {
      for (int i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(c.first_position + row) * std::pow(kTheta, -1.0 * i / half);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
  Case c;
  std::vector<float> q, k, v, q_norm, k_norm, cos, sin;
};

struct Output {
  explicit Output(const Problem& problem)
      : q(problem.q),
        k(static_cast<int64_t>(problem.k.size())),
        v(static_cast<int64_t>(problem.v.size())) {}
  Guarded<float> q;
  Guarded<Bf16> k, v;
};

void RotateRows(Ops& ops, const Problem& problem, int first, int rows, Output& out) {
  const HeadShape& s = problem.c.shape;
  const int d = s.head_dim;
  const int64_t slots = int64_t{problem.c.rows} * s.kv_heads;
  std::vector<Bf16*> k_out, v_out;
  for (int64_t slot = int64_t{first} * s.kv_heads; slot < int64_t{first + rows} * s.kv_heads;
       ++slot) {
    k_out.push_back(out.k.data() + (slots - 1 - slot) * d);
    v_out.push_back(out.v.data() + (slots - 1 - slot) * d);
  }
  RotateParams p;
  p.shape = s;
  p.rows = rows;
  p.q = out.q.data() + int64_t{first} * s.heads * d;
  p.k = problem.k.data() + int64_t{first} * s.kv_heads * d;
  p.v = problem.v.data() + int64_t{first} * s.kv_heads * d;
  p.q_norm = problem.c.norms ? problem.q_norm.data() : nullptr;
  p.k_norm = problem.c.norms ? problem.k_norm.data() : nullptr;
  p.epsilon = 1e-6f;
  p.cos = problem.cos.data() + int64_t{first} * d / 2;
  p.sin = problem.sin.data() + int64_t{first} * d / 2;
  p.k_out = k_out.data();
  p.v_out = v_out.data();
  ops.Rotate(p);
}

OpsLimits LimitsOf(const Case& c) {
  OpsLimits limits = PlainLimits(c.rows, 64, 64);
  limits.shape = c.shape;
  return limits;
}

// The largest |x| a head's vector has after its norm: what RoPE's two products are measured by.
double LargestTurned(const std::vector<float>& got) {
  double largest = 0;
  for (float x : got) largest = std::max(largest, std::fabs(static_cast<double>(x)));
  return largest;
}

std::vector<float> Widened(const Guarded<Bf16>& x) {
  std::vector<float> y;
  for (Bf16 b : x.view()) y.push_back(Bf16ToFloat(b));
  return y;
}

// Two float32 values within `before` of each other round to bf16 numbers within one step of each
// other (2^-7 of the larger one at most), or within `before` plus a step where steps are tiny.
void ExpectRotated(const std::string& label, std::span<const float> got,
                   std::span<const float> want, int head_dim) {
  const double before =
      (Gamma(head_dim) / 2 + 8 * kUnit) * 2 * LargestTurned({want.begin(), want.end()});
  ExpectWithin(label, got, want,
               [&](size_t i) { return 0x1p-7 * std::fabs(want[i]) + 2 * before; });
  int64_t differ = 0;
  for (size_t i = 0; i < got.size(); ++i) differ += got[i] != want[i];
  std::printf("  %s: %lld of %zu round differently\n", label.c_str(),
              static_cast<long long>(differ), got.size());
  // A rounding flips when the exact value lies within the float32 error of a tie: about
  // 2 * before / step of all, far below a hundredth.
  EXPECT_LE(differ, 2 + static_cast<int64_t>(got.size()) / 100) << label;
}

using RotateConformance = ConformanceTest;

TEST_P(RotateConformance, EqualsReference) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Random random(kSeed);
  for (const Case& c : kCases) {
    const Problem problem(c, random);
    auto ops = Open(LimitsOf(c));
    ASSERT_NE(ops, nullptr);
    Output got(problem), want(problem);
    RotateRows(*ops, problem, 0, c.rows, got);
    RotateRows(*reference_, problem, 0, c.rows, want);
    EXPECT_TRUE(got.q.Intact() && got.k.Intact() && got.v.Intact());
    const std::string label =
        "rotate " + std::to_string(c.rows) + " rows, head_dim " + std::to_string(c.shape.head_dim);
    ExpectRotated(label + " q", got.q.view(), want.q.view(), c.shape.head_dim);
    ExpectRotated(label + " k", Widened(got.k), Widened(want.k), c.shape.head_dim);
    EXPECT_TRUE(SameBits(got.v.data(), want.v.data(), got.v.size())) << "values are only rounded";
    for (float x : got.q.view()) {
      ASSERT_EQ(x, Bf16ToFloat(FloatToBf16(x))) << "queries must hold bf16 values";
    }
  }
}

TEST_P(RotateConformance, RowsDoNotDependOnTheirNeighbours) {
  Random random(kSeed + 1);
  for (const Case& c : kCases) {
    const Problem problem(c, random);
    auto ops = Open(LimitsOf(c), 2), single = Open(LimitsOf(c), 1), triple = Open(LimitsOf(c), 3);
    ASSERT_TRUE(ops && single && triple);
    Output all(problem);
    RotateRows(*ops, problem, 0, c.rows, all);
    for (int part : {1, 7}) {
      Output parts(problem);
      for (int row = 0; row < c.rows; row += part) {
        RotateRows(part == 1 ? *single : *triple, problem, row, std::min(part, c.rows - row),
                   parts);
      }
      EXPECT_TRUE(SameBits(all.q.data(), parts.q.data(), all.q.size())) << "parts of " << part;
      EXPECT_TRUE(SameBits(all.k.data(), parts.k.data(), all.k.size())) << "parts of " << part;
      EXPECT_TRUE(SameBits(all.v.data(), parts.v.data(), all.v.size())) << "parts of " << part;
    }
  }
}

HGA_EVERY_BACKEND(RotateConformance);

}  // namespace
}  // namespace hga::conformance
