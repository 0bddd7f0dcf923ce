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
constexpr int kScanVectors = kScanPanels * kPanelVectors;

// Dot products of kRows rows with kScanPanels panels, each lane one key mean that adds its
// dimensions in order. `mean(k, j)` is vector j of dimension k.
template <int kRows, class Means>
HWY_INLINE void PanelTile(const float* HWY_RESTRICT q, int head_dim, const Means& mean_of,
                          float* HWY_RESTRICT out) {
  const DF d;
  VF acc[kRows][kScanVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kScanVectors; ++j) acc[r][j] = hn::Zero(d);
  }
  for (int k = 0; k < head_dim; ++k) {
    VF mean[kScanVectors];
    for (int j = 0; j < kScanVectors; ++j) mean[j] = mean_of(k, j);
    for (int r = 0; r < kRows; ++r) {
      const VF x = hn::Set(d, q[r * head_dim + k]);
      for (int j = 0; j < kScanVectors; ++j) acc[r][j] = hn::MulAdd(x, mean[j], acc[r][j]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int j = 0; j < kScanVectors; ++j) {
      hn::StoreU(acc[r][j], d, out + (r * kScanVectors + j) * kLanes);
    }
  }
}

// Widens the panels that hold means [mean, mean + 16 kScanPanels), side by side; panels at or past
// `panels` are left as they are (their sums are thrown away).
template <class T>
HWY_INLINE void WidenPanels(const T* means, int64_t first_panel, int64_t panels, int head_dim,
                            float* out) {
  const DF d;
  for (int j = 0; j < kScanPanels && first_panel + j < panels; ++j) {
    const T* in = means + (first_panel + j) * kPanel * head_dim;
    const bool more = first_panel + j + kScanPanels < panels;
    for (int k = 0; k < head_dim; ++k) {
      if (more) __builtin_prefetch(in + kScanPanels * kPanel * head_dim + k * kPanel, 0, 2);
      for (int v = 0; v < kPanelVectors; ++v) {
        hn::StoreU(LoadFloat(d, in + k * kPanel + v * kLanes), d,
                   out + ((k * kScanPanels + j) * kPanelVectors + v) * kLanes);
      }
    }
  }
}

template <class T>
void ScanOf(const cpu::ScanArgs& a) {
  const float lift = std::is_same_v<T, Fp8> ? kFp8Lift : 1.0f;
  const T* means = static_cast<const T*>(a.means);
  const int64_t first_panel = a.first / kPanel, panels = spec::CeilDiv(a.last, kPanel);
  HWY_ALIGN float sums[kScanRows * kScanPanels * kPanel];
  HWY_ALIGN float factor[kScanPanels * kPanel];
  for (int64_t panel = first_panel; panel < panels; panel += kScanPanels) {
    if (a.skip_panel != nullptr) {
      bool skip = true;
      for (int j = 0; j < kScanPanels && panel + j < panels; ++j) {
        skip = skip && a.skip_panel[panel + j - first_panel];
      }
      if (skip) continue;
    }
    const bool widen = a.rows > kScanRows;
    if (widen) WidenPanels(means, panel, panels, a.head_dim, a.panel);
    // A panel past the end is the last one again; its sums are thrown away.
    const T* stored[kScanPanels];
    for (int j = 0; j < kScanPanels; ++j) {
      stored[j] = means + HWY_MIN(panel + j, panels - 1) * kPanel * a.head_dim;
    }
    const int64_t ahead = panel + 2 * kScanPanels <= panels ? kScanPanels * kPanel * a.head_dim : 0;
    const int64_t begin = HWY_MAX(a.first, panel * kPanel);
    const int64_t end = HWY_MIN(a.last, (panel + kScanPanels) * kPanel);
    for (int64_t m = begin; m < end; ++m) {
      factor[m - panel * kPanel] = a.scales[m] * lift * a.softmax_scale;
    }
    for (int row = 0; row < a.rows; row += kScanRows) {
      const int rows = HWY_MIN(kScanRows, a.rows - row);
      const float* q = a.q + int64_t{row} * a.head_dim;
      WithRows<kScanRows>(rows, [&](auto k) HWY_ATTR {
        const DF d;
        if (widen) {
          PanelTile<decltype(k)::value>(
              q, a.head_dim,
              [&](int dim, int j)
                  HWY_ATTR { return hn::LoadU(d, a.panel + (dim * kScanVectors + j) * kLanes); },
              sums);
          return;
        }
        PanelTile<decltype(k)::value>(
            q, a.head_dim,
            [&](int dim, int j) HWY_ATTR {
              const T* at = stored[j / kPanelVectors] + dim * kPanel + j % kPanelVectors * kLanes;
              __builtin_prefetch(at + ahead, 0, 3);
              return LoadFloat(d, at);
            },
            sums);
      });
      for (int r = 0; r < rows; ++r) {
        const float* sum = sums + r * kScanPanels * kPanel - panel * kPanel;
        const float* f = factor - panel * kPanel;
        float* e = a.e + (row + r) * a.e_stride - a.first;
        for (int64_t m = begin; m < end; ++m) e[m] = sum[m] * f[m] + a.log_span;
      }
    }
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

template <int kDim, class V>
HWY_INLINE void TailRows(const cpu::TailArgs& a, int64_t first, int64_t count, const V* values) {
  for (int row = 0; row < a.rows; row += kSumRows) {
    const float* w = a.weight + row * a.weight_stride + first;
    WithRows<kSumRows>(HWY_MIN(kSumRows, a.rows - row), [&](auto k) HWY_ATTR {
      SumTile<decltype(k)::value, kDim>(
          w, static_cast<size_t>(a.weight_stride), static_cast<size_t>(count),
          [values](size_t i, int x) HWY_ATTR { return values + i * kDim + x; },
          a.out + int64_t{row} * kDim, kDim);
    });
  }
}

template <int kDim, class T>
HWY_INLINE void TailIndexed(const cpu::TailArgs& a, const T* values) {
  for (int row = 0; row < a.rows; row += kSumRows) {
    WithRows<kSumRows>(HWY_MIN(kSumRows, a.rows - row), [&](auto k) HWY_ATTR {
      SumTile<decltype(k)::value, kDim>(
          a.weight + row * a.weight_stride, static_cast<size_t>(a.weight_stride),
          static_cast<size_t>(a.count),
          [values, &a](size_t i, int x)
              HWY_ATTR { return values + int64_t{a.index[i]} * kDim + x; },
          a.out + int64_t{row} * kDim, kDim);
    });
  }
}

// Few rows read the value means as stored; many share a widened tile. Both add i in order.
template <int kDim, class T>
void TailOf(const cpu::TailArgs& a) {
  const T* values = static_cast<const T*>(a.values);
  if (a.index != nullptr) return TailIndexed<kDim>(a, values);
  if (a.rows <= kSumRows) return TailRows<kDim>(a, 0, a.count, values);
  for (int64_t first = 0; first < a.count; first += 64) {
    const int64_t count = HWY_MIN(int64_t{64}, a.count - first);
    Widen(values + first * kDim, static_cast<size_t>(count * kDim), 1.0f, a.tile);
    TailRows<kDim, float>(a, first, count, a.tile);
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
