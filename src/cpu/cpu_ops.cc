// SPDX-License-Identifier: Apache-2.0
// Opening the CPU backend, and its dense ops.
#include "cpu/cpu_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cpu/cpu_backend.h"
#include "cpu/scan_bf16.h"
#include "cpu/summarise.h"
#include "hwy/highway.h"
#include "spec/layout.h"

namespace hga {
namespace cpu {
namespace {

// Weight bytes (or float work) below which another thread costs more than it brings.
constexpr int64_t kTaskBytes = 48 << 10;

// The cut of one product into tasks: tiles of outputs, and of rows where outputs alone are few.
struct LinearCut {
  int64_t outputs;  // per task
  int64_t output_tasks;
  int rows;  // per task
  int row_tasks;
  int64_t tasks() const { return output_tasks * row_tasks; }
};

LinearCut CutOf(const LinearParams& p, int threads) {
  LinearCut cut;
  if (p.rows <= 4) {
    const int64_t row_bytes = p.w.cols * BytesOf(p.w.dtype);
    cut.outputs = std::max<int64_t>(4, kTaskBytes / row_bytes / 4 * 4);
  } else {
    cut.outputs = LinearTileOutputs(p.w.cols);
  }
  cut.output_tasks = spec::CeilDiv(p.w.rows, cut.outputs);
  cut.row_tasks = 1;
  if (p.rows > 64 && cut.output_tasks < 4 * threads) {
    cut.row_tasks = static_cast<int>(
        std::min<int64_t>(spec::CeilDiv(p.rows, 64), spec::CeilDiv(4 * threads, cut.output_tasks)));
  }
  cut.rows = static_cast<int>(spec::CeilDiv(p.rows, cut.row_tasks));
  return cut;
}

}  // namespace

void CpuOps::Linear(std::span<const LinearParams> jobs) {
  constexpr size_t kMostJobs = 64;
  for (size_t first = 0; first < jobs.size(); first += kMostJobs) {
    const auto batch = jobs.subspan(first, std::min(kMostJobs, jobs.size() - first));
    LinearCut cuts[kMostJobs];
    int64_t starts[kMostJobs + 1] = {0};
    for (size_t j = 0; j < batch.size(); ++j) {
      cuts[j] = CutOf(batch[j], threads());
      starts[j + 1] = starts[j] + (batch[j].rows > 0 ? cuts[j].tasks() : 0);
    }
    Parallel(starts[batch.size()], [&](int64_t task, ThreadScratch& t) {
      size_t j = 0;
      while (task >= starts[j + 1]) ++j;
      const int64_t local = task - starts[j], n0 = local / cuts[j].row_tasks * cuts[j].outputs;
      const int row0 = static_cast<int>(local % cuts[j].row_tasks) * cuts[j].rows;
      const int rows = std::min(cuts[j].rows, batch[j].rows - row0);
      if (rows <= 0) return;
      kernels_.linear.linear(batch[j], row0, rows, n0,
                             std::min(batch[j].w.rows, n0 + cuts[j].outputs), t.linear.data());
    });
  }
}

void CpuOps::Norm(const NormParams& p) {
  const int64_t tasks = spec::CeilDiv(p.rows, 32);
  Parallel(tasks, [&](int64_t i, ThreadScratch&) {
    kernels_.linear.norm(p, static_cast<int>(i * 32),
                         static_cast<int>(std::min<int64_t>(p.rows, i * 32 + 32)));
  });
}

void CpuOps::Rotate(const RotateParams& p) {
  const int64_t tasks = spec::CeilDiv(p.rows, 8);
  Parallel(tasks, [&](int64_t i, ThreadScratch&) {
    kernels_.linear.rotate(p, static_cast<int>(i * 8),
                           static_cast<int>(std::min<int64_t>(p.rows, i * 8 + 8)));
  });
}

void CpuOps::Silu(const SiluParams& p) {
  constexpr int64_t kStep = 16384;
  Parallel(spec::CeilDiv(p.count, kStep), [&](int64_t i, ThreadScratch&) {
    kernels_.linear.silu(p, i * kStep, std::min(p.count, (i + 1) * kStep));
  });
}

void CpuOps::Summarise(const SummariseParams& p) { cpu::Summarise(p); }

void CpuOps::Select(const SelectParams& p) {
  ThreadScratch& t = scratch_.thread(0);
  cpu::Select(kernels_.scan, p.scores, p.n, static_cast<int>(std::min<int64_t>(p.count, p.n)),
              t.select(), p.chosen);
}

int64_t QueryTiles(int64_t first_position, int queries, int most) {
  int64_t tiles = 0;
  for (int q = 0; q < queries;) {
    q += TileAt(first_position + q, queries - q, most, 0).queries;
    ++tiles;
  }
  return tiles;
}

QueryTile TileAt(int64_t first_position, int queries, int most, int64_t index) {
  QueryTile tile{0, 0};
  for (int64_t i = 0; i <= index; ++i) {
    tile.query += tile.queries;
    const int64_t position = first_position + tile.query;
    // Tiles start at multiples of `most` inside a chunk, so a chunk's tiles are always the same.
    const int64_t room = most - position % spec::kChunk % most;
    tile.queries = static_cast<int>(std::min<int64_t>(room, queries - tile.query));
  }
  return tile;
}

void GatherQueries(const HeadShape& shape, const float* q, const QueryTile& tile, int kv_head,
                   float* out) {
  const int64_t r = shape.queries_per_kv(), dim = shape.head_dim;
  for (int i = 0; i < tile.queries; ++i) {
    std::memcpy(out + i * r * dim,
                q + ((tile.query + i) * int64_t{shape.heads} + kv_head * r) * dim,
                sizeof(float) * static_cast<size_t>(r * dim));
  }
}

}  // namespace cpu

namespace {

struct IsaName {
  const char* name;
  int64_t target;
  bool bf16_dot;  // of the target's machines those that multiply pairs of bf16
  const char* shown;
};
constexpr IsaName kIsas[] = {
#if HWY_ARCH_X86
    {"avx3_bf16", HWY_AVX3, true, "AVX-512 BF16"},
    {"avx3", HWY_AVX3, false, "AVX-512"},
    {"avx2", HWY_AVX2, false, "AVX2"},
    {"ssse3", HWY_SSSE3, false, "SSSE3"},
#else
    {"neon", HWY_NEON, false, "NEON"},
#endif
};

bool Supported(const IsaName& isa) {
  return (hwy::SupportedTargets() & isa.target) != 0 && (!isa.bf16_dot || cpu::HasBf16Dot());
}

}  // namespace

Result<std::unique_ptr<Ops>> OpenCpu(const BackendOptions& options) {
  const int cores = cpu::UsableCores();
  if (options.threads < 0 || options.threads > 1024) {
    return InvalidArgument(fmt::format("threads is {}, allowed are 0 to 1024", options.threads));
  }
  const bool any = options.isa.empty() || options.isa == "auto";
  std::string known;
  for (const IsaName& isa : kIsas) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", isa.name);
    if (!any && options.isa != isa.name) continue;
    if (!Supported(isa)) {
      if (any) continue;
      return Unsupported(fmt::format("this machine has no {}", isa.shown));
    }
    cpu::CpuKernels kernels{isa.target, isa.shown, cpu::LinearKernelsFor(isa.target),
                            cpu::ScanKernelsFor(isa.target), cpu::AttendKernelsFor(isa.target)};
    if (isa.bf16_dot) kernels.scan.scan = cpu::ScanBf16;
    return std::unique_ptr<Ops>(
        std::make_unique<cpu::CpuOps>(kernels, options.threads > 0 ? options.threads : cores));
  }
  return InvalidArgument(
      fmt::format("no instruction set '{}'; known: auto, {}", options.isa, known));
}

}  // namespace hga
