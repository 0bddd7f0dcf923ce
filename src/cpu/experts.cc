// SPDX-License-Identifier: Apache-2.0
// Routed experts: tokens grouped by expert, so that an expert's weights are read once per call.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "cpu/cpu_ops.h"
#include "spec/layout.h"

namespace hga::cpu {
namespace {

// Pieces of the backend's expert scratch for one call.
struct Buffers {
  float* logits;    // [rows][experts]
  float* weight;    // [rows * k], by (row, rank)
  float* x;         // [rows * k][hidden], grouped by expert
  float* hidden;    // [rows * k][2 * width]: gate, then up
  float* act;       // [rows * k][width]
  float* y;         // [rows * k][hidden]
  int32_t* expert;  // [rows * k], by (row, rank)
  int32_t* place;   // [rows * k]: where (row, rank) lies among the grouped rows
  int32_t* start;   // [experts + 1]
  int32_t* next;    // [experts]
};

Buffers Cut(const ExpertsParams& p, float* floats, int32_t* ints) {
  const int64_t n = int64_t{p.rows} * p.experts_per_token;
  Buffers b;
  b.logits = floats;
  b.weight = b.logits + int64_t{p.rows} * p.experts;
  b.x = b.weight + n;
  b.hidden = b.x + n * p.hidden;
  b.act = b.hidden + n * 2 * p.width;
  b.y = b.act + n * p.width;
  b.expert = ints;
  b.place = b.expert + n;
  b.start = b.place + n;
  b.next = b.start + p.experts + 1;
  return b;
}

// The best experts of one row (ties: lower index) and their weights.
void Choose(const ExpertsParams& p, const float* share, int32_t* expert, float* weight) {
  float sum = 0;
  for (int j = 0; j < p.experts_per_token; ++j) {
    int best = -1;
    for (int e = 0; e < p.experts; ++e) {
      if (std::find(expert, expert + j, e) != expert + j) continue;
      if (best < 0 || share[e] > share[best]) best = e;
    }
    expert[j] = best;
    weight[j] = share[best];
    sum += share[best];
  }
  if (!p.renormalise) return;
  for (int j = 0; j < p.experts_per_token; ++j) weight[j] /= sum;
}

// Counting sort of (row, rank) by expert; rows stay in order.
void Group(const ExpertsParams& p, const Buffers& b) {
  const int64_t n = int64_t{p.rows} * p.experts_per_token;
  std::fill_n(b.start, p.experts + 1, 0);
  for (int64_t i = 0; i < n; ++i) ++b.start[b.expert[i] + 1];
  std::partial_sum(b.start, b.start + p.experts + 1, b.start);
  std::copy_n(b.start, p.experts, b.next);
  for (int64_t i = 0; i < n; ++i) b.place[i] = b.next[b.expert[i]]++;
}

}  // namespace

void CpuOps::Experts(const ExpertsParams& p) {
  const Buffers b = Cut(p, scratch_.experts().data(), scratch_.routing().data());
  const int k = p.experts_per_token;
  const LinearParams router = {p.x, p.hidden, p.rows, p.router, b.logits, p.experts, false};
  Linear({&router, 1});
  for (int r = 0; r < p.rows; ++r) {
    float* share = b.logits + int64_t{r} * p.experts;
    kernels_.linear.softmax(share, p.experts);
    Choose(p, share, b.expert + int64_t{r} * k, b.weight + int64_t{r} * k);
  }
  Group(p, b);
  for (int64_t i = 0; i < int64_t{p.rows} * k; ++i) {
    std::memcpy(b.x + int64_t{b.place[i]} * p.hidden, p.x + i / k * p.hidden,
                sizeof(float) * static_cast<size_t>(p.hidden));
  }

  LinearParams* jobs = scratch_.expert_jobs().data();
  size_t count = 0;
  for (int e = 0; e < p.experts; ++e) {
    const int64_t first = b.start[e];
    const int rows = b.start[e + 1] - b.start[e];
    if (rows == 0) continue;
    const float* x = b.x + first * p.hidden;
    float* hidden = b.hidden + first * 2 * p.width;
    jobs[count++] = {x, p.hidden, rows, p.gate[e], hidden, 2 * p.width, false};
    jobs[count++] = {x, p.hidden, rows, p.up[e], hidden + p.width, 2 * p.width, false};
  }
  Linear({jobs, count});
  Parallel(spec::CeilDiv(int64_t{p.rows} * k, 64), [&](int64_t task, ThreadScratch&) {
    const int64_t end = std::min(int64_t{p.rows} * k, task * 64 + 64);
    for (int64_t i = task * 64; i < end; ++i) {
      const float* hidden = b.hidden + i * 2 * p.width;
      kernels_.linear.silu({hidden, hidden + p.width, b.act + i * p.width, p.width}, 0, p.width);
    }
  });
  count = 0;
  for (int e = 0; e < p.experts; ++e) {
    const int64_t first = b.start[e];
    const int rows = b.start[e + 1] - b.start[e];
    if (rows == 0) continue;
    jobs[count++] = {b.act + first * p.width, p.width,  rows, p.down[e],
                     b.y + first * p.hidden,  p.hidden, false};
  }
  Linear({jobs, count});
  Parallel(spec::CeilDiv(p.rows, 32), [&](int64_t task, ThreadScratch&) {
    for (int64_t r = task * 32; r < std::min<int64_t>(p.rows, task * 32 + 32); ++r) {
      for (int j = 0; j < k; ++j) {
        kernels_.linear.add_scaled(b.y + int64_t{b.place[r * k + j]} * p.hidden, p.hidden,
                                   b.weight[r * k + j], p.y + r * p.hidden);
      }
    }
  });
}

}  // namespace hga::cpu
