// SPDX-License-Identifier: Apache-2.0
// SIMD building blocks, compiled once per instruction set: loads that widen, exp, and the two tiles
// every product is made of. Include after hwy/highway.h inside a foreach_target file.
//
// One order for every sum: a dot product runs over the lanes of one accumulator, then a fixed tree;
// so an element's bits depend on its two vectors alone, whatever tile computed it.
#if defined(HGA_CPU_VEC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HGA_CPU_VEC_INL_H_
#undef HGA_CPU_VEC_INL_H_
#else
#define HGA_CPU_VEC_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hga {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
constexpr size_t kLanes = HWY_MAX_BYTES / sizeof(float);
// Rows of a dot tile: as many as one register holds quadruples.
constexpr int kDotRows = static_cast<int>(kLanes / 4);
// Rows of a product-with-values tile, and vectors of its width at a time.
constexpr int kSumRows = 4;
constexpr int kSumVectors = kLanes == 16 ? 4 : 2;

// What an E4M3 byte read through an f16 register must still be multiplied by.
constexpr float kFp8Lift = 256.0f;

HWY_INLINE VF LoadFloat(DF d, const float* p) { return hn::LoadU(d, p); }
HWY_INLINE VF LoadFloat(DF d, const Bf16* p) {
  const hn::Rebind<uint16_t, DF> d16;
  const hn::Rebind<uint32_t, DF> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
}
HWY_INLINE VF LoadFloat(DF d, const hwy::float16_t* p) {
  const hn::Rebind<hwy::float16_t, DF> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, p));
}
// E4M3 / 256: the exponent field moved under an f16's bias. Subnormals come out exact; NaN is
// refused when weights are loaded and can't arise in summaries.
HWY_INLINE VF LoadFloat(DF d, const Fp8* p) {
  const hn::Rebind<int8_t, DF> d8;
  const hn::Rebind<uint16_t, DF> du16;
  const hn::Rebind<int16_t, DF> di16;
  const hn::Rebind<hwy::float16_t, DF> df16;
  // Sign-extended, the sign already stands where an f16 has it; its copy below must go.
  const auto wide = hn::PromoteTo(di16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(p)));
  const auto moved = hn::BitCast(du16, hn::ShiftLeft<7>(wide));
  return hn::PromoteTo(d, hn::BitCast(df16, hn::And(moved, hn::Set(du16, uint16_t{0xBFFF}))));
}

// Two neighbouring vectors. Of E4M3, one instruction of each kind but the last serves both.
template <class T>
HWY_INLINE void LoadFloats(DF d, const T* p, VF& a, VF& b) {
  a = LoadFloat(d, p);
  b = LoadFloat(d, p + kLanes);
}
#if HWY_MAX_BYTES >= 32
HWY_INLINE void LoadFloats(DF d, const Fp8* p, VF& a, VF& b) {
  const hn::ScalableTag<int16_t> di16;
  const hn::Rebind<int8_t, decltype(di16)> d8;
  const hn::Rebind<hwy::float16_t, DF> df16;
  const auto wide = hn::PromoteTo(di16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(p)));
  const auto moved = hn::And(hn::ShiftLeft<7>(wide), hn::Set(di16, static_cast<int16_t>(0xBFFF)));
  const hn::Rebind<int16_t, DF> dhalf;
  a = hn::PromoteTo(d, hn::BitCast(df16, hn::LowerHalf(dhalf, moved)));
  b = hn::PromoteTo(d, hn::BitCast(df16, hn::UpperHalf(dhalf, moved)));
}
#endif

// exp(x) in float32 for x <= 88; 0 below -87.3. Relative error under 2e-7.
HWY_INLINE VF Exp(DF d, VF x) {
  const auto low = hn::Set(d, -87.33654f);
  const auto alive = hn::Ge(x, low);
  x = hn::Max(x, low);
  // Adding 1.5 x 2^23 rounds to an integer, which then also stands in the low bits.
  const VF magic = hn::Set(d, 0x1.8p23f);
  const VF shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  const VF n = hn::Sub(shifted, magic);
  VF r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  VF p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenElseZero(alive, hn::BitCast(d, bits));
}

// Four vectors to their four sums in every quarter: lanes (0+2)+(1+3) of each quarter.
HWY_INLINE VF SumQuarters(DF d, VF v0, VF v1, VF v2, VF v3) {
  const VF a = hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1));
  const VF b = hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3));
  const hn::RepartitionToWide<DF> dd;
  const auto wa = hn::BitCast(dd, a), wb = hn::BitCast(dd, b);
  return hn::Add(hn::BitCast(d, hn::InterleaveLower(dd, wa, wb)),
                 hn::BitCast(d, hn::InterleaveUpper(dd, wa, wb)));
}

// kDotRows x 4 accumulators to kDotRows x 4 sums, rows in order.
HWY_INLINE void StoreSums(DF d, const VF (&acc)[kDotRows][4], float* HWY_RESTRICT out) {
#if HWY_MAX_BYTES == 64
  VF q[4];
  for (int r = 0; r < 4; ++r) q[r] = SumQuarters(d, acc[r][0], acc[r][1], acc[r][2], acc[r][3]);
  const VF a = hn::Add(hn::ConcatLowerLower(d, q[2], q[0]), hn::ConcatUpperUpper(d, q[2], q[0]));
  const VF b = hn::Add(hn::ConcatLowerLower(d, q[3], q[1]), hn::ConcatUpperUpper(d, q[3], q[1]));
  // a: row 0 (two quarters), row 2; b: row 1, row 3.
  const VF sa = hn::Add(a, hn::SwapAdjacentBlocks(a)), sb = hn::Add(b, hn::SwapAdjacentBlocks(b));
  hn::StoreU(hn::OddEvenBlocks(sb, sa), d, out);
#elif HWY_MAX_BYTES == 32
  const VF a = SumQuarters(d, acc[0][0], acc[0][1], acc[0][2], acc[0][3]);
  const VF b = SumQuarters(d, acc[1][0], acc[1][1], acc[1][2], acc[1][3]);
  hn::StoreU(hn::Add(hn::ConcatLowerLower(d, b, a), hn::ConcatUpperUpper(d, b, a)), d, out);
#else
  hn::StoreU(SumQuarters(d, acc[0][0], acc[0][1], acc[0][2], acc[0][3]), d, out);
#endif
}

// out[r][c] = a[r] . b[c] for kDotRows rows and 4 columns over `n` elements (a multiple of 16).
// `scales`, if any, holds a factor per 128 elements that b's elements are multiplied by first.
template <int kRows, bool kScaled, class B>
HWY_INLINE void DotTile(const float* HWY_RESTRICT const* a, const B* HWY_RESTRICT const* b,
                        size_t n, const float* HWY_RESTRICT scales, float lift,
                        float* HWY_RESTRICT out) {
  static_assert(kRows <= kDotRows);
  const DF d;
  VF acc[kDotRows][4];
  for (int r = 0; r < kDotRows; ++r) {
    for (int c = 0; c < 4; ++c) acc[r][c] = hn::Zero(d);
  }
  VF factor = hn::Set(d, 1.0f);
  const auto add = [&](size_t i, const VF(&column)[4]) HWY_ATTR {
    for (int r = 0; r < kRows; ++r) {
      const VF row = hn::LoadU(d, a[r] + i);
      for (int c = 0; c < 4; ++c) acc[r][c] = hn::MulAdd(row, column[c], acc[r][c]);
    }
  };
  size_t i = 0;
  if constexpr (kScaled) {
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      if (i % 128 == 0) factor = hn::Set(d, scales[i / 128] * lift);
      VF first[4], second[4];
      for (int c = 0; c < 4; ++c) {
        LoadFloats(d, b[c] + i, first[c], second[c]);
        first[c] = hn::Mul(first[c], factor);
        second[c] = hn::Mul(second[c], factor);
      }
      add(i, first);
      add(i + kLanes, second);
    }
  }
  for (; i < n; i += kLanes) {
    if constexpr (kScaled) {
      if (i % 128 == 0) factor = hn::Set(d, scales[i / 128] * lift);
    }
    VF column[4];
    for (int c = 0; c < 4; ++c) {
      column[c] = LoadFloat(d, b[c] + i);
      if constexpr (kScaled) column[c] = hn::Mul(column[c], factor);
    }
    add(i, column);
  }
  StoreSums(d, acc, out);
}

// Calls f(std::integral_constant<int, rows>) with 1 <= rows <= kMost.
template <int kMost, class F>
HWY_INLINE void WithRows(int rows, const F& f) {
  if constexpr (kMost == 1) {
    f(std::integral_constant<int, 1>());
  } else {
    if (rows == kMost) {
      f(std::integral_constant<int, kMost>());
    } else {
      WithRows<kMost - 1>(rows, f);
    }
  }
}

// o[r][0..kWidth) += sum over i of p[r][i] * v_i, i ascending, v_i + x = values(i, x), for kRows
// rows; one accumulator per element, so the order is the same in any tile.
template <int kRows, int kWidth, class Values>
HWY_INLINE void SumTile(const float* HWY_RESTRICT p, size_t p_stride, size_t count,
                        const Values& values, float* HWY_RESTRICT o, size_t o_stride) {
  const DF d;
  constexpr int kStep = static_cast<int>(kLanes) * kSumVectors;
  for (int x = 0; x < kWidth; x += kStep) {
    VF acc[kRows][kSumVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kSumVectors; ++j) {
        acc[r][j] = hn::LoadU(d, o + r * o_stride + x + j * kLanes);
      }
    }
    for (size_t i = 0; i < count; ++i) {
      const auto* v = values(i, x);
      VF value[kSumVectors];
      for (int j = 0; j < kSumVectors; j += 2) {
        LoadFloats(d, v + j * kLanes, value[j], value[j + 1]);
      }
      for (int r = 0; r < kRows; ++r) {
        const VF weight = hn::Set(d, p[r * p_stride + i]);
        for (int j = 0; j < kSumVectors; ++j) {
          acc[r][j] = hn::MulAdd(weight, value[j], acc[r][j]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kSumVectors; ++j) {
        hn::StoreU(acc[r][j], d, o + r * o_stride + x + j * kLanes);
      }
    }
  }
}

// Largest of x[0..n), n >= 0; minus infinity for none. NaN is skipped where the ISA's max skips it.
HWY_INLINE float MaxOf(const float* HWY_RESTRICT x, size_t n) {
  const DF d;
  VF best = hn::Set(d, -HUGE_VALF);
  size_t i = 0;
  if (n >= 4 * kLanes) {  // four chains: one would wait for each maximum
    VF b = best, c = best, e = best;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      best = hn::Max(best, hn::LoadU(d, x + i));
      b = hn::Max(b, hn::LoadU(d, x + i + kLanes));
      c = hn::Max(c, hn::LoadU(d, x + i + 2 * kLanes));
      e = hn::Max(e, hn::LoadU(d, x + i + 3 * kLanes));
    }
    best = hn::Max(hn::Max(best, b), hn::Max(c, e));
  }
  for (; i + kLanes <= n; i += kLanes) best = hn::Max(best, hn::LoadU(d, x + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// x[i] = exp(x[i] * scale - shift) for i < n; returns the sum, lanes first, then a fixed tree, then
// the rest in order.
HWY_INLINE float ExpSum(float* HWY_RESTRICT x, size_t n, float scale, float shift) {
  const DF d;
  const VF vscale = hn::Set(d, scale), vshift = hn::Set(d, shift);
  VF sum = hn::Zero(d);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF e = Exp(d, hn::MulSub(hn::LoadU(d, x + i), vscale, vshift));
    hn::StoreU(e, d, x + i);
    sum = hn::Add(sum, e);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  if (i < n) {
    HWY_ALIGN float rest[kLanes];
    for (size_t j = 0; j < kLanes; ++j) rest[j] = i + j < n ? x[i + j] : -HUGE_VALF;
    const VF e = Exp(d, hn::MulSub(hn::Load(d, rest), vscale, vshift));
    hn::Store(e, d, rest);
    for (size_t j = 0; i + j < n; ++j) {
      x[i + j] = rest[j];
      total += rest[j];
    }
  }
  return total;
}

// x *= factor.
HWY_INLINE void Scale(float* HWY_RESTRICT x, size_t n, float factor) {
  const DF d;
  const VF f = hn::Set(d, factor);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, x + i), f), d, x + i);
  for (; i < n; ++i) x[i] *= factor;
}

// y += factor * x.
HWY_INLINE void AddScaled(const float* HWY_RESTRICT x, size_t n, float factor,
                          float* HWY_RESTRICT y) {
  const DF d;
  const VF f = hn::Set(d, factor);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(hn::MulAdd(f, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  }
  for (; i < n; ++i) y[i] += factor * x[i];
}

// Widens `n` elements (a multiple of 16) to float32, times `factor`.
template <class T>
HWY_INLINE void Widen(const T* HWY_RESTRICT x, size_t n, float factor, float* HWY_RESTRICT out) {
  const DF d;
  const VF f = hn::Set(d, factor);
  for (size_t i = 0; i < n; i += kLanes) {
    VF v = LoadFloat(d, x + i);
    if (factor != 1.0f) v = hn::Mul(v, f);
    hn::StoreU(v, d, out + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hga
HWY_AFTER_NAMESPACE();

#endif  // HGA_CPU_VEC_INL_H_
