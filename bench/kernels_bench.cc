// SPDX-License-Identifier: Apache-2.0
// Kernels against their roof: matrix products beside OpenBLAS, dense attention, routing. Run with
// --benchmark_filter=...; HGA_ISA limits the instruction set, OPENBLAS_CORETYPE OpenBLAS's.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "cpu/cpu_backend.h"
#include "spec/layout.h"

namespace hga {
namespace {

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<float> x(n);
  for (float& f : x) f = static_cast<float>(generator() >> 8) * 0x1p-23f - 1.0f;
  return x;
}

std::unique_ptr<Ops> Open(int rows, int64_t context) {
  const char* isa = std::getenv("HGA_ISA");
  auto ops = OpenCpu({1, isa == nullptr ? "" : isa});
  if (!ops.ok()) std::abort();
  OpsLimits limits;
  limits.shape = {8, 2, 128};
  limits.rows = rows;
  limits.context = context;
  limits.hidden = 4096;
  limits.ffn_width = 4096;
  if (!ops.value()->Prepare(limits).ok()) std::abort();
  return std::move(ops).value();
}

// rows x cols -> outputs with FP8 weights, one thread.
void BM_LinearFp8(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1), outputs = state.range(2);
  auto ops = Open(static_cast<int>(rows), 64);
  const std::vector<float> x = Random(static_cast<size_t>(rows * cols), 1);
  std::vector<Fp8> w(static_cast<size_t>(outputs * cols));
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<Fp8>(i * 37 % 120);
  const std::vector<float> scales(w.size() / 128 + 1, 0.01f);
  std::vector<float> y(static_cast<size_t>(rows * outputs));
  const LinearParams p = {x.data(),
                          cols,
                          static_cast<int>(rows),
                          {w.data(), Dtype::kFp8, outputs, cols, scales.data()},
                          y.data(),
                          outputs,
                          false};
  for (auto _ : state) ops->Linear({&p, 1});
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(rows * cols * outputs),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(w.size()),
                                              benchmark::Counter::kIsIterationInvariantRate);
}

// The same product of widened weights by OpenBLAS: the roof of the rows above.
void BM_OpenBlas(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0)), cols = static_cast<int>(state.range(1));
  const int outputs = static_cast<int>(state.range(2));
  const std::vector<float> x = Random(static_cast<size_t>(rows) * static_cast<size_t>(cols), 1);
  const std::vector<float> w = Random(static_cast<size_t>(outputs) * static_cast<size_t>(cols), 2);
  std::vector<float> y(static_cast<size_t>(rows) * static_cast<size_t>(outputs));
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, outputs, cols, 1.0f, x.data(), cols,
                w.data(), cols, 0.0f, y.data(), outputs);
  }
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * rows * cols * static_cast<double>(outputs),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void Shapes(benchmark::internal::Benchmark* b) {
  // hga-mini's q, o, expert gate and down; the 30B model's q, gate and down.
  for (int rows : {1, 64, 256}) {
    b->Args({rows, 384, 1024})->Args({rows, 1024, 384})->Args({rows, 384, 128});
    b->Args({rows, 128, 384})->Args({rows, 2048, 4096})->Args({rows, 768, 2048});
  }
}
BENCHMARK(BM_LinearFp8)->Apply(Shapes);
BENCHMARK(BM_OpenBlas)->Apply(Shapes);

// Dense attention of `queries` queries after `context` tokens, 8 heads over 2 KV heads of 128.
void BM_AttendDense(benchmark::State& state) {
  const int queries = static_cast<int>(state.range(0));
  const int64_t context = state.range(1), cells = context / spec::kCell;
  auto ops = Open(queries, context);
  const int64_t elements = spec::CellElements(128);
  std::vector<Bf16> kv(static_cast<size_t>(2 * cells * elements));
  for (size_t i = 0; i < kv.size(); ++i)
    kv[i] = FloatToBf16(static_cast<float>(i % 17) * 0.1f - 0.8f);
  std::vector<const Bf16*> table;
  for (int64_t c = 0; c < 2 * cells; ++c) table.push_back(kv.data() + c * elements);
  const std::vector<float> q = Random(static_cast<size_t>(queries) * 1024, 3);
  std::vector<float> out(q.size());
  AttendDenseParams p;
  p.shape = {8, 2, 128};
  p.q = q.data();
  p.queries = queries;
  p.first_position = context - queries;
  p.kv = {table.data(), cells};
  p.out = out.data();
  for (auto _ : state) ops->AttendDense(p);
  state.counters["GFLOP/s"] =
      benchmark::Counter(4e-9 * 1024 * queries * static_cast<double>(context),
                         benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(kv.size() * sizeof(Bf16)),
                                              benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_AttendDense)->Args({256, 4096})->Args({256, 16384})->Args({1, 4096})->Args({1, 65536});

}  // namespace
}  // namespace hga

BENCHMARK_MAIN();
