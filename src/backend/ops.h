// SPDX-License-Identifier: Apache-2.0
// The operations a backend provides, on plain parameter structs. The law they follow is
// docs/spec/routing.md; src/reference says each of them slowly, in double.
//
// Promise of every backend: an output row is a function of its own inputs alone. Its bits do not
// depend on how many rows stand beside it, on the span or on the number of threads.
//
// Every pointer of a parameter struct is memory of the backend's device, tables of pointers and of
// weights included; only `rule` is host memory, read before the call returns.
#ifndef HGA_BACKEND_OPS_H_
#define HGA_BACKEND_OPS_H_

#include <cstdint>
#include <span>
#include <string>

#include "backend/device.h"
#include "base/dtype.h"
#include "hga/config.h"
#include "hga/status.h"

namespace hga {

struct HeadShape {
  int heads = 0;     // query heads
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // 64 or 128
  int queries_per_kv() const { return heads / kv_heads; }
};

// Largest sizes later calls may use; scratch for them is allocated once.
struct OpsLimits {
  HeadShape shape;
  int rows = 0;         // tokens of one call
  int64_t context = 0;  // tokens of one sequence
  int hidden = 0;
  int ffn_width = 0;  // of one expert or of the dense feed-forward
  int experts = 0;
  int experts_per_token = 0;
};

// What of the prepared scratch a set of rules makes use of; for memory plans.
struct ScratchUse {
  int group = 1;      // least tokens of a group
  bool beam = true;   // some layer has a chunk level
  bool dense = true;  // some layer is dense
};

// A weight as stored. [rows] outputs by [cols] inputs, cols a multiple of 16.
struct WeightView {
  const void* data = nullptr;  // [rows][cols] of dtype
  Dtype dtype = Dtype::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const float* scales = nullptr;  // [ceil(rows/128)][ceil(cols/128)]; only for kFp8
};

// y = x W^T. A weight element counts as float32(stored value x its scale).
struct LinearParams {
  const float* x = nullptr;  // [rows][x_stride], first W.cols used
  int64_t x_stride = 0;
  int rows = 0;
  WeightView w;
  float* y = nullptr;  // [rows][y_stride], first W.rows written
  int64_t y_stride = 0;
  bool accumulate = false;  // y += instead of y =
};

// RMS norm in float32.
struct NormParams {
  const float* x = nullptr;       // [rows][width]
  const float* weight = nullptr;  // [width]
  float* y = nullptr;             // [rows][width]
  int rows = 0;
  int width = 0;
  float epsilon = 0;
};

// q and k: norm per head, RoPE (half-split pairs), rounding to bf16; v: rounding to bf16.
struct RotateParams {
  HeadShape shape;
  int rows = 0;
  float* q = nullptr;             // [rows][heads][head_dim], in place, float32 holding bf16 values
  const float* k = nullptr;       // [rows][kv_heads][head_dim]
  const float* v = nullptr;       // [rows][kv_heads][head_dim]
  const float* q_norm = nullptr;  // [head_dim] or null: no norm
  const float* k_norm = nullptr;  // [head_dim] or null
  float epsilon = 0;
  const float* cos = nullptr;    // [rows][head_dim / 2], angle computed in double
  const float* sin = nullptr;    // [rows][head_dim / 2]
  Bf16* const* k_out = nullptr;  // [rows][kv_heads] where the token's key row goes: [head_dim]
  Bf16* const* v_out = nullptr;  // [rows][kv_heads]
};

// Summaries of one layer of one sequence. Key means in panels (spec/layout.h), value means as
// rows; element type by the rule's summary_dtype (Fp8 with a power-of-two scale per vector, or
// Bf16 with scales of 1). Strides in elements (means for the scales).
struct SummaryView {
  void* keys = nullptr;               // [kv_heads][key_stride]: KeyMeanElements
  float* key_scales = nullptr;        // [kv_heads][key_means]
  void* values = nullptr;             // [kv_heads][value_means][head_dim]; null without tail
  float* value_scales = nullptr;      // [kv_heads][value_means]
  void* chunk_keys = nullptr;         // [kv_heads][chunk_key_stride]; null without a first level
  float* chunk_key_scales = nullptr;  // [kv_heads][chunk_key_means]
  void* chunk_values = nullptr;  // [kv_heads][chunks][head_dim]; null without both beam and tail
  float* chunk_value_scales = nullptr;  // [kv_heads][chunks]
  int64_t key_means = 0;                // capacity per KV head; a multiple of 16
  int64_t value_means = 0;              // capacity
  int64_t chunk_key_means = 0;          // capacity; a multiple of 16
  int64_t chunks = 0;                   // capacity
};

// Builds the summaries of one closed chunk of all KV heads from its stored keys and values.
struct SummariseParams {
  HeadShape shape;
  const RoutingConfig* rule = nullptr;
  double rope_theta = 0;               // for mixed_rope
  int64_t chunk = 0;                   // index
  const Bf16* const* cells = nullptr;  // [kv_heads][cell_stride], the chunk's 8 cells first
  int64_t cell_stride = 8;
  SummaryView out;
};

// The opened groups of a span. Group numbers count from position 0 in steps of the rule's group.
struct PlanView {
  int32_t* groups = nullptr;  // [queries][selectors][budget], ascending, first `counts` used
  int32_t* counts = nullptr;  // [queries][selectors]
  int selectors = 0;          // kv_heads or heads
  int budget = 0;
};

// What the tail contributes to one (query, head), written by Route and merged by AttendRouted:
// {log reference m, sum Z_T relative to m, opened sum, unused..., o_T [head_dim] as numerators
// relative to m, v_said [head_dim] normalised}.
struct TailLayout {
  static constexpr int kMax = 0, kSum = 1, kOpenedSum = 2, kHeader = 16;
  static constexpr int Width(int head_dim) { return kHeader + 2 * head_dim; }
  static constexpr int Out(int) { return kHeader; }
  static constexpr int Said(int head_dim) { return kHeader + head_dim; }
};

// Steps 2 to 6 and 8 of the law for consecutive queries of one sequence: plan and tail.
// Queries without candidates get empty plans and a tail with sum 0.
struct RouteParams {
  HeadShape shape;
  const RoutingConfig* rule = nullptr;
  const float* q = nullptr;  // [queries][heads][head_dim], values exactly bf16
  int64_t first_position = 0;
  int queries = 0;
  SummaryView summaries;
  PlanView plan;
  float* tail = nullptr;  // [queries][heads][TailLayout::Width]; null when the rule has no tail
};

// Step 4 alone: which candidate chunks survive the first level for any of the queries, so that only
// their group level need be in memory for Route. Without a first level (few candidates) all do.
struct BeamParams {
  HeadShape shape;
  const RoutingConfig* rule = nullptr;
  const float* q = nullptr;  // [queries][heads][head_dim], values exactly bf16
  int64_t first_position = 0;
  int queries = 0;
  SummaryView summaries;    // only the chunk level is read
  uint8_t* kept = nullptr;  // [kv_heads][kept_stride] by chunk from position 0, set to 0 or 1
  int64_t kept_stride = 0;  // at least the chunks up to the last query's candidates
};

// Steps 2 to 5 without selecting: the score of every group, for tests and traces.
struct ScoreParams {
  HeadShape shape;
  const RoutingConfig* rule = nullptr;  // a first level, if any, is applied
  const float* q = nullptr;             // [queries][heads][head_dim]
  int64_t first_position = 0;
  int queries = 0;
  SummaryView summaries;
  // [queries][selectors][groups], from the query's first candidate group; minus infinity outside
  // the beam; entries past the query's candidates are not written.
  float* scores = nullptr;
  int64_t groups = 0;  // stride: at least the candidate groups of the last query
};

// Step 6: the `count` best of `n` scores, ascending by index. Pure, bit-equal on every backend.
struct SelectParams {
  const float* scores = nullptr;  // [n]
  int64_t n = 0;
  int count = 0;
  int32_t* chosen = nullptr;  // [count]
};

// K/V of one layer of one sequence: every cell the call may touch is resident.
struct KvView {
  const Bf16* const* cells = nullptr;  // [kv_heads][cell_stride]: K [8][head_dim], V [8][head_dim]
  int64_t cell_stride = 0;
};

struct AttendParams {
  HeadShape shape;
  const float* q = nullptr;  // [queries][heads][head_dim], values exactly bf16
  int64_t first_position = 0;
  int queries = 0;
  KvView kv;
  float* out = nullptr;  // [queries][heads][head_dim]
};

// Ordinary causal attention.
struct AttendDenseParams : AttendParams {};

// Steps 7, 9 and 10: windows and opened groups exactly, merged with the tail.
struct AttendRoutedParams : AttendParams {
  const RoutingConfig* rule = nullptr;
  PlanView plan;
  const float* tail = nullptr;  // as written by Route; null without tail
};

// Step 11: windows exactly, the candidate range by a sample of at most `most_cells` cells.
struct AttendSampledParams : AttendParams {
  int sink_chunks = 0;
  int local_chunks = 0;
  int most_cells = 0;
};

// Feed-forward by routed experts, added to y: softmax over all experts in float32, the best
// `experts_per_token` (ties: lower index), renormalised if `renormalise`, then sum of
// weight x down(silu(gate x) * up x) in order of rank.
struct ExpertsParams {
  const float* x = nullptr;  // [rows][hidden], normed
  int rows = 0;
  int hidden = 0;
  int width = 0;  // of one expert
  int experts = 0;
  int experts_per_token = 0;
  bool renormalise = true;
  WeightView router;                 // [experts][hidden]
  const WeightView* gate = nullptr;  // [experts] of [width][hidden]
  const WeightView* up = nullptr;    // [experts] of [width][hidden]
  const WeightView* down = nullptr;  // [experts] of [hidden][width]
  float* y = nullptr;                // [rows][hidden], added to
};

// out = silu(gate) * up, elementwise.
struct SiluParams {
  const float* gate = nullptr;  // [count]
  const float* up = nullptr;    // [count]
  float* out = nullptr;         // [count]
  int64_t count = 0;
};

// One backend on one device. Not thread-safe. Calls are queued on `stream()`: on the CPU they are
// done when they return, elsewhere when the stream has come to them.
class Ops {
 public:
  virtual ~Ops() = default;
  virtual std::string name() const = 0;  // e.g. "cpu AVX2"
  virtual int threads() const = 0;
  // Allocates scratch. May be called again with larger limits. kResourceExhausted.
  virtual Status Prepare(const OpsLimits& limits) = 0;
  // Bytes of scratch that calls within `limits` will touch.
  virtual int64_t ScratchBytes(const OpsLimits& limits, const ScratchUse& use) const = 0;
  virtual Device& device() = 0;
  virtual Stream& stream() = 0;
  // The first failure of any call so far. Ops return nothing, so whoever uses their results asks
  // here, after waiting for the stream.
  virtual Status status() const = 0;

  // Independent products, in one parallel region.
  virtual void Linear(std::span<const LinearParams> jobs) = 0;
  virtual void Norm(const NormParams& p) = 0;
  virtual void Rotate(const RotateParams& p) = 0;
  virtual void Silu(const SiluParams& p) = 0;
  virtual void Experts(const ExpertsParams& p) = 0;
  virtual void Summarise(const SummariseParams& p) = 0;
  virtual void Beam(const BeamParams& p) = 0;
  virtual void Score(const ScoreParams& p) = 0;
  virtual void Select(const SelectParams& p) = 0;
  virtual void Route(const RouteParams& p) = 0;
  virtual void AttendDense(const AttendDenseParams& p) = 0;
  virtual void AttendRouted(const AttendRoutedParams& p) = 0;
  virtual void AttendSampled(const AttendSampledParams& p) = 0;
};

}  // namespace hga

#endif  // HGA_BACKEND_OPS_H_
