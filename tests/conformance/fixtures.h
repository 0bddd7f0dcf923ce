// SPDX-License-Identifier: Apache-2.0
// Shared by the conformance tests: the backends under test, random numbers, guarded buffers and
// the comparison that prints its worst element.
#ifndef HGA_TESTS_CONFORMANCE_FIXTURES_H_
#define HGA_TESTS_CONFORMANCE_FIXTURES_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "backend/registry.h"
#include "cpu/cpu_backend.h"
#include "reference/reference.h"
#include "tests/conformance/mirror.h"
#if HGA_WITH_CUDA
#include "cuda/cuda_backend.h"
#endif

namespace hga::conformance {

// --- random numbers, equal on every machine -------------------------------------------------

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {  // splitmix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  int64_t Below(int64_t n) { return static_cast<int64_t>(Next() % static_cast<uint64_t>(n)); }
  float Normal() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return static_cast<float>(radius * std::cos(6.283185307179586 * Uniform()));
  }
  std::vector<float> Normals(int64_t n, float scale = 1.f) {
    std::vector<float> x(n);
    for (float& v : x) v = Normal() * scale;
    return x;
  }

 private:
  uint64_t state_;
};

// --- buffers whose surroundings are watched --------------------------------------------------

// n elements between two runs of canary bytes, themselves filled with canary bytes.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t n)
      : n_(n), bytes_(2 * kMargin + n * static_cast<int64_t>(sizeof(T)), kCanary) {}
  explicit Guarded(const std::vector<T>& x) : Guarded(static_cast<int64_t>(x.size())) {
    if (!x.empty()) std::memcpy(data(), x.data(), x.size() * sizeof(T));
  }
  T* data() { return reinterpret_cast<T*>(bytes_.data() + kMargin); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + kMargin); }
  int64_t size() const { return n_; }
  std::span<const T> view() const { return {data(), static_cast<size_t>(n_)}; }
  bool Intact() const {
    const auto end = static_cast<int64_t>(bytes_.size());
    for (int64_t i = 0; i < kMargin; ++i) {
      if (bytes_[i] != kCanary || bytes_[end - 1 - i] != kCanary) return false;
    }
    return true;
  }
  // Whether elements [begin, end) still hold what they were filled with.
  bool Untouched(int64_t begin, int64_t end) const {
    for (int64_t i = begin * static_cast<int64_t>(sizeof(T));
         i < end * static_cast<int64_t>(sizeof(T)); ++i) {
      if (bytes_[kMargin + i] != kCanary) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kMargin = 256;  // keeps data() aligned like the allocation
  int64_t n_;
  std::vector<uint8_t> bytes_;
};

template <typename T>
bool SameBits(const T* a, const T* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * sizeof(T)) == 0;
}

// --- rounding bounds -------------------------------------------------------------------------

inline constexpr double kUnit = 0x1p-24;  // unit roundoff of float32
// Results below this may be flushed to zero by an exponential or a product.
inline constexpr double kTiny = 1e-36;

// Relative error of a float32 sum of n products: n u in the worst order and the worst case. The
// roundings of a sum spread evenly over +-u, a standard deviation of u / sqrt(3) each, so 4 sqrt(n)
// u is seven standard deviations, whatever the order of additions.
inline double Gamma(double n) { return kUnit * std::min(n, 4 * std::sqrt(n)); }

// --- comparison ------------------------------------------------------------------------------

inline bool SameKind(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return true;
}

// Element by element: non-finite values must stand at the same places, then |got - want| <=
// bound(i). Prints the element closest to its bound.
template <typename Bound>
void ExpectWithin(const std::string& label, std::span<const float> got, std::span<const float> want,
                  Bound bound) {
  ASSERT_EQ(got.size(), want.size()) << label;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(SameKind(got[i], want[i]))
        << label << " [" << i << "]: got " << got[i] << ", want " << want[i];
  }
  double worst = -1;
  size_t at = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!std::isfinite(want[i])) continue;
    const double limit = bound(i);
    const double ratio = std::fabs(static_cast<double>(got[i]) - want[i]) / limit;
    if (ratio > worst) worst = ratio, at = i;
  }
  if (worst < 0) return;
  std::printf("  %s: worst %.3f of its bound, [%zu] got %.9g want %.9g bound %.3g\n", label.c_str(),
              worst, at, got[at], want[at], static_cast<double>(bound(at)));
  EXPECT_LE(worst, 1.0) << label << " at [" << at << "]";
}

// --- backends --------------------------------------------------------------------------------

#if HGA_WITH_CUDA
// The GPU behind copies, its memory shared by all tests of the process.
inline Result<std::unique_ptr<Ops>> OpenMirroredCuda() {
  static Result<std::unique_ptr<Ops>>* keeper = new auto(OpenCuda(0, {}));
  if (!keeper->ok()) return keeper->status();
  static Result<MirrorMemory>* memory = new auto(MirrorMemory::Make((*keeper)->get()->device()));
  if (!memory->ok()) return memory->status();
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Ops> ops, OpenCuda(0, {}));
  return std::unique_ptr<Ops>(std::make_unique<MirrorOps>(std::move(ops), memory->value()));
}
#endif

// An instruction set of the CPU, "auto" for its best, or "cuda:0".
inline Result<std::unique_ptr<Ops>> TryOpenBackend(const std::string& name, int threads) {
#if HGA_WITH_CUDA
  if (name == "cuda:0") return OpenMirroredCuda();
#endif
  BackendOptions options;
  options.threads = threads;
  options.isa = name;
  return OpenCpu(options);
}

inline std::unique_ptr<Ops> OpenBackend(const std::string& name, int threads) {
  Result<std::unique_ptr<Ops>> ops = TryOpenBackend(name, threads);
  EXPECT_TRUE(ops.ok()) << ops.status().message();
  return ops.ok() ? std::move(ops).value() : nullptr;
}

// One backend; skipped where the machine lacks its instruction set or a GPU.
class ConformanceTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const Result<std::unique_ptr<Ops>> ops = TryOpenBackend(GetParam(), 1);
    if (ops.ok()) return;
    ASSERT_EQ(ops.status().code(), StatusCode::kUnsupported) << ops.status().message();
    const bool gpu = std::string(GetParam()).starts_with("cuda");
    GTEST_SKIP() << "skipped: " << (gpu ? "no GPU: " : "") << ops.status().message();
  }
  // A fresh backend ready for `limits`.
  std::unique_ptr<Ops> Open(const OpsLimits& limits, int threads = 2) {
    auto ops = OpenBackend(GetParam(), threads);
    if (ops == nullptr) return nullptr;
    const Status status = ops->Prepare(limits);
    EXPECT_TRUE(status.ok()) << status.message();
    return ops;
  }
  std::unique_ptr<Ops> reference_ = MakeReferenceOps();
};

#if HGA_WITH_CUDA
#define HGA_ON_CUDA(Suite)                                         \
  INSTANTIATE_TEST_SUITE_P(Cuda, Suite, testing::Values("cuda:0"), \
                           [](const auto&) { return std::string("0"); })
#else
#define HGA_ON_CUDA(Suite) static_assert(true)
#endif

#define HGA_EVERY_BACKEND(Suite)                                                              \
  HGA_ON_CUDA(Suite);                                                                         \
  INSTANTIATE_TEST_SUITE_P(Cpu, Suite, testing::Values("ssse3", "avx2", "avx3", "avx3_bf16"), \
                           [](const auto& info) { return std::string(info.param); })

// Limits of operations that know no attention.
inline OpsLimits PlainLimits(int rows, int hidden, int ffn_width) {
  OpsLimits limits;
  limits.shape = {1, 1, 64};
  limits.rows = rows;
  limits.context = 64;
  limits.hidden = hidden;
  limits.ffn_width = ffn_width;
  limits.experts = limits.experts_per_token = 1;
  return limits;
}

}  // namespace hga::conformance

#endif  // HGA_TESTS_CONFORMANCE_FIXTURES_H_
