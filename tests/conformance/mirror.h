// SPDX-License-Identifier: Apache-2.0
// Lets the conformance tests call a backend whose memory the host cannot touch: every call copies
// its inputs to the device, runs there and copies its outputs back. All pieces lie in one block of
// device memory with watched gaps between them, so that a write outside an output is seen.
#ifndef HGA_TESTS_CONFORMANCE_MIRROR_H_
#define HGA_TESTS_CONFORMANCE_MIRROR_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backend/ops.h"
#include "base/check.h"
#include "spec/layout.h"
#include "spec/rules.h"

namespace hga::conformance {

inline constexpr uint8_t kCanary = 0xA5;

// Memory for the calls of all mirrors of one device; made once, since pinning takes long.
struct MirrorMemory {
  static constexpr int64_t kBytes = int64_t{96} << 20;
  static Result<MirrorMemory> Make(Device& device) {
    MirrorMemory memory;
    HGA_ASSIGN_OR_RETURN(memory.there, device.Allocate(kBytes));
    HGA_ASSIGN_OR_RETURN(memory.here, device.Allocate(kBytes, MemoryKind::kPinned));
    std::memset(memory.here.data(), kCanary, static_cast<size_t>(kBytes));
    return memory;
  }
  DeviceMemory there, here;
};

class MirrorOps final : public Ops {
 public:
  // `memory` must outlive the mirror.
  MirrorOps(std::unique_ptr<Ops> ops, const MirrorMemory& memory)
      : ops_(std::move(ops)), device_(memory.there.data()), host_(memory.here.data()) {}

  std::string name() const override { return ops_->name() + " by copies"; }
  int threads() const override { return ops_->threads(); }
  Status Prepare(const OpsLimits& limits) override { return ops_->Prepare(limits); }
  int64_t ScratchBytes(const OpsLimits& limits, const ScratchUse& use) const override {
    return ops_->ScratchBytes(limits, use);
  }
  Device& device() override { return ops_->device(); }
  Stream& stream() override { return ops_->stream(); }
  Status status() const override { return ops_->status(); }

  void Linear(std::span<const LinearParams> jobs) override {
    std::vector<LinearParams> there;
    for (const LinearParams& job : jobs) {
      LinearParams p = job;
      p.x = In(job.x, (job.rows - 1) * job.x_stride + job.w.cols);
      p.w = InWeight(job.w);
      p.y = Out(job.y, (job.rows - 1) * job.y_stride + job.w.rows);
      there.push_back(p);
    }
    Run([&] { ops_->Linear(there); });
  }
  void Norm(const NormParams& p) override {
    NormParams there = p;
    there.x = In(p.x, int64_t{p.rows} * p.width);
    there.weight = In(p.weight, p.width);
    there.y = Out(p.y, int64_t{p.rows} * p.width);
    Run([&] { ops_->Norm(there); });
  }
  void Rotate(const RotateParams& p) override {
    const int64_t d = p.shape.head_dim, kv = int64_t{p.rows} * p.shape.kv_heads;
    RotateParams there = p;
    there.q = Out(p.q, int64_t{p.rows} * p.shape.heads * d);
    there.k = In(p.k, kv * d);
    there.v = In(p.v, kv * d);
    if (p.q_norm != nullptr) there.q_norm = In(p.q_norm, d);
    if (p.k_norm != nullptr) there.k_norm = In(p.k_norm, d);
    there.cos = In(p.cos, p.rows * d / 2);
    there.sin = In(p.sin, p.rows * d / 2);
    there.k_out = Table(p.k_out, kv, [&](Bf16* row) { return Out(row, d); });
    there.v_out = Table(p.v_out, kv, [&](Bf16* row) { return Out(row, d); });
    Run([&] { ops_->Rotate(there); });
  }
  void Silu(const SiluParams& p) override {
    const SiluParams there{In(p.gate, p.count), In(p.up, p.count), Out(p.out, p.count), p.count};
    Run([&] { ops_->Silu(there); });
  }
  void Experts(const ExpertsParams& p) override {
    ExpertsParams there = p;
    there.x = In(p.x, int64_t{p.rows} * p.hidden);
    there.router = InWeight(p.router);
    const auto table = [&](const WeightView* views) {
      std::vector<WeightView> moved;
      for (int e = 0; e < p.experts; ++e) moved.push_back(InWeight(views[e]));
      return Keep(moved);
    };
    there.gate = table(p.gate);
    there.up = table(p.up);
    there.down = table(p.down);
    there.y = Out(p.y, int64_t{p.rows} * p.hidden);
    Run([&] { ops_->Experts(there); });
  }
  void Summarise(const SummariseParams& p) override {
    SummariseParams there = p;
    std::vector<const Bf16*> cells;
    for (int head = 0; head < p.shape.kv_heads; ++head) {
      for (int c = 0; c < spec::kCellsPerChunk; ++c) {
        cells.push_back(
            In(p.cells[head * p.cell_stride + c], spec::CellElements(p.shape.head_dim)));
      }
    }
    there.cells = Keep(cells);
    there.cell_stride = spec::kCellsPerChunk;
    there.out = Summaries(p.shape, *p.rule, p.out, true);
    Run([&] { ops_->Summarise(there); });
  }
  void Beam(const BeamParams& p) override {
    BeamParams there = p;
    there.q = Queries(p.shape, p.q, p.queries);
    there.summaries = Summaries(p.shape, *p.rule, p.summaries, false);
    there.kept = Out(p.kept, p.shape.kv_heads * p.kept_stride);
    Run([&] { ops_->Beam(there); });
  }
  void Score(const ScoreParams& p) override {
    ScoreParams there = p;
    const int selectors = spec::Selectors(*p.rule, p.shape.heads, p.shape.kv_heads);
    there.q = Queries(p.shape, p.q, p.queries);
    there.summaries = Summaries(p.shape, *p.rule, p.summaries, false);
    there.scores = Out(p.scores, int64_t{p.queries} * selectors * p.groups);
    Run([&] { ops_->Score(there); });
  }
  void Select(const SelectParams& p) override {
    const SelectParams there{In(p.scores, p.n), p.n, p.count, Out(p.chosen, p.count)};
    Run([&] { ops_->Select(there); });
  }
  void Route(const RouteParams& p) override {
    RouteParams there = p;
    there.q = Queries(p.shape, p.q, p.queries);
    there.summaries = Summaries(p.shape, *p.rule, p.summaries, false);
    there.plan = Plan(p.plan, p.queries, true);
    if (p.tail != nullptr) there.tail = Out(p.tail, TailFloats(p.shape, p.queries));
    Run([&] { ops_->Route(there); });
  }
  void AttendDense(const AttendDenseParams& p) override {
    AttendDenseParams there = p;
    Attend(there);
    Run([&] { ops_->AttendDense(there); });
  }
  void AttendRouted(const AttendRoutedParams& p) override {
    AttendRoutedParams there = p;
    Attend(there);
    there.plan = Plan(p.plan, p.queries, false);
    if (p.tail != nullptr) {
      there.tail = In(p.tail, TailFloats(p.shape, p.queries));
    }
    Run([&] { ops_->AttendRouted(there); });
  }
  void AttendSampled(const AttendSampledParams& p) override {
    AttendSampledParams there = p;
    Attend(there);
    Run([&] { ops_->AttendSampled(there); });
  }

 private:
  static constexpr int64_t kGap = 256;  // also the alignment of every piece

  struct Piece {
    int64_t offset, bytes;
    const void* from;
    void* to;   // null: an input, which must come back as it went
    bool made;  // a table of this call, whose source is gone
  };

  static int64_t TailFloats(const HeadShape& shape, int queries) {
    return int64_t{queries} * shape.heads * TailLayout::Width(shape.head_dim);
  }

  template <typename T>
  T* Add(const void* from, void* to, int64_t count, bool made = false) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    const Piece piece{used_, bytes, from, to, made};
    used_ += spec::CeilDiv(bytes, kGap) * kGap + kGap;
    HGA_CHECK(used_ <= MirrorMemory::kBytes);
    if (bytes > 0) std::memcpy(host_ + piece.offset, from, static_cast<size_t>(bytes));
    pieces_.push_back(piece);
    return reinterpret_cast<T*>(device_ + piece.offset);
  }
  template <typename T>
  const T* In(const T* from, int64_t count) {
    return Add<T>(from, nullptr, count);
  }
  template <typename T>
  T* Out(T* to, int64_t count) {
    return Add<T>(to, to, count);
  }
  // A table made for the call.
  template <typename T>
  const T* Keep(const std::vector<T>& table) {
    return Add<T>(table.data(), nullptr, static_cast<int64_t>(table.size()), true);
  }
  template <typename T, typename F>
  T* const* Table(T* const* from, int64_t count, const F& move) {
    std::vector<T*> table;
    for (int64_t i = 0; i < count; ++i) table.push_back(move(from[i]));
    return Keep(table);
  }
  WeightView InWeight(const WeightView& w) {
    WeightView there = w;
    there.data = In(static_cast<const uint8_t*>(w.data), w.rows * w.cols * BytesOf(w.dtype));
    if (w.scales != nullptr) {
      there.scales = In(w.scales, spec::CeilDiv(w.rows, 128) * spec::CeilDiv(w.cols, 128));
    }
    return there;
  }
  const float* Queries(const HeadShape& shape, const float* q, int queries) {
    return In(q, int64_t{queries} * shape.heads * shape.head_dim);
  }
  SummaryView Summaries(const HeadShape& shape, const RoutingConfig& rule, const SummaryView& v,
                        bool written) {
    SummaryView there = v;
    const int64_t bytes = rule.summary_dtype == SummaryDtype::kFp8 ? 1 : 2;
    const auto piece = [&](auto*& pointer, int64_t count) {
      using T = std::remove_reference_t<decltype(*pointer)>;
      if (pointer != nullptr) pointer = Add<T>(pointer, written ? pointer : nullptr, count);
    };
    const auto level = [&](void*& data, float*& scales, int64_t means) {
      auto* elements = static_cast<uint8_t*>(data);
      piece(elements, shape.kv_heads * means * shape.head_dim * bytes);
      data = elements;
      piece(scales, shape.kv_heads * means);
    };
    level(there.keys, there.key_scales, v.key_means);
    level(there.values, there.value_scales, v.value_means);
    level(there.chunk_keys, there.chunk_key_scales, v.chunk_key_means);
    level(there.chunk_values, there.chunk_value_scales, v.chunks);
    return there;
  }
  PlanView Plan(const PlanView& plan, int queries, bool written) {
    PlanView there = plan;
    const int64_t slots = int64_t{queries} * plan.selectors;
    there.groups = Add<int32_t>(plan.groups, written ? plan.groups : nullptr, slots * plan.budget);
    there.counts = Add<int32_t>(plan.counts, written ? plan.counts : nullptr, slots);
    return there;
  }
  // Cells up to the last query, the last one first, so that only the table finds them.
  void Attend(AttendParams& p) {
    const int64_t cells = spec::CeilDiv(p.first_position + p.queries, spec::kCell);
    std::vector<const Bf16*> table(static_cast<size_t>(cells * p.shape.kv_heads));
    for (int64_t i = static_cast<int64_t>(table.size()) - 1; i >= 0; --i) {
      table[static_cast<size_t>(i)] = In(p.kv.cells[i / cells * p.kv.cell_stride + i % cells],
                                         spec::CellElements(p.shape.head_dim));
    }
    p.kv = {Keep(table), cells};
    p.q = Queries(p.shape, p.q, p.queries);
    p.out = Out(p.out, int64_t{p.queries} * p.shape.heads * p.shape.head_dim);
  }

  template <typename F>
  void Run(const F& call) {
    Stream& stream = ops_->stream();
    stream.Copy(device_, host_, used_);
    call();
    stream.Copy(host_, device_, used_);
    Status status = stream.Wait();
    if (status.ok()) status = ops_->status();
    EXPECT_TRUE(status.ok()) << ops_->name() << ": " << status.message();
    int64_t at = 0;
    for (const Piece& piece : pieces_) {
      EXPECT_TRUE(Canaries(at, piece.offset)) << ops_->name() << " wrote between its buffers";
      std::byte* bytes = host_ + piece.offset;
      if (piece.to != nullptr && piece.bytes > 0) {
        std::memcpy(piece.to, bytes, static_cast<size_t>(piece.bytes));
      } else if (piece.bytes > 0 && !piece.made) {
        EXPECT_EQ(std::memcmp(piece.from, bytes, static_cast<size_t>(piece.bytes)), 0)
            << ops_->name() << " changed an input";
      }
      at = piece.offset + piece.bytes;
    }
    EXPECT_TRUE(Canaries(at, used_)) << ops_->name() << " wrote past its buffers";
    std::memset(host_, kCanary, static_cast<size_t>(used_));
    pieces_.clear();
    used_ = 0;
  }
  bool Canaries(int64_t begin, int64_t end) const {
    return std::all_of(host_ + begin, host_ + end,
                       [](std::byte b) { return static_cast<uint8_t>(b) == kCanary; });
  }

  std::unique_ptr<Ops> ops_;
  std::byte* device_;  // [MirrorMemory::kBytes]
  std::byte* host_;    // its image: what goes there, then what came back
  std::vector<Piece> pieces_;
  int64_t used_ = kGap;
};

}  // namespace hga::conformance

#endif  // HGA_TESTS_CONFORMANCE_MIRROR_H_
