// SPDX-License-Identifier: Apache-2.0
// Matrix products with weights in stored precision, norms, RoPE and the other dense elementwise
// ops.
#include <cmath>
#include <cstring>

#include "cpu/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/linear.cc"
#include "hwy/foreach_target.h"
// after foreach_target
#include "cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hga {
namespace HWY_NAMESPACE {
namespace {

// Pointers to four outputs' weights; past the end the last one again (its sum is thrown away).
template <class T>
HWY_INLINE void Columns(const T* w, int64_t cols, int64_t n, int64_t n1, const T* (&b)[4]) {
  for (int64_t c = 0; c < 4; ++c) b[c] = w + (n + c < n1 ? n + c : n1 - 1) * cols;
}

// Writes the sums of kRows x 4 outputs that exist.
HWY_INLINE void PutSums(const float* sums, const LinearParams& p, int row, int rows, int64_t n,
                        int64_t n1) {
  for (int r = 0; r < rows; ++r) {
    float* y = p.y + (row + r) * p.y_stride;
    for (int64_t c = 0; c < 4 && n + c < n1; ++c) {
      y[n + c] = p.accumulate ? y[n + c] + sums[r * 4 + c] : sums[r * 4 + c];
    }
  }
}

// All rows against outputs [n, n+4) whose weights are b[0..4).
template <bool kScaled, class T>
HWY_INLINE void RowsByFour(const LinearParams& p, int row0, int rows, int64_t n, int64_t n1,
                           const T* const* b, const float* scales) {
  HWY_ALIGN float sums[kDotRows * 4];
  for (int row = row0; row < row0 + rows; row += kDotRows) {
    const int count = HWY_MIN(kDotRows, row0 + rows - row);
    WithRows<kDotRows>(count, [&](auto k) HWY_ATTR {
      constexpr int kRows = decltype(k)::value;
      const float* a[kRows];
      for (int r = 0; r < kRows; ++r) a[r] = p.x + (row + r) * p.x_stride;
      DotTile<kRows, kScaled>(a, b, static_cast<size_t>(p.w.cols), scales, kFp8Lift, sums);
    });
    PutSums(sums, p, row, count, n, n1);
  }
}

// Few rows: weights are read as stored.
template <class T>
void LinearDirect(const LinearParams& p, int row0, int rows, int64_t n0, int64_t n1) {
  constexpr bool kScaled = std::is_same_v<T, Fp8>;
  const T* w = static_cast<const T*>(p.w.data);
  const int64_t scale_cols = (p.w.cols + 127) / 128;
  for (int64_t n = n0; n < n1; n += 4) {
    const T* b[4];
    Columns(w, p.w.cols, n, n1, b);
    const float* scales = kScaled ? p.w.scales + n / 128 * scale_cols : nullptr;
    RowsByFour<kScaled>(p, row0, rows, n, n1, b, scales);
  }
}

// Many rows: a tile of outputs is widened once, then meets every row.
template <class T>
void LinearTiled(const LinearParams& p, int row0, int rows, int64_t n0, int64_t n1,
                 float* scratch) {
  const int64_t cols = p.w.cols, tile = cpu::LinearTileOutputs(cols);
  const T* w = static_cast<const T*>(p.w.data);
  for (int64_t first = n0; first < n1; first += tile) {
    const int64_t last = HWY_MIN(n1, first + tile);
    for (int64_t n = first; n < last; ++n) {
      float* out = scratch + (n - first) * cols;
      if constexpr (std::is_same_v<T, Fp8>) {
        const float* scales = p.w.scales + n / 128 * ((cols + 127) / 128);
        for (int64_t k = 0; k < cols; k += 128) {
          Widen(w + n * cols + k, static_cast<size_t>(HWY_MIN(int64_t{128}, cols - k)),
                scales[k / 128] * kFp8Lift, out + k);
        }
      } else {
        Widen(w + n * cols, static_cast<size_t>(cols), 1.0f, out);
      }
    }
    for (int64_t n = first; n < last; n += 4) {
      const float* b[4];
      Columns<float>(scratch, cols, n - first, last - first, b);
      RowsByFour<false>(p, row0, rows, n, last, b, nullptr);
    }
  }
}

template <class T>
void LinearOf(const LinearParams& p, int row0, int rows, int64_t n0, int64_t n1, float* scratch) {
  if (rows <= kDotRows || std::is_same_v<T, float>) {
    LinearDirect<T>(p, row0, rows, n0, n1);
  } else {
    LinearTiled<T>(p, row0, rows, n0, n1, scratch);
  }
}

void Linear(const LinearParams& p, int row0, int rows, int64_t n0, int64_t n1, float* scratch) {
  switch (p.w.dtype) {
    case Dtype::kF32:
      return LinearOf<float>(p, row0, rows, n0, n1, scratch);
    case Dtype::kF16:
      return LinearOf<hwy::float16_t>(p, row0, rows, n0, n1, scratch);
    case Dtype::kBf16:
      return LinearOf<Bf16>(p, row0, rows, n0, n1, scratch);
    case Dtype::kFp8:
      return LinearOf<Fp8>(p, row0, rows, n0, n1, scratch);
  }
}

// 1 / sqrt(mean of squares + epsilon).
HWY_INLINE float InverseRms(const float* x, int width, float epsilon) {
  const DF d;
  VF sum = hn::Zero(d);
  int i = 0;
  for (; i + static_cast<int>(kLanes) <= width; i += kLanes) {
    const VF v = hn::LoadU(d, x + i);
    sum = hn::MulAdd(v, v, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < width; ++i) total += x[i] * x[i];
  return 1.0f / std::sqrt(total / static_cast<float>(width) + epsilon);
}

HWY_INLINE void NormRow(const float* x, const float* weight, int width, float epsilon, float* y) {
  const DF d;
  const float inverse = InverseRms(x, width, epsilon);
  const VF factor = hn::Set(d, inverse);
  int i = 0;
  for (; i + static_cast<int>(kLanes) <= width; i += kLanes) {
    const VF v = hn::Mul(hn::LoadU(d, x + i), factor);
    hn::StoreU(hn::Mul(v, hn::LoadU(d, weight + i)), d, y + i);
  }
  for (; i < width; ++i) y[i] = x[i] * inverse * weight[i];
}

void Norm(const NormParams& p, int row0, int row1) {
  for (int r = row0; r < row1; ++r) {
    NormRow(p.x + int64_t{r} * p.width, p.weight, p.width, p.epsilon, p.y + int64_t{r} * p.width);
  }
}

// Half-split pairs (i, i + n/2) of x turned by the angles of cos and sin.
HWY_INLINE void Turn(float* x, const float* cos, const float* sin, int head_dim) {
  const DF d;
  const int half = head_dim / 2;
  for (int i = 0; i < half; i += kLanes) {
    const VF a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    const VF c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + i);
  }
}

HWY_INLINE void NormTurn(float* x, const float* norm, float epsilon, const float* cos,
                         const float* sin, int head_dim) {
  if (norm != nullptr) NormRow(x, norm, head_dim, epsilon, x);
  Turn(x, cos, sin, head_dim);
}

void Rotate(const RotateParams& p, int row0, int row1) {
  const int dim = p.shape.head_dim, kv = p.shape.kv_heads;
  for (int r = row0; r < row1; ++r) {
    const float* cos = p.cos + int64_t{r} * (dim / 2);
    const float* sin = p.sin + int64_t{r} * (dim / 2);
    for (int h = 0; h < p.shape.heads; ++h) {
      float* q = p.q + (int64_t{r} * p.shape.heads + h) * dim;
      NormTurn(q, p.q_norm, p.epsilon, cos, sin, dim);
      for (int i = 0; i < dim; ++i) q[i] = Bf16ToFloat(FloatToBf16(q[i]));
    }
    for (int h = 0; h < kv; ++h) {
      HWY_ALIGN float k[256];
      std::memcpy(k, p.k + (int64_t{r} * kv + h) * dim, sizeof(float) * dim);
      NormTurn(k, p.k_norm, p.epsilon, cos, sin, dim);
      const float* v = p.v + (int64_t{r} * kv + h) * dim;
      Bf16* k_out = p.k_out[r * kv + h];
      Bf16* v_out = p.v_out[r * kv + h];
      for (int i = 0; i < dim; ++i) k_out[i] = FloatToBf16(k[i]);
      for (int i = 0; i < dim; ++i) v_out[i] = FloatToBf16(v[i]);
    }
  }
}

HWY_INLINE VF SiluOf(DF d, VF g) {
  const VF one = hn::Set(d, 1.0f);
  return hn::Div(g, hn::Add(one, Exp(d, hn::Min(hn::Neg(g), hn::Set(d, 87.0f)))));
}

void Silu(const SiluParams& p, int64_t begin, int64_t end) {
  const DF d;
  int64_t i = begin;
  for (; i + static_cast<int64_t>(kLanes) <= end; i += kLanes) {
    const VF g = SiluOf(d, hn::LoadU(d, p.gate + i));
    hn::StoreU(hn::Mul(g, hn::LoadU(d, p.up + i)), d, p.out + i);
  }
  if (i <
      end) {  // the rest through a full vector, so that an element's bits don't depend on its place
    HWY_ALIGN float gate[kLanes] = {}, up[kLanes] = {};
    std::memcpy(gate, p.gate + i, sizeof(float) * (end - i));
    std::memcpy(up, p.up + i, sizeof(float) * (end - i));
    hn::Store(hn::Mul(SiluOf(d, hn::Load(d, gate)), hn::Load(d, up)), d, gate);
    std::memcpy(p.out + i, gate, sizeof(float) * (end - i));
  }
}

void AddRow(const float* x, int64_t n, float factor, float* y) {
  AddScaled(x, static_cast<size_t>(n), factor, y);
}

void Softmax(float* x, int n) {
  const float sum = ExpSum(x, static_cast<size_t>(n), 1.0f, MaxOf(x, static_cast<size_t>(n)));
  for (int i = 0; i < n; ++i) x[i] /= sum;
}

}  // namespace

const cpu::LinearKernels kLinearKernels = {Linear, Norm, Rotate, Silu, AddRow, Softmax};

}  // namespace HWY_NAMESPACE
}  // namespace hga
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hga::cpu {
HGA_DEFINE_KERNEL_GETTER(LinearKernels, LinearKernelsFor, kLinearKernels)
}  // namespace hga::cpu
#endif
