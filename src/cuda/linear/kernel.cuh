// SPDX-License-Identifier: Apache-2.0
// Matrix products: a kernel for few rows, whose warps share the inputs of 16 outputs so that
// weights stream from all over the GPU, and one for many rows, whose warps share staged inputs.
#ifndef HGA_CUDA_LINEAR_KERNEL_CUH_
#define HGA_CUDA_LINEAR_KERNEL_CUH_

#include "cuda/linear/plain.cuh"
#include "cuda/linear/tile.cuh"
#include "cuda/primitives/activation.cuh"

namespace hga::cuda {

// The rows of one thread block's tile, and its weights.
struct RowSet {
  const LinearJob& job;
  const WeightView* w = nullptr;
  const WeightView* gate = nullptr;
  const int32_t* list = nullptr;  // of choices
  int first = 0, count = 0;
  __device__ RowSet(const LinearJob& j, int tile_rows) : job(j), w(&j.w) {
    first = static_cast<int>(blockIdx.y) * tile_rows;
    int all = j.rows;
    if (j.experts != nullptr) {
      const int z = static_cast<int>(blockIdx.z);
      const int expert = j.expert_of != nullptr ? j.expert_of[z] : z;
      w = j.experts + expert;
      gate = j.gates != nullptr ? j.gates + expert : nullptr;
      if (j.expert_of != nullptr) {
        first = z, all = z + 1;
      } else {
        list = j.choices + int64_t{z} * j.rows;
        all = j.counts[z];
      }
    }
    count = min(tile_rows, all - first);
  }
  __device__ int Choice(int r) const { return list != nullptr ? list[first + r] : first + r; }
  // Null past the end.
  __device__ const float* X(int r) const {
    return r < count ? job.x + int64_t{Choice(r) / job.divisor} * job.x_stride : nullptr;
  }
  __device__ void Put(int r, int64_t output, float value) const {
    if (r >= count || output >= job.outputs) return;
    float* y = job.y + int64_t{Choice(r)} * job.y_stride + output;
    *y = job.accumulate ? *y + value : value;
  }
};

// Calls f with the element type of `dtype`.
template <class F>
__device__ inline void WithElement(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::kF32:
      return f(float{});
    case Dtype::kF16:
      return f(F16Bits{});
    case Dtype::kBf16:
      return f(Bf16{});
    case Dtype::kFp8:
      return f(Fp8{});
  }
}
template <class T>
inline constexpr bool kIsPlain = sizeof(T) == 4 || std::is_same_v<T, F16Bits>;

// --- few rows --------------------------------------------------------------------------------

struct FewShared {
  uint2 terms[kFewBlocks * kBlockInputs / 4][3];  // of the inputs, where the tile has one row
  float sums[kFewBlocks][kFewOutputs][kFewRows];  // of one block of inputs each
  float result[2][kFewOutputs][kFewRows];         // product, and the gate's
};

// Splits the inputs of blocks [first, first + n) of the tile's only row; all threads.
__device__ inline void StageRow(const float* x, int64_t cols, int64_t first, int n, FewShared& s) {
  const int tid = static_cast<int>(threadIdx.y) * kWarp + static_cast<int>(threadIdx.x);
  for (int i = tid; i < n * kBlockInputs / 4; i += kWarp * kFewWarps) {
    const int64_t k = first * kBlockInputs + 4 * i;
    float4 v{0.f, 0.f, 0.f, 0.f};
    if (k < cols) v = __ldg(reinterpret_cast<const float4*>(x + k));
    const SplitPair a(v.x, v.y), b(v.z, v.w);
#pragma unroll
    for (int term = 0; term < 3; ++term) s.terms[i][term] = {a.term[term], b.term[term]};
  }
  __syncthreads();
}

// One block of inputs: 16 outputs, 8 rows, a warp. `x` is row g of the tile or null; with kOne its
// terms lie at `terms` and the other rows are zero.
template <class T, bool kOne>
__device__ inline void FewBlock(const WeightView& w, const float* x, const uint2 (*terms)[3],
                                int64_t first_output, int64_t block,
                                float (&out)[kFewOutputs][kFewRows]) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  WeightTile<T> weights;
  weights.Load(w, first_output, block);
  float sum[4] = {};
#pragma unroll
  for (int step = 0; step < kBlockSteps; ++step) {
    uint32_t a[4];
    weights.Operand(step, a);
    if constexpr (kOne) {
#pragma unroll
      for (int term = 2; term >= 0; --term) {
        uint2 b{0u, 0u};
        if (g == 0) b = terms[StepInput<T>(step, t) / 4][term];
        Mma(sum, a, b.x, b.y);
      }
    } else {
      const int64_t k = block * kBlockInputs + StepInput<T>(step, t);
      float4 v{0.f, 0.f, 0.f, 0.f};
      if (x != nullptr && k < w.cols) v = __ldg(reinterpret_cast<const float4*>(x + k));
      const SplitPair first(v.x, v.y), second(v.z, v.w);
#pragma unroll
      for (int term = 2; term >= 0; --term) Mma(sum, a, first.term[term], second.term[term]);
    }
  }
  out[g][2 * t] = sum[0], out[g][2 * t + 1] = sum[1];
  out[g + 8][2 * t] = sum[2], out[g + 8][2 * t + 1] = sum[3];
}

// result = the products of the tile; all threads of the block.
template <class T>
__device__ inline void FewProduct(const WeightView& w, const RowSet& rows, int64_t first_output,
                                  FewShared& s, float (&result)[kFewOutputs][kFewRows]) {
  const int warp = static_cast<int>(threadIdx.y), tid = warp * kWarp + threadIdx.x;
  const int64_t blocks = spec::CeilDiv(w.cols, int64_t{kBlockInputs});
  const float* x = rows.X(static_cast<int>(threadIdx.x) / 4);
  const int output = tid / kFewRows % kFewOutputs, row = tid % kFewRows;
  float total = 0;
  for (int64_t first = 0; first < blocks; first += kFewBlocks) {
    const int n = static_cast<int>(min(int64_t{kFewBlocks}, blocks - first));
    if (rows.count == 1) {
      StageRow(rows.X(0), w.cols, first, n, s);
      for (int b = warp; b < n; b += kFewWarps) {
        FewBlock<T, true>(w, x, s.terms + b * kBlockInputs / 4, first_output, first + b, s.sums[b]);
      }
    } else {
      for (int b = warp; b < n; b += kFewWarps) {
        FewBlock<T, false>(w, x, nullptr, first_output, first + b, s.sums[b]);
      }
    }
    __syncthreads();
    for (int b = 0; b < n; ++b) {
      total = fmaf(s.sums[b][output][row], BlockScale(w, first_output, first + b), total);
    }
    __syncthreads();
  }
  if (tid < kFewOutputs * kFewRows) result[output][row] = total;
}

// The same with plain weights: a warp has two outputs.
template <class T>
__device__ inline void FewPlain(const WeightView& w, const RowSet& rows, int64_t first_output,
                                float (&result)[kFewOutputs][kFewRows]) {
  const int first = static_cast<int>(threadIdx.y) * kPlainOutputs;
  for (int r0 = 0; r0 < kFewRows; r0 += kPlainRows) {
    const float* x[kPlainRows];
#pragma unroll
    for (int r = 0; r < kPlainRows; ++r) x[r] = rows.X(r0 + r);
    float sums[kPlainRows][kPlainOutputs];
    PlainDots<T>(x, w, first_output + first, sums);
    if (threadIdx.x != 0) continue;
#pragma unroll
    for (int r = 0; r < kPlainRows; ++r) {
#pragma unroll
      for (int o = 0; o < kPlainOutputs; ++o) result[first + o][r0 + r] = sums[r][o];
    }
  }
}

// grid (outputs, rows) in tiles and slices of experts, block (32, kFewWarps).
__global__ void __launch_bounds__(kWarp* kFewWarps)
    FewRowsKernel(const __grid_constant__ LinearJob job) {
  __shared__ FewShared s;
  static_assert(kFewWarps * kPlainOutputs == kFewOutputs);
  const RowSet rows(job, kFewRows);
  if (rows.count <= 0) return;
  const int64_t first = int64_t{blockIdx.x} * kFewOutputs;
  for (int m = 0; m < (rows.gate != nullptr ? 2 : 1); ++m) {
    const WeightView w = m == 0 ? *rows.w : *rows.gate;
    WithElement(w.dtype, [&](auto element) {
      using T = decltype(element);
      if constexpr (kIsPlain<T>) {
        FewPlain<T>(w, rows, first, s.result[m]);
      } else {
        FewProduct<T>(w, rows, first, s, s.result[m]);
      }
    });
  }
  __syncthreads();
  const int tid = static_cast<int>(threadIdx.y) * kWarp + static_cast<int>(threadIdx.x);
  if (tid >= kFewOutputs * kFewRows) return;
  const int output = tid % kFewOutputs, row = tid / kFewOutputs;
  const float value = s.result[0][output][row];
  rows.Put(row, first + output,
           rows.gate != nullptr ? SiluTimes(s.result[1][output][row], value) : value);
}

// --- many rows -------------------------------------------------------------------------------

inline constexpr int kTermWords = kBlockInputs / 2 + 2;  // of a row, padded against bank conflicts
inline constexpr int kManyTiles = 2;                     // tiles of 16 outputs of a warp

struct ManyShared {
  uint32_t terms[kManyRows][3][kTermWords];  // of the inputs of one block
  const float* x[kManyRows];                 // null past the end
};

// What a thread stages of one block of inputs: four neighbours of every eighth row.
inline constexpr int kStagedQuads = kManyRows * kBlockInputs / 4 / (kWarp * kManyWarps);
using StagedInputs = float4[kStagedQuads];

// A warp's 32 outputs by 32 rows: [output tile][8 rows][as a matrix product's result].
using ManySums = float[kManyTiles][kManyRows / 8][4];

__device__ inline void LoadInputs(const ManyShared& s, int64_t cols, int64_t block,
                                  StagedInputs& in) {
  const int64_t k = block * kBlockInputs + 4 * static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kStagedQuads; ++i) {
    const float* x = s.x[threadIdx.y + kManyWarps * i];
    in[i] = {0.f, 0.f, 0.f, 0.f};
    if (x != nullptr && k < cols) in[i] = __ldg(reinterpret_cast<const float4*>(x + k));
  }
}

// Splits one block of the tile's inputs into terms; all threads.
__device__ inline void StageInputs(const StagedInputs& in, ManyShared& s) {
#pragma unroll
  for (int i = 0; i < kStagedQuads; ++i) {
    const SplitPair first(in[i].x, in[i].y), second(in[i].z, in[i].w);
#pragma unroll
    for (int term = 0; term < 3; ++term) {
      *reinterpret_cast<uint2*>(&s.terms[threadIdx.y + kManyWarps * i][term][2 * threadIdx.x]) = {
          first.term[term], second.term[term]};
    }
  }
}

template <class T>
__device__ inline void ManyBlock(const WeightTile<T> (&weights)[kManyTiles], const ManyShared& s,
                                 ManySums& sums) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int step = 0; step < kBlockSteps; ++step) {
    uint32_t a[kManyTiles][4];
#pragma unroll
    for (int m = 0; m < kManyTiles; ++m) weights[m].Operand(step, a[m]);
#pragma unroll
    for (int j = 0; j < kManyRows / 8; ++j) {
#pragma unroll
      for (int term = 2; term >= 0; --term) {
        const uint2 b =
            *reinterpret_cast<const uint2*>(&s.terms[8 * j + g][term][StepInput<T>(step, t) / 2]);
#pragma unroll
        for (int m = 0; m < kManyTiles; ++m) Mma(sums[m][j], a[m], b.x, b.y);
      }
    }
  }
}

// totals = the products of the warp's outputs with the tile's rows; all threads of the block.
// The next block's inputs are on their way while this one's are used.
template <class T>
__device__ inline void ManyProduct(const WeightView& w, int64_t first_output, ManyShared& s,
                                   ManySums& totals) {
  static_assert(kBlockInputs == 4 * kWarp);
  const int64_t blocks = spec::CeilDiv(w.cols, int64_t{kBlockInputs});
  StagedInputs inputs;
  LoadInputs(s, w.cols, 0, inputs);
  for (int64_t block = 0; block < blocks; ++block) {
    WeightTile<T> weights[kManyTiles];
#pragma unroll
    for (int m = 0; m < kManyTiles; ++m) {
      weights[m].Load(w, first_output + kTileOutputs * m, block);
    }
    __syncthreads();
    StageInputs(inputs, s);
    __syncthreads();
    if (block + 1 < blocks) LoadInputs(s, w.cols, block + 1, inputs);
    ManySums sums = {};
    ManyBlock(weights, s, sums);
    const int64_t inside = min(first_output, w.rows - 1);
    const float scale = BlockScale(w, inside, block);
#pragma unroll
    for (int i = 0; i < kManyTiles * kManyRows / 2; ++i) {
      float& total = (&totals[0][0][0])[i];
      total = fmaf((&sums[0][0][0])[i], scale, total);
    }
  }
}

template <class T>
__device__ inline void ManyPlain(const WeightView& w, const RowSet& rows, int64_t first_output,
                                 ManySums& totals) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  for (int r0 = 0; r0 < kManyRows; r0 += kPlainRows) {
    const float* x[kPlainRows];
#pragma unroll
    for (int r = 0; r < kPlainRows; ++r) x[r] = rows.X(r0 + r);
    for (int o0 = 0; o0 < 2 * kTileOutputs; o0 += kPlainOutputs) {
      float dots[kPlainRows][kPlainOutputs];
      PlainDots<T>(x, w, first_output + o0, dots);
      // Each lane keeps those of its own place in a matrix product's result.
#pragma unroll
      for (int i = 0; i < kManyTiles * kManyRows / 2; ++i) {
        const int output = i / 16 * 16 + g + 8 * (i % 4 / 2), row = i % 16 / 4 * 8 + 2 * t + i % 2;
#pragma unroll
        for (int k = 0; k < kPlainRows * kPlainOutputs; ++k) {
          if (output == o0 + k % kPlainOutputs && row == r0 + k / kPlainOutputs) {
            (&totals[0][0][0])[i] = dots[k / kPlainOutputs][k % kPlainOutputs];
          }
        }
      }
    }
  }
}

// grid (outputs, rows) in tiles and experts, block (32, kManyWarps).
template <bool kGated>
__global__ void __launch_bounds__(kWarp* kManyWarps)
    ManyRowsKernel(const __grid_constant__ LinearJob job) {
  __shared__ __align__(16) ManyShared s;
  const RowSet rows(job, kManyRows);
  if (rows.count <= 0) return;
  if (threadIdx.y == 0) s.x[threadIdx.x] = rows.X(static_cast<int>(threadIdx.x));
  __syncthreads();
  const int64_t first = int64_t{blockIdx.x} * kManyOutputs + threadIdx.y * 2 * kTileOutputs;
  const auto product = [&](const WeightView& w, ManySums& totals) {
    WithElement(w.dtype, [&](auto element) {
      using T = decltype(element);
      if constexpr (kIsPlain<T>) {
        ManyPlain<T>(w, rows, first, totals);
      } else {
        ManyProduct<T>(w, first, s, totals);
      }
    });
  };
  ManySums totals = {}, gates = {};
  product(*rows.w, totals);
  if constexpr (kGated) product(*rows.gate, gates);
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < kManyTiles * kManyRows / 2; ++i) {
    const float value = (&totals[0][0][0])[i];
    rows.Put(i % 16 / 4 * 8 + 2 * t + i % 2, first + i / 16 * 16 + g + 8 * (i % 4 / 2),
             kGated ? SiluTimes((&gates[0][0][0])[i], value) : value);
  }
}

}  // namespace hga::cuda

#endif  // HGA_CUDA_LINEAR_KERNEL_CUH_
