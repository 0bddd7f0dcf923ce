// SPDX-License-Identifier: Apache-2.0
// Scratch of the CPU backend: address space for the largest case, memory only for what is touched.
#ifndef HGA_CPU_SCRATCH_H_
#define HGA_CPU_SCRATCH_H_

#include <cstdint>
#include <vector>

#include "backend/ops.h"
#include "base/memory.h"
#include "cpu/select.h"

namespace hga::cpu {

inline constexpr int kRouteQueries = 16;  // queries of one routing tile
inline constexpr int kDenseQueries = 32;  // queries of one tile of dense or sampled attention

// Belongs to one worker thread while it runs one task.
struct ThreadScratch {
  Array<float> linear;        // a widened tile of weights
  Array<float> e;             // [rows][means of a segment]; also weights of the tail
  Array<float> panel;         // [head_dim][32]
  Array<Bf16> narrow;         // [rows][head_dim]
  Array<float> tile;          // [2][64][head_dim]
  Array<float> scores;        // [rows][64], or one query's scores over all groups
  Array<float> opened;        // [R][opened tokens]
  Array<float> part;          // [rows][head_dim]
  Array<float> state;         // three states of [rows]{max, sum, out[head_dim]}
  Array<float> q;             // [rows][head_dim]
  Array<const Bf16*> pieces;  // cells or pieces of cells
  Array<uint64_t> ranks;      // [2 x scores]
  Array<int32_t> index;       // [scores + 16]
  Array<float> maxima;
  SelectScratch select() const { return {ranks.data(), index.data(), maxima.data()}; }
};

// Of one (query tile, KV head) while it is routed, or of its partitions in dense attention.
struct RouteWorkspace {
  Array<float> q;              // [rows][head_dim]
  Array<float> mass;           // [rows][groups]
  Array<float> segment;        // [rows][segments]{max, sum, factor}
  Array<float> chunk_mass;     // [rows][chunks]
  Array<float> chunk_segment;  // as segment
  Array<uint8_t> kept;         // [selectors of the tile][chunks]
  Array<uint8_t> skip;         // [panels]
  Array<float> part;           // [segments][rows][head_dim + 1]
};

class Scratch {
 public:
  Status Prepare(const OpsLimits& limits, int threads);
  // What of it will be touched.
  static int64_t Bytes(const OpsLimits& limits, int threads, const ScratchUse& use);
  ThreadScratch& thread(int i) { return threads_[static_cast<size_t>(i)]; }
  RouteWorkspace& workspace(int i) { return workspaces_[static_cast<size_t>(i)]; }
  int workspaces() const { return static_cast<int>(workspaces_.size()); }
  const OpsLimits& limits() const { return limits_; }
  Array<float>& experts() { return experts_; }
  Array<float>& states() { return states_; }
  Array<int32_t>& routing() { return routing_; }
  std::vector<LinearParams>& expert_jobs() { return expert_jobs_; }

 private:
  OpsLimits limits_;
  std::vector<ThreadScratch> threads_;
  std::vector<RouteWorkspace> workspaces_;
  Array<float> experts_;                   // rows through experts: gathered inputs, hidden, outputs
  Array<float> states_;                    // partial states of a few queries: [tasks][rows]{...}
  Array<int32_t> routing_;                 // expert choices
  std::vector<LinearParams> expert_jobs_;  // [2 x experts]
};

}  // namespace hga::cpu

#endif  // HGA_CPU_SCRATCH_H_
