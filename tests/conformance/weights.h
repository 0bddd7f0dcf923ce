// SPDX-License-Identifier: Apache-2.0
// Random weights of every stored type for the conformance tests of matrix products.
#ifndef HGA_TESTS_CONFORMANCE_WEIGHTS_H_
#define HGA_TESTS_CONFORMANCE_WEIGHTS_H_

#include <vector>

#include "spec/layout.h"
#include "tests/conformance/fixtures.h"

namespace hga::conformance {

inline const char* NameOf(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "f32";
    case Dtype::kF16:
      return "f16";
    case Dtype::kBf16:
      return "bf16";
    case Dtype::kFp8:
      return "fp8";
  }
  return "?";
}

// Owns the bytes a WeightView points to.
class RandomWeight {
 public:
  RandomWeight(int64_t rows, int64_t cols, Dtype dtype, Random& random)
      : rows_(rows), cols_(cols), dtype_(dtype), bytes_(rows * cols * BytesOf(dtype)) {
    for (int64_t i = 0; i < rows * cols; ++i) Put(i, random);
    if (dtype != Dtype::kFp8) return;
    const int64_t blocks = spec::CeilDiv(rows, 128) * spec::CeilDiv(cols, 128);
    for (int64_t i = 0; i < blocks; ++i) {
      scales_.push_back(0.01f * static_cast<float>(0.5 + random.Uniform()));
    }
  }
  WeightView view() const {
    return {bytes_.data(), dtype_, rows_, cols_, scales_.empty() ? nullptr : scales_.data()};
  }

 private:
  void Put(int64_t i, Random& random) {
    const float x = random.Normal() * 0.1f;
    if (dtype_ == Dtype::kF32) {
      std::memcpy(bytes_.data() + i * 4, &x, 4);
    } else if (dtype_ == Dtype::kFp8) {
      bytes_[i] = FloatToFp8(x * 300.f);  // subnormals to saturated values
    } else {
      // Any f16 with an exponent of 0 to 14: zero, subnormals and normals below 1.
      const auto f16 = static_cast<uint16_t>((random.Next() & 0x83FFu) | (random.Below(15) << 10));
      const uint16_t half = dtype_ == Dtype::kBf16 ? FloatToBf16(x) : f16;
      std::memcpy(bytes_.data() + i * 2, &half, 2);
    }
  }

  int64_t rows_, cols_;
  Dtype dtype_;
  std::vector<uint8_t> bytes_;
  std::vector<float> scales_;
};

}  // namespace hga::conformance

#endif  // HGA_TESTS_CONFORMANCE_WEIGHTS_H_
