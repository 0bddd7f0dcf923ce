// SPDX-License-Identifier: Apache-2.0
// The scan over key means and the tail over value means, per instruction set.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "cpu/dispatch.h"
#include "spec/layout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/scan.cc"
#include "hwy/foreach_target.h"
// after foreach_target
#include "cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hga {
namespace HWY_NAMESPACE {
namespace {

constexpr int kPanel = spec::kPanel;
constexpr int kPanelVectors = kPanel / static_cast<int>(kLanes);
// Accumulators of the scan tile: rows x panels x vectors, within the register file.
constexpr int kScanRows = kLanes == 16 ? 8 : 4;
constexpr int kScanPanels = kLanes == 16 ? 2 : 1;
// Rows that share a widened group: more, for nothing else needs registers.
constexpr int kWideRows = kLanes == 8 ? 6 : kScanRows;
constexpr int kScanVectors = kScanPanels * kPanelVectors;

// Panels that are scanned side by side. A place past the last panel holds the last one again; its
// sums are thrown away.
template <class T>
struct PanelGroup {
  const T* in[kScanPanels];
  const T* next[kScanPanels];  // of the group after this one

  // Asks for dimensions [k, k + 4) of the next group.
  HWY_INLINE void Prefetch(int k) const {
    for (int j = 0; j < kScanPanels; ++j) {
      for (size_t line = 0; line < sizeof(T); ++line) {
        __builtin_prefetch(next[j] + k * kPanel + line * 64 / sizeof(T), 0, 3);
      }
    }
  }
};

// Dot products of kRows rows with a group of panels, each lane one key mean that adds its
// dimensions in order. `mean(k, j)` is vector j of dimension k.
template <int kRows, class Means>
HWY_INLINE void PanelTile(const float* HWY_RESTRICT q, int head_dim, const Means& mean_of,
                          float* HWY_RESTRICT out) {
  const DF d;
  VF acc[kRows][kScanVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kScanVectors; ++j) acc[r][j] = hn::Zero(d);
  }
  for (int first = 0; first < head_dim; first += 4) {
    mean_of.Prefetch(first);
    for (int k = first; k < first + 4; ++k) {
      VF mean[kScanVectors];
      for (int j = 0; j < kScanVectors; ++j) mean[j] = mean_of(k, j);
      for (int r = 0; r < kRows; ++r) {
        const VF x = hn::Set(d, q[r * head_dim + k]);
        for (int j = 0; j < kScanVectors; ++j) acc[r][j] = hn::MulAdd(x, mean[j], acc[r][j]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kScanVectors; ++j) {
      hn::StoreU(acc[r][j], d, out + (r * kScanVectors + j) * kLanes);
    }
  }
}

#if HWY_TARGET == HWY_AVX2
// 32 E4M3 bytes as two sets of f16 (times 2^-8, see LoadFloat): even bytes, odd bytes. A byte's
// bits move within their 16, so that nothing is widened before the conversion to float32.
struct EvenOdd {
  hn::Vec<hn::ScalableTag<uint16_t>> even, odd;
};
HWY_INLINE EvenOdd ToF16(hn::Vec<hn::ScalableTag<uint8_t>> bytes) {
  const hn::ScalableTag<int16_t> d;
  const hn::ScalableTag<uint16_t> du;
  const auto words = hn::BitCast(d, bytes), mask = hn::Set(d, static_cast<int16_t>(0xBF80));
  const auto even = hn::And(hn::ShiftRight<1>(hn::ShiftLeft<8>(words)), mask);
  const auto odd = hn::And(hn::ShiftRight<1>(words), mask);
  return {hn::BitCast(du, even), hn::BitCast(du, odd)};
}
HWY_INLINE VF LowerFloats(hn::Vec<hn::ScalableTag<uint16_t>> f16) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(), hn::BitCast(dh, hn::LowerHalf(f16)));
}
HWY_INLINE VF UpperFloats(hn::Vec<hn::ScalableTag<uint16_t>> f16) {
  const hn::Rebind<hwy::float16_t, DF> dh;
  return hn::PromoteTo(DF(), hn::BitCast(dh, hn::UpperHalf(hn::Rebind<uint16_t, DF>(), f16)));
}

// even[r], odd[r] += x[r * stride] * values for kRows rows.
template <int kRows>
HWY_INLINE void AddProducts(const float* HWY_RESTRICT x, int64_t stride, VF even_values,
                            VF odd_values, VF (&even)[kRows], VF (&odd)[kRows]) {
  for (int r = 0; r < kRows; ++r) {
    const VF factor = hn::Set(DF(), x[r * stride]);
    even[r] = hn::MulAdd(factor, even_values, even[r]);
    odd[r] = hn::MulAdd(factor, odd_values, odd[r]);
  }
}
// The same for two sets of values, of x[0] and x[1].
template <int kRows>
HWY_INLINE void AddPair(const float* HWY_RESTRICT x, int64_t stride,
                        hn::Vec<hn::ScalableTag<uint8_t>> bytes, VF (&even)[kRows],
                        VF (&odd)[kRows]) {
  const EvenOdd values = ToF16(bytes);
  AddProducts<kRows>(x, stride, LowerFloats(values.even), LowerFloats(values.odd), even, odd);
  AddProducts<kRows>(x + 1, stride, UpperFloats(values.even), UpperFloats(values.odd), even, odd);
}

// PanelTile on a panel as stored, two dimensions a load: 11 instructions widen 32 elements, where
// four vectors on their own would need 16. Lanes are even and odd means.
template <int kRows>
HWY_NOINLINE void Fp8PanelTile(const float* HWY_RESTRICT q, int head_dim,
                               const PanelGroup<Fp8>& group, float* HWY_RESTRICT out) {
  const DF d;
  const Fp8* HWY_RESTRICT in = group.in[0];
  VF even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = hn::Zero(d);
  for (int r = 0; r < kRows; ++r) odd[r] = hn::Zero(d);
  const hn::ScalableTag<uint8_t> d8;
  for (int k = 0; k < head_dim; k += 4) {
    group.Prefetch(k);
    AddPair<kRows>(q + k, head_dim, hn::LoadU(d8, in + k * kPanel), even, odd);
    AddPair<kRows>(q + k + 2, head_dim, hn::LoadU(d8, in + (k + 2) * kPanel), even, odd);
  }
  for (int r = 0; r < kRows; ++r) hn::StoreInterleaved2(even[r], odd[r], d, out + r * kPanel);
}
#endif

template <class T>
struct StoredMeans {
  const PanelGroup<T>& group;
  HWY_INLINE void Prefetch(int k) const { group.Prefetch(k); }
  HWY_INLINE VF operator()(int k, int j) const {
    return LoadFloat(DF(), group.in[j / kPanelVectors] + k * kPanel + j % kPanelVectors * kLanes);
  }
};

struct WideMeans {
  const float* panel;  // [head_dim][kScanVectors][kLanes]
  HWY_INLINE void Prefetch(int) const {}
  HWY_INLINE VF operator()(int k, int j) const {
    return hn::LoadU(DF(), panel + (k * kScanVectors + j) * kLanes);
  }
};

// The means of a group as they are stored.
template <int kRows, class T>
HWY_INLINE void StoredTile(const float* HWY_RESTRICT q, int head_dim, const PanelGroup<T>& group,
                           float* HWY_RESTRICT out) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (std::is_same_v<T, Fp8>) return Fp8PanelTile<kRows>(q, head_dim, group, out);
#endif
  PanelTile<kRows>(q, head_dim, StoredMeans<T>{group}, out);
}

template <class T>
HWY_INLINE void WidenGroup(const PanelGroup<T>& group, int head_dim, float* out) {
  const StoredMeans<T> mean_of{group};
  for (int k = 0; k < head_dim; ++k) {
    if (k % 4 == 0) group.Prefetch(k);
    for (int j = 0; j < kScanVectors; ++j) {
      hn::StoreU(mean_of(k, j), DF(), out + (k * kScanVectors + j) * kLanes);
    }
  }
}

// Sums of `rows` rows with panel `panel` to their log-masses e [rows][e_stride], from a.first.
// sums [rows][stride]; `lift` is what the panel's elements must still be multiplied by.
HWY_INLINE void PutPanel(const cpu::ScanArgs& a, int64_t panel, float lift, int rows,
                         const float* HWY_RESTRICT sums, int stride, float* HWY_RESTRICT e) {
  const int64_t first = panel * kPanel;
  e += first - a.first;
  if (first < a.first || first + kPanel > a.last) {
    for (int64_t m = HWY_MAX(a.first, first); m < HWY_MIN(a.last, first + kPanel); ++m) {
      const float factor = a.scales[m] * lift * a.softmax_scale;
      for (int r = 0; r < rows; ++r) {
        e[r * a.e_stride + m - first] = sums[r * stride + m - first] * factor + a.log_span;
      }
    }
    return;
  }
  const DF d;
  const VF vlift = hn::Set(d, lift), scale = hn::Set(d, a.softmax_scale);
  const VF log_span = hn::Set(d, a.log_span);
  for (int m = 0; m < kPanel; m += static_cast<int>(kLanes)) {
    const VF factor = hn::Mul(hn::Mul(hn::LoadU(d, a.scales + first + m), vlift), scale);
    for (int r = 0; r < rows; ++r) {
      const VF score = hn::Mul(hn::LoadU(d, sums + r * stride + m), factor);
      hn::StoreU(hn::Add(score, log_span), d, e + r * a.e_stride + m);
    }
  }
}

template <class T>
HWY_INLINE void ScanGroup(const cpu::ScanArgs& a, const int32_t* panels, int count,
                          const PanelGroup<T>& group) {
  HWY_ALIGN float sums[HWY_MAX(kScanRows, kWideRows) * kScanPanels * kPanel];
  constexpr float kLift = std::is_same_v<T, Fp8> ? kFp8Lift : 1.0f;
  const auto put = [&](int row, int rows) HWY_ATTR {
    for (int j = 0; j < count; ++j) {
      PutPanel(a, panels[j], kLift, rows, sums + j * kPanel, kScanPanels * kPanel,
               a.e + row * a.e_stride);
    }
  };
  if (a.rows <= kScanRows) {
    WithRows<kScanRows>(a.rows, [&](auto k) HWY_ATTR {
      StoredTile<decltype(k)::value>(a.q, a.head_dim, group, sums);
    });
    return put(0, a.rows);
  }
  // Many rows share means that are widened once.
  WidenGroup(group, a.head_dim, a.panel);
  for (int row = 0; row < a.rows; row += kWideRows) {
    const int rows = HWY_MIN(kWideRows, a.rows - row);
    WithRows<kWideRows>(rows, [&](auto k) HWY_ATTR {
      PanelTile<decltype(k)::value>(a.q + int64_t{row} * a.head_dim, a.head_dim, WideMeans{a.panel},
                                    sums);
    });
    put(row, rows);
  }
}

template <class T>
void ScanOf(const cpu::ScanArgs& a) {
  int32_t panels[cpu::kMostPanels];
  const int count = cpu::ListPanels(a, panels);
  const auto at = [&](int i) {
    return static_cast<const T*>(a.means) +
           int64_t{panels[HWY_MIN(i, count - 1)]} * kPanel * a.head_dim;
  };
  for (int i = 0; i < count; i += kScanPanels) {
    PanelGroup<T> group;
    for (int j = 0; j < kScanPanels; ++j) group.in[j] = at(i + j);
    for (int j = 0; j < kScanPanels; ++j) group.next[j] = at(i + kScanPanels + j);
    ScanGroup(a, panels + i, HWY_MIN(kScanPanels, count - i), group);
  }
}

void Scan(const cpu::ScanArgs& a) {
  if (a.fp8) {
    ScanOf<Fp8>(a);
  } else {
    ScanOf<Bf16>(a);
  }
}

// Pairs of means: the case of every preset with groups of 8.
HWY_INLINE float PairMasses(const float* e, int64_t items, float max, float* mass) {
  const DF d;
  const VF shift = hn::Set(d, max);
  VF sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= items; i += kLanes) {
    VF a, b;
    hn::LoadInterleaved2(d, e + 2 * i, a, b);
    const VF m = hn::Add(Exp(d, hn::Sub(a, shift)), Exp(d, hn::Sub(b, shift)));
    hn::StoreU(m, d, mass + i);
    sum = hn::Add(sum, m);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  if (i < items) {
    HWY_ALIGN float rest[2 * kLanes];
    for (size_t j = 0; j < 2 * kLanes; ++j) {
      rest[j] = 2 * i + static_cast<int64_t>(j) < 2 * items ? e[2 * i + j] : -HUGE_VALF;
    }
    VF a, b;
    hn::LoadInterleaved2(d, rest, a, b);
    hn::Store(hn::Add(Exp(d, hn::Sub(a, shift)), Exp(d, hn::Sub(b, shift))), d, rest);
    for (int64_t j = 0; i + j < items; ++j) {
      mass[i + j] = rest[j];
      total += rest[j];
    }
  }
  return total;
}

cpu::MassResult Masses(float* e, int64_t n, int per_item, float* mass) {
  const float max = MaxOf(e, static_cast<size_t>(n));
  const int64_t items = n / per_item;
  if (!(max > -HUGE_VALF)) {
    std::memset(mass, 0, sizeof(float) * static_cast<size_t>(items));
    return {-HUGE_VALF, 0.0f};
  }
  if (per_item == 2) return {max, PairMasses(e, items, max, mass)};
  const float sum = ExpSum(e, static_cast<size_t>(n), 1.0f, max);
  if (per_item == 1) {
    std::memcpy(mass, e, sizeof(float) * static_cast<size_t>(n));
    return {max, sum};
  }
  float total = 0;
  for (int64_t i = 0; i < items; ++i) {
    float m = 0;
    for (int j = 0; j < per_item; ++j) m += e[i * per_item + j];
    mass[i] = m;
    total += m;
  }
  return {max, total};
}

// Value means that stay in the first cache while every row and column meets them.
constexpr int kTailTile = 64;

// Rows of a tile of value means: neighbours, or those an index names.
template <int kDim, class V>
struct ValueRows {
  const V* values;
  const int32_t* index;  // null: neighbours
  HWY_INLINE const V* operator()(int64_t i) const {
    return values + (index == nullptr ? i : int64_t{index[i]}) * kDim;
  }
  ValueRows From(int64_t i) const {
    return index == nullptr ? ValueRows{values + i * kDim, nullptr} : ValueRows{values, index + i};
  }
};

// A tile, and the one after it, which is asked for while this one is used.
template <int kDim, class V>
struct ValueTile {
  ValueRows<kDim, V> rows, next;
  int count, next_count;
  HWY_INLINE void Prefetch(int i, int x) const {
    if (i < next_count) __builtin_prefetch(next(i) + x, 0, 3);
  }
  HWY_INLINE void PrefetchRow(int i) const {
    for (int x = 0; x < kDim; x += 64 / static_cast<int>(sizeof(V))) Prefetch(i, x);
  }
};

#if HWY_TARGET == HWY_AVX2
// SumTile over FP8 rows, 16 elements of two rows a load.
template <int kRows, int kDim, bool kIndexed>
HWY_NOINLINE void Fp8SumTile(const float* HWY_RESTRICT w, int64_t w_stride,
                             const ValueTile<kDim, Fp8>& tile, float* HWY_RESTRICT out) {
  const DF d;
  const hn::ScalableTag<uint8_t> d32;
  const hn::Half<decltype(d32)> d16;
  constexpr int kShare = kDim / 16;  // one row of the next tile is asked for per so many of this
  for (int x = 0; x < kDim; x += 16) {
    const auto row = [&](int i) HWY_ATTR {
      return hn::LoadU(d16, (kIndexed ? tile.rows(i) : tile.rows.values + i * kDim) + x);
    };
    VF even[kRows], odd[kRows];
    for (int r = 0; r < kRows; ++r) hn::LoadInterleaved2(d, out + r * kDim + x, even[r], odd[r]);
    for (int first = 0; first < tile.count; first += kShare) {
      tile.PrefetchRow((x * kTailTile / 16 + first) / kShare);
      const int last = HWY_MIN(tile.count, first + kShare);
      int i = first;
      for (; i + 2 <= last; i += 2) {
        AddPair<kRows>(w + i, w_stride, hn::Combine(d32, row(i + 1), row(i)), even, odd);
      }
      if (i == last) continue;
      const EvenOdd values = ToF16(hn::ZeroExtendVector(d32, row(i)));
      AddProducts<kRows>(w + i, w_stride, LowerFloats(values.even), LowerFloats(values.odd), even,
                         odd);
    }
    for (int r = 0; r < kRows; ++r) hn::StoreInterleaved2(even[r], odd[r], d, out + r * kDim + x);
  }
}
#endif

template <int kRows, int kDim, class V>
HWY_INLINE void AddValues(const float* w, int64_t w_stride, const ValueTile<kDim, V>& tile,
                          float* out) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (std::is_same_v<V, Fp8>) {
    if (tile.rows.index != nullptr) return Fp8SumTile<kRows, kDim, true>(w, w_stride, tile, out);
    return Fp8SumTile<kRows, kDim, false>(w, w_stride, tile, out);
  }
#endif
  SumTile<kRows, kDim>(
      w, static_cast<size_t>(w_stride), static_cast<size_t>(tile.count),
      [&tile](size_t i, int x) HWY_ATTR {
        tile.Prefetch(static_cast<int>(i), x);
        return tile.rows(static_cast<int64_t>(i)) + x;
      },
      out, kDim);
}

// Adds a tile that starts with value `first` to every row.
template <int kDim, class V>
HWY_INLINE void TailTile(const cpu::TailArgs& a, int64_t first, const ValueTile<kDim, V>& tile) {
  for (int row = 0; row < a.rows; row += kSumRows) {
    const float* w = a.weight + row * a.weight_stride + first;
    float* out = a.out + int64_t{row} * kDim;
    WithRows<kSumRows>(HWY_MIN(kSumRows, a.rows - row), [&](auto k) HWY_ATTR {
      AddValues<decltype(k)::value>(w, a.weight_stride, tile, out);
    });
  }
}

// Few rows read the value means as stored; many share a widened tile. Both add i in order.
template <int kDim, class T>
void TailOf(const cpu::TailArgs& a) {
  const ValueRows<kDim, T> all{static_cast<const T*>(a.values), a.index};
  const auto count_at = [&a](int64_t first) {
    return static_cast<int>(HWY_MAX(int64_t{0}, HWY_MIN(int64_t{kTailTile}, a.count - first)));
  };
  const bool widen = a.rows > kSumRows && a.index == nullptr;
  for (int64_t first = 0; first < a.count; first += kTailTile) {
    const int64_t next = first + kTailTile;
    const int count = count_at(first);
    const ValueTile<kDim, T> stored{all.From(first), all.From(HWY_MIN(next, a.count)), count,
                                    count_at(next)};
    if (widen) {
      for (int i = 0; i < kTailTile; ++i) stored.PrefetchRow(i);
      Widen(all(first), static_cast<size_t>(count * kDim), 1.0f, a.tile);
      const ValueRows<kDim, float> wide{a.tile, nullptr};
      TailTile(a, first, ValueTile<kDim, float>{wide, wide, count, 0});
    } else {
      TailTile(a, first, stored);
    }
  }
}

void Tail(const cpu::TailArgs& a) {
  if (a.head_dim == 128) {
    a.fp8 ? TailOf<128, Fp8>(a) : TailOf<128, Bf16>(a);
  } else {
    a.fp8 ? TailOf<64, Fp8>(a) : TailOf<64, Bf16>(a);
  }
}

void Scaled(const float* x, int64_t n, float factor, bool add, float* y) {
  if (add) return AddScaled(x, static_cast<size_t>(n), factor, y);
  const DF d;
  const VF f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), f), d, y + i);
  }
  for (; i < n; ++i) y[i] = x[i] * factor;
}

float Spans(const float* mass, int64_t spans, int per_span, const float* scales, bool fp8,
            float* weight) {
  const DF d;
  const float lift = fp8 ? kFp8Lift : 1.0f;
  const VF vlift = hn::Set(d, lift);
  VF sum = hn::Zero(d);
  int64_t i = 0;
  if (per_span == 2) {
    for (; i + static_cast<int64_t>(kLanes) <= spans; i += kLanes) {
      VF a, b;
      hn::LoadInterleaved2(d, mass + 2 * i, a, b);
      const VF m = hn::Add(a, b);
      sum = hn::Add(sum, m);
      hn::StoreU(hn::Mul(m, hn::Mul(hn::LoadU(d, scales + i), vlift)), d, weight + i);
    }
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < spans; ++i) {
    float m = 0;
    for (int j = 0; j < per_span; ++j) m += mass[i * per_span + j];
    total += m;
    weight[i] = m * (scales[i] * lift);
  }
  return total;
}

int64_t BlockMaxima(const float* scores, int64_t n, float* maxima) {
  const DF d;
  constexpr int64_t kStep = 16 * static_cast<int64_t>(kLanes);
  const VF none = hn::Set(d, -HUGE_VALF);
  int64_t blocks = 0;
  for (int64_t i = 0; i + kStep <= n; i += kStep) {
    VF best = none;
    for (int j = 0; j < 16; ++j) {
      const VF v = hn::LoadU(d, scores + i + j * static_cast<int64_t>(kLanes));
      best = hn::IfThenElse(hn::Gt(v, best), v, best);  // false for NaN
    }
    hn::StoreU(best, d, maxima + blocks);
    blocks += static_cast<int64_t>(kLanes);
  }
  return blocks;
}

int64_t AtLeast(const float* scores, int64_t n, float bound, int32_t* index) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const VF least = hn::Set(d, bound);
  int64_t found = 0, i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) {
    const auto keep = hn::Ge(hn::LoadU(d, scores + i), least);
    if (hn::AllFalse(d, keep)) continue;
    const auto at = hn::Iota(di, static_cast<int32_t>(i));
    found +=
        static_cast<int64_t>(hn::CompressStore(at, hn::RebindMask(di, keep), di, index + found));
  }
  for (; i < n; ++i) {
    if (scores[i] >= bound) index[found++] = static_cast<int32_t>(i);
  }
  return found;
}

}  // namespace

const cpu::ScanKernels kScanKernels = {BlockMaxima, AtLeast, Scan, Masses, Tail, Scaled, Spans};

}  // namespace HWY_NAMESPACE
}  // namespace hga
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hga::cpu {
HGA_DEFINE_KERNEL_GETTER(ScanKernels, ScanKernelsFor, kScanKernels)
}  // namespace hga::cpu
#endif
