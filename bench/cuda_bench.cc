// SPDX-License-Identifier: Apache-2.0
// Times of the CUDA backend's ops at the shapes of Qwen3-30B-A3B, beside the bytes and products
// each must at least move and do. Data rotates through more memory than the GPU's cache holds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "cuda/cuda_backend.h"
#include "hga/config.h"
#include "spec/layout.h"
#include "spec/rules.h"

namespace hga {
namespace {

constexpr HeadShape kShape{32, 4, 128};
constexpr int kHidden = 2048, kWidth = 768, kExperts = 128, kPerToken = 8;
constexpr int kRepeats = 20;

template <typename T>
T Must(Result<T> result) {
  if (result.ok()) return std::move(result).value();
  std::fprintf(stderr, "cuda_bench: %s\n", result.status().message().c_str());
  std::exit(1);
}

void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "cuda_bench: %s\n", status.message().c_str());
  std::exit(1);
}

class Bench {
 public:
  explicit Bench(std::string filter) : filter_(std::move(filter)) {
    ops_ = Must(OpenCuda(0, {}));
    block_ = Must(ops_->device().Allocate(kBlock, MemoryKind::kPinned));
    start_ = Must(ops_->device().NewEvent());
    end_ = Must(ops_->device().NewEvent());
    OpsLimits limits{kShape, 512, 1 << 20, kHidden, kWidth, kExperts, kPerToken};
    Must(ops_->Prepare(limits));
    std::printf("%s\n%-34s %10s %9s %9s %10s\n", ops_->name().c_str(), "op", "median us", "GB/s",
                "TFLOP/s", "spread us");
  }
  Ops& ops() { return *ops_; }
  bool Wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  enum class Fill { kFp8, kBf16, kFloat };
  // Device memory of random values; a block of them is repeated.
  DeviceMemory Make(int64_t bytes, Fill fill, float scale = 1.f) {
    uint64_t state = 88172645463325252u + static_cast<uint64_t>(bytes);
    const int64_t used = std::min<int64_t>(bytes, kBlock);
    auto* block = block_.as<uint8_t>();
    for (int64_t i = 0; i < used; i += 4) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      const float x = (static_cast<float>(state >> 40) * 0x1p-23f - 1.f) * 1.7f * scale;
      const uint32_t pair = FloatToBf16(x) | static_cast<uint32_t>(FloatToBf16(-x * 0.7f)) << 16;
      const uint32_t bits = static_cast<uint32_t>(state >> 20) & 0xBFBFBFBFu;  // no NaN
      std::memcpy(block + i,
                  fill == Fill::kFp8    ? static_cast<const void*>(&bits)
                  : fill == Fill::kBf16 ? static_cast<const void*>(&pair)
                                        : static_cast<const void*>(&x),
                  4);
    }
    DeviceMemory memory = Must(ops_->device().Allocate(bytes));
    for (int64_t at = 0; at < bytes; at += used) {
      ops_->stream().Copy(memory.data() + at, block, std::min(used, bytes - at));
    }
    Must(ops_->stream().Wait());
    return memory;
  }
  template <typename T>
  DeviceMemory Upload(const std::vector<T>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    DeviceMemory memory = Must(ops_->device().Allocate(bytes));
    std::memcpy(block_.data(), values.data(), static_cast<size_t>(bytes));
    ops_->stream().Copy(memory.data(), block_.data(), bytes);
    Must(ops_->stream().Wait());
    return memory;
  }

  // `call(i)` runs the op on data set i.
  void Time(const std::string& name, double bytes, double flops,
            const std::function<void(int)>& call) {
    for (int i = 0; i < 3; ++i) call(i);
    Must(ops_->stream().Wait());
    Must(ops_->status());
    std::vector<double> times;
    for (int i = 0; i < kRepeats; ++i) {
      start_->Record(ops_->stream());
      call(i);
      end_->Record(ops_->stream());
      Must(ops_->stream().Wait());
      times.push_back(Must(end_->SecondsSince(*start_)));
    }
    Must(ops_->status());
    std::sort(times.begin(), times.end());
    const double t = times[kRepeats / 2];
    std::printf("%-34s %10.1f %9.0f %9.2f %10.1f\n", name.c_str(), t * 1e6, bytes / t * 1e-9,
                flops / t * 1e-12, (times[kRepeats - 2] - times[1]) * 1e6);
  }

 private:
  static constexpr int64_t kBlock = int64_t{32} << 20;
  std::string filter_;
  std::unique_ptr<Ops> ops_;
  DeviceMemory block_;
  std::unique_ptr<Event> start_, end_;
};

void BenchLinear(Bench& b, const char* what, Dtype dtype, int64_t outputs, int64_t inputs,
                 int rows) {
  const std::string name = fmt::format("linear {} {}x{} rows {}", what, outputs, inputs, rows);
  if (!b.Wanted(name)) return;
  const int64_t weight_bytes = outputs * inputs * BytesOf(dtype);
  const int sets = static_cast<int>(std::clamp<int64_t>((256 << 20) / weight_bytes, 1, 64));
  const bool fp8 = dtype == Dtype::kFp8;
  const DeviceMemory weights =
      b.Make(weight_bytes * sets, fp8 ? Bench::Fill::kFp8 : Bench::Fill::kBf16, 0.02f);
  const DeviceMemory scales =
      b.Make(spec::CeilDiv(outputs, 128) * spec::CeilDiv(inputs, 128) * 4, Bench::Fill::kFloat);
  const DeviceMemory x = b.Make(rows * inputs * 4, Bench::Fill::kFloat);
  const DeviceMemory y = b.Make(rows * outputs * 4, Bench::Fill::kFloat);
  b.Time(name, static_cast<double>(weight_bytes),
         2.0 * static_cast<double>(outputs * inputs) * rows, [&](int i) {
           const WeightView w{weights.data() + i % sets * weight_bytes, dtype, outputs, inputs,
                              fp8 ? scales.as<float>() : nullptr};
           const LinearParams p{x.as<float>(), inputs, rows, w, y.as<float>(), outputs, false};
           b.ops().Linear({&p, 1});
         });
}

void BenchExperts(Bench& b, int rows) {
  const std::string name = fmt::format("experts 8 of 128 rows {}", rows);
  if (!b.Wanted(name)) return;
  const int64_t each = int64_t{kHidden} * kWidth;
  const DeviceMemory weights = b.Make(3 * kExperts * each, Bench::Fill::kFp8);
  const DeviceMemory scales = b.Make(kHidden / 128 * kWidth / 128 * 4, Bench::Fill::kFloat, 0.01f);
  const DeviceMemory router = b.Make(kExperts * kHidden * 2, Bench::Fill::kBf16, 0.05f);
  std::vector<WeightView> views[3];
  for (int e = 0; e < kExperts; ++e) {
    for (int m = 0; m < 3; ++m) {
      const int64_t out = m == 2 ? kHidden : kWidth, in = m == 2 ? kWidth : kHidden;
      views[m].push_back(
          {weights.data() + (3 * e + m) * each, Dtype::kFp8, out, in, scales.as<float>()});
    }
  }
  const DeviceMemory tables[3] = {b.Upload(views[0]), b.Upload(views[1]), b.Upload(views[2])};
  constexpr int kSets = 8;
  const DeviceMemory x = b.Make(int64_t{kSets} * rows * kHidden * 4, Bench::Fill::kFloat);
  const DeviceMemory y = b.Make(int64_t{rows} * kHidden * 4, Bench::Fill::kFloat);
  const double touched = std::min<double>(kExperts, double{kPerToken} * rows);
  b.Time(name, touched * 3.0 * static_cast<double>(each),
         2.0 * 3.0 * static_cast<double>(each) * kPerToken * rows, [&](int i) {
           ExpertsParams p;
           p.x = x.as<float>() + int64_t{i % kSets} * rows * kHidden;
           p.rows = rows;
           p.hidden = kHidden;
           p.width = kWidth;
           p.experts = kExperts;
           p.experts_per_token = kPerToken;
           p.router = {router.data(), Dtype::kBf16, kExperts, kHidden, nullptr};
           p.gate = tables[0].as<WeightView>();
           p.up = tables[1].as<WeightView>();
           p.down = tables[2].as<WeightView>();
           p.y = y.as<float>();
           b.ops().Experts(p);
         });
}

// K/V of two layers, and summaries of several: a step never finds its data in the cache.
class AttentionData {
 public:
  AttentionData(Bench& b, int64_t context, int queries)
      : context_(context), queries_(queries), sets_(context >= (1 << 18) ? 1 : 4) {
    const int64_t cells = context / spec::kCell, size = spec::CellElements(kShape.head_dim);
    kv_ = b.Make(sets_ * kShape.kv_heads * cells * size * 2, Bench::Fill::kBf16);
    for (int64_t s = 0; s < sets_; ++s) {
      std::vector<const Bf16*> table;
      for (int64_t i = 0; i < kShape.kv_heads * cells; ++i) {
        table.push_back(kv_.as<Bf16>() + (s * kShape.kv_heads * cells + i) * size);
      }
      tables_.push_back(b.Upload(table));
    }
    const int64_t width = int64_t{queries} * kShape.heads * kShape.head_dim;
    q_ = b.Make(width * 4, Bench::Fill::kFloat);
    out_ = b.Make(width * 4, Bench::Fill::kFloat);
    const int64_t heads = kShape.kv_heads, dim = kShape.head_dim;
    keys_ = b.Make(sets_ * heads * context / 4 * dim, Bench::Fill::kFp8);
    values_ = b.Make(sets_ * heads * context / 16 * dim, Bench::Fill::kFp8);
    scales_ = b.Make(heads * context / 4 * 4, Bench::Fill::kFloat, 0.01f);
    groups_ = b.Make(int64_t{queries} * heads * rule_.groups_budget * 4, Bench::Fill::kFloat);
    counts_ = b.Make(queries * heads * 4, Bench::Fill::kFloat);
    tail_ = b.Make(int64_t{queries} * kShape.heads * TailLayout::Width(kShape.head_dim) * 4,
                   Bench::Fill::kFloat);
  }
  void Fill(int i, AttendParams& p) const {
    p.shape = kShape;
    p.q = q_.as<float>();
    p.queries = queries_;
    p.first_position = context_ - queries_;
    p.kv = {tables_[static_cast<size_t>(i % sets_)].as<const Bf16*>(), context_ / spec::kCell};
    p.out = out_.as<float>();
  }
  PlanView plan() const {
    return {groups_.as<int32_t>(), counts_.as<int32_t>(), kShape.kv_heads, rule_.groups_budget};
  }
  RouteParams Route(int i) const {
    RouteParams r;
    r.shape = kShape;
    r.rule = &rule_;
    r.q = q_.as<float>();
    r.first_position = context_ - queries_;
    r.queries = queries_;
    const int64_t set = i % sets_, heads = kShape.kv_heads, dim = kShape.head_dim;
    r.summaries.key_means = context_ / 4;
    r.summaries.value_means = context_ / 16;
    r.summaries.keys = keys_.data() + set * heads * context_ / 4 * dim;
    r.summaries.values = values_.data() + set * heads * context_ / 16 * dim;
    r.summaries.key_scales = r.summaries.value_scales = scales_.as<float>();
    r.plan = plan();
    r.tail = tail_.as<float>();
    return r;
  }
  const RoutingConfig& rule() const { return rule_; }
  float* tail() const { return tail_.as<float>(); }

 private:
  RoutingConfig rule_;
  int64_t context_;
  int queries_;
  int64_t sets_;
  DeviceMemory kv_, q_, out_, keys_, values_, scales_, groups_, counts_, tail_;
  std::vector<DeviceMemory> tables_;
};

void BenchAttention(Bench& b, int64_t context, int queries) {
  const std::string where = fmt::format("{}K, {} queries", context / 1024, queries);
  const std::string names[] = {"dense " + where, "route " + where, "attend routed " + where,
                               "sampled " + where};
  if (std::none_of(std::begin(names), std::end(names), [&](auto& n) { return b.Wanted(n); })) {
    return;
  }
  const AttentionData data(b, context, queries);
  const double tokens = static_cast<double>(context), q = queries;
  const double per_token = 512.0 * kShape.kv_heads, products = 4.0 * kShape.heads * 128.0;
  const double seen = q * (tokens - (q - 1) / 2);
  if (b.Wanted(names[0])) {
    b.Time(names[0], tokens * per_token, products * seen, [&](int i) {
      AttendDenseParams p;
      data.Fill(i, p);
      b.ops().AttendDense(p);
    });
  }
  if (b.Wanted(names[1])) {
    b.Time(names[1], tokens * 40 * kShape.kv_heads,
           2.0 * kShape.heads * 128.0 * (0.25 + 0.0625) * seen,
           [&](int i) { b.ops().Route(data.Route(i)); });
  }
  const double working = 128 + 512 + 32 + 1024;
  if (b.Wanted(names[2])) {
    b.ops().Route(data.Route(0));
    b.Time(names[2], q * working * per_token, products * q * working, [&](int i) {
      AttendRoutedParams p;
      data.Fill(i, p);
      p.rule = &data.rule();
      p.plan = data.plan();
      p.tail = data.tail();
      b.ops().AttendRouted(p);
    });
  }
  if (!b.Wanted(names[3])) return;
  const double sampled = std::min(tokens, 128 + 512 + 32 + 8192.0);
  b.Time(names[3], sampled * per_token, products * q * sampled, [&](int i) {
    AttendSampledParams p;
    data.Fill(i, p);
    p.sink_chunks = 2;
    p.local_chunks = 8;
    p.most_cells = 1024;
    b.ops().AttendSampled(p);
  });
}

int Main(int argc, char** argv) {
  if (CudaDeviceCount() == 0) {
    std::printf("skipped: no GPU\n");
    return 0;
  }
  Bench b(argc > 1 ? argv[1] : "");
  for (int rows : {1, 4, 512}) {
    BenchLinear(b, "fp8", Dtype::kFp8, 4096, 2048, rows);
    BenchLinear(b, "fp8", Dtype::kFp8, 2048, 4096, rows);
    if (rows == 512) continue;
    BenchLinear(b, "bf16", Dtype::kBf16, 151936, 2048, rows);
  }
  for (int rows : {1, 512}) BenchExperts(b, rows);
  for (int64_t context : {1 << 16, 1 << 18}) BenchAttention(b, context, 1);
  BenchAttention(b, 1 << 16, 64);
  BenchAttention(b, 1 << 16, 512);
  return 0;
}

}  // namespace
}  // namespace hga

int main(int argc, char** argv) { return hga::Main(argc, argv); }
