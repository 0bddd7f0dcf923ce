// SPDX-License-Identifier: Apache-2.0
// Exact attention over tiles of tokens and over opened groups, per instruction set.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "cpu/dispatch.h"
#include "spec/layout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attend.cc"
#include "hwy/foreach_target.h"
// after foreach_target
#include "cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hga {
namespace HWY_NAMESPACE {
namespace {

constexpr int kTile = spec::kChunk;
constexpr int kCell = spec::kCell;

HWY_INLINE float ExpOf(float x) {
  const DF d;
  return hn::GetLane(Exp(d, hn::Set(d, x)));
}

// A tile's tokens widened to float32: keys [64][kDim], values [64][kDim].
template <int kDim>
struct WideTile {
  const float* keys;
  const float* values;
  HWY_INLINE const float* Key(int i) const { return keys + i * kDim; }
  HWY_INLINE const float* Value(size_t i, int x) const { return values + i * kDim + x; }
  HWY_INLINE void PrefetchKeys(int) const {}
};

// Asks for the lines of kCount elements.
template <int kCount>
HWY_INLINE void Prefetch(const Bf16* p) {
  for (int i = 0; i < kCount; i += 32) __builtin_prefetch(p + i, 0, 3);
}
// Elements of a value row that SumTile takes at a time.
constexpr int kSumElements = static_cast<int>(kLanes) * kSumVectors;

// A tile's tokens where they are stored.
template <int kDim>
struct StoredTile {
  const Bf16* const* cells;
  const Bf16* const* next;  // the cells of the tile after this one; null: none
  // A cell is a page: the hardware's own prefetching ends with it, so the next tile's keys are
  // asked for while this one's keys are used, and its values with the values: an even stream.
  HWY_INLINE void PrefetchKeys(int i) const {
    if (next != nullptr) Prefetch<4 * kDim>(next[i / kCell] + i % kCell * kDim);
  }
  HWY_INLINE const Bf16* Key(int i) const { return cells[i / kCell] + i % kCell * kDim; }
  HWY_INLINE const Bf16* Value(size_t i, int x) const {
    const size_t at = (kCell + i % kCell) * kDim + static_cast<size_t>(x);
    if (next != nullptr) Prefetch<kSumElements>(next[i / kCell] + at);
    return cells[i / kCell] + at;
  }
};

// scores[r][0..tokens) = q[r] . key for `rows` rows; past `tokens` up to a multiple of 4 junk.
template <int kDim, class Tile>
HWY_INLINE void Scores(const float* q, int rows, const Tile& tile, int tokens, float* scores,
                       size_t stride) {
  using T = std::remove_cv_t<std::remove_pointer_t<decltype(tile.Key(0))>>;
  HWY_ALIGN float sums[kDotRows * 4];
  for (int row = 0; row < rows; row += kDotRows) {
    const int count = HWY_MIN(kDotRows, rows - row);
    WithRows<kDotRows>(count, [&](auto k) HWY_ATTR {
      constexpr int kRows = decltype(k)::value;
      const float* a[kRows];
      for (int r = 0; r < kRows; ++r) a[r] = q + (row + r) * kDim;
      for (int i = 0; i < tokens; i += 4) {
        if (row == 0) tile.PrefetchKeys(i);
        const T* b[4];
        for (int c = 0; c < 4; ++c) b[c] = tile.Key(HWY_MIN(i + c, tokens - 1));
        DotTile<kRows, false>(a, b, kDim, nullptr, 1.0f, sums);
        for (int r = 0; r < kRows; ++r) {
          std::memcpy(scores + (row + r) * stride + i, sums + r * 4, 4 * sizeof(float));
        }
      }
    });
  }
}

// Scores of one row to weights relative to its new maximum; the state's old part is rescaled.
HWY_INLINE void UpdateRow(const cpu::TilesArgs& a, int row, int64_t visible, float* s) {
  float* max = a.state.max + row;
  float* sum = a.state.sum + row;
  const float top = MaxOf(s, static_cast<size_t>(visible)) * a.scale;
  const float next = top > *max ? top : *max;
  const float alpha = *max > -HUGE_VALF ? ExpOf(*max - next) : 0.0f;
  *sum = *sum * alpha + ExpSum(s, static_cast<size_t>(visible), a.scale, next);
  if (alpha != 1.0f) Scale(a.state.out + int64_t{row} * a.head_dim, a.head_dim, alpha);
  *max = next;
}

template <int kDim, class Tile>
HWY_INLINE void AddTile(const cpu::TilesArgs& a, const Tile& tile, int64_t first, int tokens) {
  Scores<kDim>(a.q, a.rows, tile, tokens, a.scores, kTile);
  // Rows of one sum tile must see the same tokens: values a row must not see are never read for it.
  const bool ragged = a.limits != nullptr && a.limits[0] < first + tokens;
  int step = kSumRows;
  while (ragged && a.rows_per_query % step != 0) step /= 2;
  for (int row = 0; row < a.rows; row += step) {
    const int count = HWY_MIN(step, a.rows - row);
    int64_t visible = tokens;
    for (int r = row; r < row + count; ++r) {
      if (a.limits != nullptr) visible = HWY_MIN(tokens, a.limits[r / a.rows_per_query] - first);
      if (visible > 0) UpdateRow(a, r, visible, a.scores + int64_t{r} * kTile);
    }
    if (visible <= 0) continue;
    WithRows<kSumRows>(count, [&](auto k) HWY_ATTR {
      SumTile<decltype(k)::value, kDim>(
          a.scores + int64_t{row} * kTile, kTile, static_cast<size_t>(visible),
          [&tile](size_t i, int x) HWY_ATTR { return tile.Value(i, x); },
          a.state.out + int64_t{row} * kDim, kDim);
    });
  }
}

template <int kDim>
void TilesOf(const cpu::TilesArgs& a) {
  for (int64_t first = 0; first < a.tokens; first += kTile) {
    const int tokens = static_cast<int>(HWY_MIN(int64_t{kTile}, a.tokens - first));
    const Bf16* const* cells = a.cells + first / kCell;
    if (a.rows <= 2 * kSumRows) {
      const bool whole_next = first + 2 * kTile <= a.tokens;
      AddTile<kDim>(a, StoredTile<kDim>{cells, whole_next ? cells + kTile / kCell : nullptr}, first,
                    tokens);
      continue;
    }
    float* keys = a.tile;
    float* values = a.tile + kTile * kDim;
    for (int t = 0; t < tokens; t += kCell) {
      const size_t n = static_cast<size_t>(HWY_MIN(kCell, tokens - t)) * kDim;
      Widen(cells[t / kCell], n, 1.0f, keys + t * kDim);
      Widen(cells[t / kCell] + kCell * kDim, n, 1.0f, values + t * kDim);
    }
    AddTile<kDim>(a, WideTile<kDim>{keys, values}, first, tokens);
  }
}

void Tiles(const cpu::TilesArgs& a) {
  if (a.head_dim == 128) {
    TilesOf<128>(a);
  } else {
    TilesOf<64>(a);
  }
}

// Opened groups as one tile of any length.
template <int kDim>
struct Pieces {
  const Bf16* const* pieces;
  int tokens;  // a power of two
  int shift;
  int count;  // of all tokens
  // Rows a few cells ahead: each cell lies somewhere else.
  static constexpr int kAhead = 4 * kCell;
  HWY_INLINE void PrefetchKeys(int i) const {
    for (int c = i + kAhead; c < HWY_MIN(i + kAhead + 4, count); ++c) Prefetch<kDim>(Key(c));
  }
  HWY_INLINE const Bf16* Key(int i) const { return pieces[i >> shift] + (i & (tokens - 1)) * kDim; }
  HWY_INLINE const Bf16* ValueAt(int i) const {
    return pieces[i >> shift] + (kCell + (i & (tokens - 1))) * kDim;
  }
  HWY_INLINE const Bf16* Value(size_t i, int x) const {
    const int at = static_cast<int>(i);
    if (at + kAhead < count) Prefetch<kSumElements>(ValueAt(at + kAhead) + x);
    return ValueAt(at) + x;
  }
};

template <int kDim>
void OpenedOf(const cpu::OpenedArgs& a) {
  const int per_group = a.pieces_per_group * a.piece_tokens, tokens = a.groups * per_group;
  int shift = 0;
  while ((1 << shift) < a.piece_tokens) ++shift;
  const Pieces<kDim> tile{a.pieces, a.piece_tokens, shift, tokens};
  Scores<kDim>(a.q, a.rows, tile, tokens, a.scores, static_cast<size_t>(tokens));
  for (int r = 0; r < a.rows; ++r) {
    float* s = a.scores + int64_t{r} * tokens;
    const float max = MaxOf(s, static_cast<size_t>(tokens)) * a.scale;
    a.state.max[r] = max;
    a.state.sum[r] = ExpSum(s, static_cast<size_t>(tokens), a.scale, max);
    for (int g = 0; g < a.groups; ++g) {
      float mass = 0;
      for (int i = 0; i < per_group; ++i) mass += s[g * per_group + i];
      a.group_mass[int64_t{r} * a.groups + g] = mass;
    }
  }
  std::memset(a.state.out, 0, sizeof(float) * kDim * static_cast<size_t>(a.rows));
  for (int row = 0; row < a.rows; row += kSumRows) {
    WithRows<kSumRows>(HWY_MIN(kSumRows, a.rows - row), [&](auto k) HWY_ATTR {
      SumTile<decltype(k)::value, kDim>(
          a.scores + int64_t{row} * tokens, static_cast<size_t>(tokens),
          static_cast<size_t>(tokens),
          [&tile](size_t i, int x) HWY_ATTR { return tile.Value(i, x); },
          a.state.out + int64_t{row} * kDim, kDim);
    });
  }
}

void Opened(const cpu::OpenedArgs& a) {
  if (a.head_dim == 128) {
    OpenedOf<128>(a);
  } else {
    OpenedOf<64>(a);
  }
}

void Merge(const cpu::SoftmaxState& a, const cpu::SoftmaxState& b, float weight, int rows,
           int head_dim) {
  for (int r = 0; r < rows; ++r) {
    if (!(b.max[r] > -HUGE_VALF)) continue;
    const float max = HWY_MAX(a.max[r], b.max[r]);
    const float fa = a.max[r] > -HUGE_VALF ? ExpOf(a.max[r] - max) : 0.0f;
    const float fb = ExpOf(b.max[r] - max) * weight;
    float* out = a.out + int64_t{r} * head_dim;
    Scale(out, head_dim, fa);
    AddScaled(b.out + int64_t{r} * head_dim, head_dim, fb, out);
    a.sum[r] = a.sum[r] * fa + b.sum[r] * fb;
    a.max[r] = max;
  }
}

void Divide(const cpu::SoftmaxState& state, int rows, int head_dim, float* out) {
  for (int r = 0; r < rows; ++r) {
    const float inverse = 1.0f / state.sum[r];
    for (int i = 0; i < head_dim; ++i) {
      out[r * head_dim + i] = state.out[r * head_dim + i] * inverse;
    }
  }
}

// n / (n + trust) with n = 1 / sum of squared shares of the opened groups.
HWY_INLINE float Confidence(const float* mass, int groups, float sum, float trust) {
  float squares = 0;
  for (int g = 0; g < groups; ++g) {
    const float w = mass[g] / sum;
    squares += w * w;
  }
  const float n = 1.0f / squares;
  return n / (n + trust);
}

void Finish(const cpu::FinishArgs& a) {
  const bool opened = a.opened.max != nullptr;
  HWY_ALIGN float said[256], tail_out[256];
  const int dim = a.head_dim;
  float tail_sum = 0, tail_max = 0;
  if (a.tail != nullptr && a.tail[TailLayout::kSum] > 0) {
    tail_sum = a.tail[TailLayout::kSum];
    tail_max = a.tail[TailLayout::kMax];
    const float inverse = 1.0f / tail_sum;
    for (int i = 0; i < dim; ++i) tail_out[i] = a.tail[TailLayout::Out(dim) + i] * inverse;
    if (opened) {
      const float c = Confidence(a.group_mass, a.groups, a.opened.sum[0], a.trust);
      const float inverse_sum = 1.0f / a.opened.sum[0];
      std::memcpy(said, a.tail + TailLayout::Said(dim), sizeof(float) * dim);
      for (int i = 0; i < dim; ++i) {
        tail_out[i] += c * (a.opened.out[i] * inverse_sum - said[i]);
      }
    }
  }
  if (opened) Merge(a.windows, a.opened, 1.0f, 1, dim);
  if (tail_sum == 0) return Divide(a.windows, 1, dim, a.out);
  const float max = HWY_MAX(a.windows.max[0], tail_max);
  const float fa = ExpOf(a.windows.max[0] - max);
  const float zt = ExpOf(tail_max - max) * tail_sum;
  const float inverse = 1.0f / (a.windows.sum[0] * fa + zt);
  for (int i = 0; i < dim; ++i) {
    a.out[i] = (a.windows.out[i] * fa + zt * tail_out[i]) * inverse;
  }
}

}  // namespace

const cpu::AttendKernels kAttendKernels = {Tiles, Opened, Merge, Finish, Divide};

}  // namespace HWY_NAMESPACE
}  // namespace hga
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hga::cpu {
HGA_DEFINE_KERNEL_GETTER(AttendKernels, AttendKernelsFor, kAttendKernels)
}  // namespace hga::cpu
#endif
