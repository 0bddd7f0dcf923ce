// SPDX-License-Identifier: Apache-2.0
// Launches the scan over key means and what makes scores of it.
#include <algorithm>

#include "cuda/scan/kernel.cuh"

namespace hga::cuda {
namespace {

unsigned Count(int64_t n) { return static_cast<unsigned>(n); }

template <class T>
void ScanOf(const RouteCall& c, const ScanLevel& level, const Queue& queue) {
  // Few segments: their rows are shared out, so that there is work for every multiprocessor.
  constexpr int64_t kWarpsWanted = 2048;
  const int64_t tiles = spec::CeilDiv(int64_t{c.queries} * (c.heads / c.kv_heads), kScanRows);
  const int64_t shares =
      std::clamp<int64_t>(kWarpsWanted / (level.segments() * c.kv_heads), 1, tiles);
  const dim3 grid(Count(spec::CeilDiv(level.segments(), kScanWarps)), Count(c.kv_heads),
                  Count(shares));
  const dim3 block(kWarp, kScanWarps);
  if (c.head_dim == 128) {
    ScanKernel<T, 128><<<grid, block, 0, queue.stream>>>(c, level);
  } else {
    ScanKernel<T, 64><<<grid, block, 0, queue.stream>>>(c, level);
  }
}

}  // namespace

void LaunchScan(const RouteCall& call, const ScanLevel& level, const Queue& queue) {
  if (call.fp8) {
    ScanOf<Fp8>(call, level, queue);
  } else {
    ScanOf<Bf16>(call, level, queue);
  }
  queue.Launched("ScanKernel");
}

void LaunchCombine(const RouteCall& call, const ScanLevel& level, const ScanLevel& others,
                   const Queue& queue) {
  CombineKernel<<<Count(call.rows()), kCombineThreads, 0, queue.stream>>>(call, level, others);
  queue.Launched("CombineKernel");
}

void LaunchDrop(const RouteCall& call, const ScanLevel& chunks, const Queue& queue) {
  const dim3 grid(Count(chunks.segments()), Count(call.rows()));
  DropKernel<<<grid, kScanMeans, 0, queue.stream>>>(call, chunks);
  queue.Launched("DropKernel");
}

void LaunchKeep(const RouteCall& call, const uint8_t* flags, int64_t first, int64_t chunks,
                uint8_t* kept, int64_t stride, const Queue& queue) {
  const dim3 grid(Count(spec::CeilDiv(chunks, kScoreThreads)), Count(call.kv_heads));
  KeepKernel<<<grid, kScoreThreads, 0, queue.stream>>>(call, flags, first, chunks, kept, stride);
  queue.Launched("KeepKernel");
}

void LaunchScore(const RouteCall& call, const ScanLevel& level, float* scores, int64_t stride,
                 const Queue& queue) {
  const dim3 grid(Count(spec::CeilDiv(level.items(), kScoreThreads)), Count(call.selector_rows()));
  ScoreKernel<<<grid, kScoreThreads, 0, queue.stream>>>(call, level, scores, stride);
  queue.Launched("ScoreKernel");
}

}  // namespace hga::cuda
