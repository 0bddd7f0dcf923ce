// SPDX-License-Identifier: Apache-2.0
// Ops on the CPU: cuts each op into tasks for the worker threads; kernels do the arithmetic.
#ifndef HGA_CPU_CPU_OPS_H_
#define HGA_CPU_CPU_OPS_H_

#include <span>
#include <string>
#include <type_traits>

#include "backend/host_device.h"
#include "backend/ops.h"
#include "cpu/dispatch.h"
#include "cpu/scratch.h"
#include "cpu/thread_team.h"

namespace hga::cpu {

class CpuOps final : public Ops {
 public:
  CpuOps(const CpuKernels& kernels, int threads) : kernels_(kernels), team_(threads) {}

  std::string name() const override { return std::string("cpu ") + kernels_.name; }
  int threads() const override { return team_.size(); }
  Status Prepare(const OpsLimits& limits) override { return scratch_.Prepare(limits, threads()); }
  int64_t ScratchBytes(const OpsLimits& limits, const ScratchUse& use) const override {
    return Scratch::Bytes(limits, threads(), use);
  }
  Device& device() override { return device_; }
  Stream& stream() override { return stream_; }
  Status status() const override { return OkStatus(); }

  void Linear(std::span<const LinearParams> jobs) override;
  void Norm(const NormParams& p) override;
  void Rotate(const RotateParams& p) override;
  void Silu(const SiluParams& p) override;
  void Experts(const ExpertsParams& p) override;
  void Summarise(const SummariseParams& p) override;
  void Beam(const BeamParams& p) override;
  void Score(const ScoreParams& p) override;
  void Select(const SelectParams& p) override;
  void Route(const RouteParams& p) override;
  void AttendDense(const AttendDenseParams& p) override;
  void AttendRouted(const AttendRoutedParams& p) override;
  void AttendSampled(const AttendSampledParams& p) override;

 private:
  // f(task, scratch of the worker that runs it, its number) for tasks [0, count).
  template <class F>
  void Parallel(int64_t count, const F& f) {
    team_.Run(count, [&](int64_t task, int worker) {
      if constexpr (std::is_invocable_v<F, int64_t, ThreadScratch&, int>) {
        f(task, scratch_.thread(worker), worker);
      } else {
        f(task, scratch_.thread(worker));
      }
    });
  }

  void DenseTile(const AttendParams& p, int query, int queries, int kv_head, ThreadScratch& t);

  CpuKernels kernels_;
  ThreadTeam team_;
  Scratch scratch_;
  HostDevice device_;
  HostStream stream_;
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
