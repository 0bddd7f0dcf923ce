// SPDX-License-Identifier: Apache-2.0
// Two products per lane and instruction: half the multiplications of the float32 scan, and a table
// in two registers instead of arithmetic to widen E4M3. The Highway that this builds with has no
// target for it, hence intrinsics.
#include "cpu/scan_bf16.h"

#include "base/check.h"
#include "base/dtype.h"

#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC's own headers do it on purpose
#endif
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <type_traits>

#include "cpu/dispatch.h"
#include "hwy/detect_targets.h"

// On functions instead of the file: inline functions of headers stay fit for every machine.
#define HGA_BF16_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")))
#define HGA_BF16_INLINE HGA_BF16_TARGET __attribute__((always_inline)) inline

namespace hga::cpu {
namespace {

constexpr int kPanel = spec::kPanel;
constexpr int kLineDims = 4;  // dimensions of a panel in one cache line
static_assert(kLineDims * kPanel == 64);
// Accumulators of a tile: rows x panels, within the register file and enough to hide latency.
constexpr int kFewRows = 4, kFewPanels = 4;
constexpr int kRows = 8, kPanels = 2;

// The bf16 of an E4M3 code without its sign.
constexpr uint16_t Bf16OfFp8(int code) {
  int exponent = code >> 3, mantissa = code & 7;
  if (code == 0) return 0;
  if (code == 0x7F) return 0x7FC0;
  if (exponent == 0) {
    for (exponent = 1; mantissa < 8; --exponent) mantissa *= 2;
  }
  return static_cast<uint16_t>((exponent + 120) << 7 | (mantissa & 7) << 4);
}

struct Tables {
  alignas(64) std::array<uint8_t, 128> low, high;  // bytes of the bf16 of a code
  // Bytes of a line so that in each quarter the low half holds {dimension 0, 1} of its four means,
  // the high half {dimension 2, 3}.
  alignas(64) std::array<uint8_t, 64> order;
};
constexpr Tables MakeTables() {
  Tables t{};
  for (int code = 0; code < 128; ++code) {
    t.low[static_cast<size_t>(code)] = static_cast<uint8_t>(Bf16OfFp8(code));
    t.high[static_cast<size_t>(code)] = static_cast<uint8_t>(Bf16OfFp8(code) >> 8);
  }
  for (int at = 0; at < 64; ++at) {
    const int quarter = at / 16, dim = at % 16 / 8 * 2 + at % 2, mean = quarter * 4 + at % 8 / 2;
    t.order[static_cast<size_t>(at)] = static_cast<uint8_t>(dim * kPanel + mean);
  }
  return t;
}
constexpr Tables kTables = MakeTables();

struct Lookup {
  __m512i low0, low1, high0, high1, order, sign;
};
HGA_BF16_INLINE Lookup LoadTables() {
  return {_mm512_load_si512(kTables.low.data()),   _mm512_load_si512(kTables.low.data() + 64),
          _mm512_load_si512(kTables.high.data()),  _mm512_load_si512(kTables.high.data() + 64),
          _mm512_load_si512(kTables.order.data()), _mm512_set1_epi8(static_cast<char>(0x80))};
}

// Four dimensions of a panel as pairs per mean: dimensions {0, 1} and {2, 3}.
struct Pairs {
  __m512i first, second;
};
HGA_BF16_INLINE Pairs WidenLine(const Lookup& t, const Fp8* line) {
  const __m512i codes = _mm512_permutexvar_epi8(t.order, _mm512_loadu_si512(line));
  const __m512i low = _mm512_permutex2var_epi8(t.low0, codes, t.low1);
  const __m512i magnitude = _mm512_permutex2var_epi8(t.high0, codes, t.high1);
  // magnitude | (codes & sign)
  const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, t.sign, 0xF8);
  return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
}

HGA_BF16_INLINE __m512 AddProducts(__m512 sum, __m512i means, const Bf16* pair) {
  int32_t q;
  __builtin_memcpy(&q, pair, sizeof(q));
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(means),
                          reinterpret_cast<__m512bh>(_mm512_set1_epi32(q)));
}

// Panels scanned side by side; a place past the last of the scan holds the last one again.
template <int kCount>
struct PanelGroup {
  const int32_t* panels;
  int count;  // of panels from this group on
  const Fp8* in[kCount];
  const Fp8* next[kCount];  // of the group after this one, asked for while `in` is used
};

// Sums of a group's panels with kTileRows rows from `row` on to log-masses.
template <int kTileRows, int kCount>
HGA_BF16_INLINE void Put(const ScanArgs& a, int row, const PanelGroup<kCount>& group,
                         const __m512 (&sum)[kTileRows][kCount]) {
  const __m512 scale = _mm512_set1_ps(a.softmax_scale), log_span = _mm512_set1_ps(a.log_span);
  for (int j = 0; j < kCount && j < group.count; ++j) {
    const int64_t first = int64_t{group.panels[j]} * kPanel;
    const auto before = static_cast<int>(std::max<int64_t>(0, a.first - first));
    const auto lanes = static_cast<int>(std::min<int64_t>(kPanel, a.last - first));
    const auto mask = static_cast<__mmask16>(((1u << lanes) - 1u) & ~((1u << before) - 1u));
    const __m512 factor = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, a.scales + first), scale);
    for (int r = 0; r < kTileRows; ++r) {
      const __m512 e = _mm512_add_ps(_mm512_mul_ps(sum[r][j], factor), log_span);
      _mm512_mask_storeu_ps(a.e + (row + r) * a.e_stride + (first - a.first), mask, e);
    }
  }
}

// Panels as they are stored: for as many rows as one pass takes.
template <int kTileRows, int kCount>
HGA_BF16_TARGET void StoredTile(const ScanArgs& a, const PanelGroup<kCount>& group) {
  const Lookup tables = LoadTables();
  __m512 sum[kTileRows][kCount];
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kCount; ++j) sum[r][j] = _mm512_setzero_ps();
  }
  for (int k = 0; k < a.head_dim; k += kLineDims) {
#pragma GCC unroll 8
    for (int j = 0; j < kCount; ++j) {
      __builtin_prefetch(group.next[j] + k * kPanel, 0, 3);
      const Pairs means = WidenLine(tables, group.in[j] + k * kPanel);
#pragma GCC unroll 8
      for (int r = 0; r < kTileRows; ++r) {
        const Bf16* q = a.narrow + r * a.head_dim + k;
        sum[r][j] = AddProducts(AddProducts(sum[r][j], means.first, q), means.second, q + 2);
      }
    }
  }
  Put(a, 0, group, sum);
}

// Panels as pairs [head_dim / 2][kPanels][16], widened once for many rows.
template <int kTileRows>
HGA_BF16_TARGET void WideTile(const ScanArgs& a, int row, const PanelGroup<kPanels>& group) {
  __m512 sum[kTileRows][kPanels];
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kPanels; ++j) sum[r][j] = _mm512_setzero_ps();
  }
  const Bf16* q = a.narrow + int64_t{row} * a.head_dim;
  for (int k = 0; k < a.head_dim / 2; ++k) {
    const __m512i first = _mm512_loadu_si512(a.panel + (2 * k) * kPanel);
    const __m512i second = _mm512_loadu_si512(a.panel + (2 * k + 1) * kPanel);
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
      sum[r][0] = AddProducts(sum[r][0], first, q + r * a.head_dim + 2 * k);
      sum[r][1] = AddProducts(sum[r][1], second, q + r * a.head_dim + 2 * k);
    }
  }
  Put(a, row, group, sum);
}

HGA_BF16_TARGET void WidenPanels(const ScanArgs& a, const PanelGroup<kPanels>& group) {
  const Lookup tables = LoadTables();
  for (int k = 0; k < a.head_dim; k += kLineDims) {
    for (int j = 0; j < kPanels; ++j) {
      __builtin_prefetch(group.next[j] + k * kPanel, 0, 3);
      const Pairs means = WidenLine(tables, group.in[j] + k * kPanel);
      float* out = a.panel + (k / 2 * kPanels + j) * kPanel;
      _mm512_storeu_si512(out, means.first);
      _mm512_storeu_si512(out + kPanels * kPanel, means.second);
    }
  }
}

// Calls f(std::integral_constant<int, rows>) with 1 <= rows <= kMost.
template <int kMost, class F>
void WithRows(int rows, const F& f) {
  if constexpr (kMost == 1) {
    f(std::integral_constant<int, 1>());
  } else {
    if (rows == kMost) return f(std::integral_constant<int, kMost>());
    WithRows<kMost - 1>(rows, f);
  }
}

// Calls f(group) for the listed panels.
template <int kCount, class F>
void ForGroups(const ScanArgs& a, const int32_t* panels, int count, const F& f) {
  const auto at = [&](int i) {
    const int64_t panel = panels[std::min(i, count - 1)];
    return static_cast<const Fp8*>(a.means) + panel * kPanel * a.head_dim;
  };
  for (int i = 0; i < count; i += kCount) {
    PanelGroup<kCount> group;
    group.panels = panels + i;
    group.count = count - i;
    for (int j = 0; j < kCount; ++j) group.in[j] = at(i + j);
    for (int j = 0; j < kCount; ++j) group.next[j] = at(i + kCount + j);
    f(group);
  }
}

// Queries are bf16 numbers already (section 2 of docs/spec/routing.md): the rest of a float is 0.
HGA_BF16_TARGET void NarrowQueries(const ScanArgs& a) {
  const int64_t n = int64_t{a.rows} * a.head_dim;
  for (int64_t i = 0; i < n; i += 16) {
    const __m512i bits = _mm512_srli_epi32(_mm512_loadu_si512(a.q + i), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a.narrow + i), _mm512_cvtepi32_epi16(bits));
  }
}

}  // namespace

bool HasBf16Dot() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

void ScanBf16(const ScanArgs& a) {
  if (!a.fp8) return ScanKernelsFor(HWY_AVX3).scan(a);
  int32_t list[kMostPanels];
  const int count = ListPanels(a, list);
  NarrowQueries(a);
  if (a.rows <= kFewRows) {
    return WithRows<kFewRows>(a.rows, [&](auto rows) {
      ForGroups<kFewPanels>(
          a, list, count, [&](const auto& group) { StoredTile<decltype(rows)::value>(a, group); });
    });
  }
  if (a.rows <= kRows) {
    return WithRows<kRows>(a.rows, [&](auto rows) {
      ForGroups<kPanels>(a, list, count,
                         [&](const auto& group) { StoredTile<decltype(rows)::value>(a, group); });
    });
  }
  ForGroups<kPanels>(a, list, count, [&](const PanelGroup<kPanels>& group) {
    WidenPanels(a, group);
    for (int row = 0; row < a.rows; row += kRows) {
      WithRows<kRows>(std::min(kRows, a.rows - row),
                      [&](auto rows) { WideTile<decltype(rows)::value>(a, row, group); });
    }
  });
}

}  // namespace hga::cpu

#else

namespace hga::cpu {

bool HasBf16Dot() { return false; }
void ScanBf16(const ScanArgs&) { HGA_CHECK(false); }

}  // namespace hga::cpu

#endif
