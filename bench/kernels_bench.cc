// SPDX-License-Identifier: Apache-2.0
// Kernels against their roof: matrix products beside OpenBLAS, dense attention, routing. Run with
// --benchmark_filter=...; HGA_ISA limits the instruction set, OPENBLAS_CORETYPE OpenBLAS's.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "base/memory.h"
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
void LinearFp8(benchmark::State& state) {
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
void OpenBlas(benchmark::State& state) {
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
BENCHMARK(LinearFp8)->Apply(Shapes);
BENCHMARK(OpenBlas)->Apply(Shapes);

// K/V of one layer, 2 KV heads of 128, and what attention needs to see it.
struct History {
  explicit History(int64_t context) : cells(context / spec::kCell) {
    const int64_t elements = spec::CellElements(128);
    kv = Array<Bf16>::Make(static_cast<size_t>(2 * cells * elements)).value();
    for (size_t i = 0; i < kv.size(); ++i) {
      kv[i] = FloatToBf16(static_cast<float>(i * 7 % 17) * 0.1f - 0.8f);
    }
    // As in a record: the cells of a chunk's first head, then those of its second.
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t c = 0; c < cells; ++c) {
        const int64_t chunk = c / spec::kCellsPerChunk;
        const int64_t at = (chunk * 2 + head) * spec::kCellsPerChunk + c % spec::kCellsPerChunk;
        table.push_back(kv.data() + at * elements);
      }
    }
  }
  template <class P>
  void Fill(const std::vector<float>& q, int queries, std::vector<float>* out, P* p) const {
    p->shape = {8, 2, 128};
    p->q = q.data();
    p->queries = queries;
    p->first_position = cells * spec::kCell - queries;
    p->kv = {table.data(), cells};
    p->out = out->data();
  }
  int64_t cells;
  Array<Bf16> kv;
  std::vector<const Bf16*> table;
};

void Report(benchmark::State& state, double flops, double bytes) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(1e-9 * flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GB/s"] =
      benchmark::Counter(1e-9 * bytes, benchmark::Counter::kIsIterationInvariantRate);
}

// GB/s of a plain sum over a history: the roof of one query, in the same pages. Best of several.
double ReadRate(const History& history) {
  const auto* words = reinterpret_cast<const uint64_t*>(history.kv.data());
  const size_t count = history.kv.size() / 4;
  double best = 0;
  for (int pass = 0; pass < 7; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    std::array<uint64_t, 8> sums{};
    for (size_t i = 0; i < count; i += 8) {
      for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
    }
    benchmark::DoNotOptimize(sums);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::max(best, 8e-9 * static_cast<double>(count) / taken.count());
  }
  return best;
}

// Attention of `queries` queries after `context` tokens, 8 heads over 2 KV heads of 128.
void AttendDense(benchmark::State& state) {
  const int queries = static_cast<int>(state.range(0));
  const int64_t context = state.range(1);
  auto ops = Open(queries, context);
  const History history(context);
  const std::vector<float> q = Random(static_cast<size_t>(queries) * 1024, 3);
  std::vector<float> out(q.size());
  AttendDenseParams p;
  history.Fill(q, queries, &out, &p);
  if (queries == 1) state.counters["read GB/s"] = ReadRate(history);
  for (auto _ : state) ops->AttendDense(p);
  Report(state, 4.0 * 1024 * queries * static_cast<double>(context),
         1024.0 * static_cast<double>(context));
}
BENCHMARK(AttendDense)
    ->Args({256, 4096})
    ->Args({256, 16384})
    ->Args({1, 4096})
    ->Args({1, 65536})
    ->Args({1, 524288});

// A sample of 1,024 cells.
void AttendSampled(benchmark::State& state) {
  const int64_t context = state.range(0);
  auto ops = Open(1, context);
  const History history(context);
  const std::vector<float> q = Random(1024, 3);
  std::vector<float> out(q.size());
  AttendSampledParams p;
  history.Fill(q, 1, &out, &p);
  p.sink_chunks = 2;
  p.local_chunks = 8;
  p.most_cells = 1024;
  for (auto _ : state) ops->AttendSampled(p);
  const double tokens = 8192 + 704;
  Report(state, 4.0 * 1024 * tokens, 1024 * tokens);
}
BENCHMARK(AttendSampled)->Arg(65536)->Arg(262144);

// Summaries of `default` for one layer, 2 KV heads of 128.
struct SummariesOfLayer {
  SummariesOfLayer(int64_t context, uint32_t seed)
      : means(context / 4),
        values(context / 16),
        scales(Random(static_cast<size_t>(2 * means), seed)) {
    keys = Array<Fp8>::Make(static_cast<size_t>(2 * means * 128)).value();
    value_means = Array<Fp8>::Make(static_cast<size_t>(2 * values * 128)).value();
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<Fp8>((i + seed) * 31 % 113);
    for (size_t i = 0; i < value_means.size(); ++i) value_means[i] = static_cast<Fp8>(i * 29 % 113);
    for (float& s : scales) s = 0.002f + 0.001f * s;
  }
  SummaryView View(int64_t context) {
    SummaryView v;
    v.keys = keys.data();
    v.key_scales = scales.data();
    v.values = value_means.data();
    v.value_scales = scales.data();
    v.key_means = means;
    v.value_means = values;
    v.chunks = context / 64;
    return v;
  }
  int64_t means, values;
  std::vector<float> scales;
  Array<Fp8> keys, value_means;
};

// Scan, selection and tail of `default`, over as many layers in turn: with 8 of them summaries come
// from memory, as in decoding. GB/s counts a layer's summaries once.
void RouteQueries(benchmark::State& state) {
  const int queries = static_cast<int>(state.range(0));
  const int64_t context = state.range(1);
  auto ops = Open(queries, context);
  const RoutingConfig rule;
  std::vector<SummariesOfLayer> layers;
  for (int64_t i = 0; i < state.range(2); ++i)
    layers.emplace_back(context, 5 + static_cast<uint32_t>(i));
  std::vector<float> q = Random(static_cast<size_t>(queries) * 1024, 3);
  for (float& x : q) x = Bf16ToFloat(FloatToBf16(x));
  std::vector<int32_t> groups(static_cast<size_t>(queries) * 2 * 128), counts(groups.size());
  std::vector<float> tail(static_cast<size_t>(queries * 8 * TailLayout::Width(128)));
  RouteParams p;
  p.shape = {8, 2, 128};
  p.rule = &rule;
  p.q = q.data();
  p.queries = queries;
  p.first_position = context - queries;
  p.plan = {groups.data(), counts.data(), 2, 128};
  p.tail = tail.data();
  size_t layer = 0;
  for (auto _ : state) {
    p.summaries = layers[layer++ % layers.size()].View(context);
    ops->Route(p);
  }
  const double means = static_cast<double>(context / 4 + context / 16);
  Report(state, 2.0 * 1024 * queries * means, 2.0 * 132 * means);
}
BENCHMARK(RouteQueries)
    ->Args({1, 65536, 1})
    ->Args({1, 65536, 8})
    ->Args({256, 65536, 1})
    ->Args({256, 16384, 1});

}  // namespace
}  // namespace hga

BENCHMARK_MAIN();
