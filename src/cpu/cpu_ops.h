// SPDX-License-Identifier: Apache-2.0
// Ops on the CPU: cuts each op into tasks for the worker threads; kernels do the arithmetic.
#ifndef HGA_CPU_CPU_OPS_H_
#define HGA_CPU_CPU_OPS_H_

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <span>
#include <string>
#include <utility>

#include "backend/ops.h"
#include "cpu/dispatch.h"
#include "cpu/scratch.h"

namespace hga::cpu {

class CpuOps final : public Ops {
 public:
  CpuOps(const CpuKernels& kernels, int threads) : kernels_(kernels), arena_(threads) {}

  std::string name() const override { return std::string("cpu ") + kernels_.name; }
  int threads() const override { return arena_.max_concurrency(); }
  Status Prepare(const OpsLimits& limits) override { return scratch_.Prepare(limits, threads()); }
  int64_t scratch_bytes() const override;

  void Linear(std::span<const LinearParams> jobs) override;
  void Norm(const NormParams& p) override;
  void Rotate(const RotateParams& p) override;
  void Silu(const SiluParams& p) override;
  void Experts(const ExpertsParams& p) override;
  void Summarise(const SummariseParams& p) override;
  void Score(const ScoreParams& p) override;
  void Select(const SelectParams& p) override;
  void Route(const RouteParams& p) override;
  void AttendDense(const AttendDenseParams& p) override;
  void AttendRouted(const AttendRoutedParams& p) override;
  void AttendSampled(const AttendSampledParams& p) override;

 private:
  // f(task, scratch of the thread that runs it) for tasks [0, count); runs here when there is one.
  template <class F>
  void Parallel(int64_t count, const F& f) {
    arena_.execute([&] {
      if (count == 1)
        return f(int64_t{0}, scratch_.thread(tbb::this_task_arena::current_thread_index()));
      tbb::parallel_for(
          tbb::blocked_range<int64_t>(0, count, 1),
          [&](const tbb::blocked_range<int64_t>& range) {
            ThreadScratch& t = scratch_.thread(tbb::this_task_arena::current_thread_index());
            for (int64_t i = range.begin(); i < range.end(); ++i) f(i, t);
          },
          tbb::simple_partitioner());
    });
  }

  void DenseTile(const AttendParams& p, int query, int queries, int kv_head, ThreadScratch& t);

  CpuKernels kernels_;
  tbb::task_arena arena_;
  Scratch scratch_;
};

// Consecutive queries of one chunk, at most `most`.
struct QueryTile {
  int query;  // index of the first
  int queries;
};
// Tile `index` of queries [0, queries) whose first has position `first_position`; tiles never cross
// a chunk. Number of tiles: QueryTiles.
int64_t QueryTiles(int64_t first_position, int queries, int most);
QueryTile TileAt(int64_t first_position, int queries, int most, int64_t index);

// Copies the rows of a tile's queries that belong to one KV head: [queries][R][head_dim].
void GatherQueries(const HeadShape& shape, const float* q, const QueryTile& tile, int kv_head,
                   float* out);

}  // namespace hga::cpu

#endif  // HGA_CPU_CPU_OPS_H_
