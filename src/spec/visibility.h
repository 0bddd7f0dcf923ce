// SPDX-License-Identifier: Apache-2.0
// Who sees what: windows, the candidate range and the sample of a query. Pure, host and device.
#ifndef HGA_SPEC_VISIBILITY_H_
#define HGA_SPEC_VISIBILITY_H_

#include <cstdint>

#include "spec/layout.h"

namespace hga::spec {

// Half-open range of token positions.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
  HGA_HD constexpr int64_t size() const { return end - begin; }
  HGA_HD constexpr bool empty() const { return end <= begin; }
};

HGA_HD constexpr int64_t ChunkOf(int64_t position) { return position / kChunk; }

// Positions between the sink and the local window of the query at `position`; empty while the
// windows meet. The same for all queries of a chunk. Always whole chunks.
HGA_HD constexpr TokenRange CandidateRange(int64_t position, int sink_chunks, int local_chunks) {
  const int64_t first = sink_chunks, last = ChunkOf(position) - local_chunks;
  if (last <= first) return {0, 0};
  return {first * kChunk, last * kChunk};
}

// Tokens always visible to the query: the sink window, the local window and its own chunk up to
// itself; all tokens when there are no candidates.
HGA_HD constexpr int64_t FixedTokens(int64_t position, int sink_chunks, int local_chunks) {
  return position + 1 - CandidateRange(position, sink_chunks, local_chunks).size();
}

// How many chunks survive the first level; equal to `candidates` when there is no first level.
HGA_HD constexpr int64_t BeamChunks(int64_t candidates, int chunk_beam, double beam_share) {
  if (chunk_beam <= 0) return candidates;
  const double exact = beam_share * static_cast<double>(candidates);
  int64_t share = static_cast<int64_t>(exact);
  if (static_cast<double>(share) < exact) ++share;
  const int64_t beam = share > chunk_beam ? share : chunk_beam;
  return beam < candidates ? beam : candidates;
}

// The sample of a candidate range of `cells` cells: cells 0, stride, 2 stride, ...
HGA_HD constexpr int64_t SampleStride(int64_t cells, int most_cells) {
  int64_t stride = 1;
  while (CeilDiv(cells, stride) > most_cells) stride *= 2;
  return stride;
}

}  // namespace hga::spec

#endif  // HGA_SPEC_VISIBILITY_H_
