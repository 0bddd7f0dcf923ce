// SPDX-License-Identifier: Apache-2.0
// How well each rule represents dense attention, layer by layer, on dense attention's own
// trajectory.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/dtype.h"
#include "engine/engine_impl.h"
#include "spec/layout.h"
#include "spec/visibility.h"

namespace hga {
namespace {

// Entropy of one row's dense attention and its mass on the candidate range, in double.
struct RowFacts {
  double entropy = 0;
  double beyond = 0;
};

RowFacts Facts(const KvHistory& history, int layer, int kv_head, const float* q, int64_t position,
               const spec::TokenRange& candidates) {
  const int dim = history.shape().head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  std::vector<double> x(static_cast<size_t>(position + 1));
  double max = -1e300;
  for (int64_t t = 0; t <= position; ++t) {
    const Bf16* key = history.cells(layer)[kv_head * history.cell_stride() + t / spec::kCell] +
                      spec::KeyRow(static_cast<int>(t % spec::kCell), dim);
    float dot = 0;
    for (int i = 0; i < dim; ++i) dot += q[i] * Bf16ToFloat(key[i]);
    x[static_cast<size_t>(t)] = dot * scale;
    max = std::max(max, dot * scale);
  }
  double sum = 0, weighted = 0, beyond = 0;
  for (int64_t t = 0; t <= position; ++t) {
    const double d = x[static_cast<size_t>(t)] - max, e = std::exp(d);
    sum += e;
    weighted += e * d;
    if (t >= candidates.begin && t < candidates.end) beyond += e;
  }
  return {std::log(sum) - weighted / sum, beyond / sum};
}

double RelativeError(const float* a, const float* truth, int dim) {
  double error = 0, norm = 0;
  for (int i = 0; i < dim; ++i) {
    error += (double{a[i]} - truth[i]) * (double{a[i]} - truth[i]);
    norm += double{truth[i]} * truth[i];
  }
  return norm > 0 ? std::sqrt(error / norm) : 0;
}

// Collects, span by span, what each rule does with dense attention's own queries.
struct LayerComparison {
  Ops& ops;
  AttentionScratch& scratch;
  const ModelConfig& config;
  KvHistory& history;
  std::vector<SequenceAttention> rules;
  std::vector<Engine::LayerReport> reports;
  int64_t from = 0, stride = 1;
  int64_t first = 0;  // position of the current span
  int rows = 0;       // of the current span

  Status status;  // the first error of a rule

  void AddLayer(int layer, const float* q, const float* truth) {
    Engine::LayerReport& report = reports[static_cast<size_t>(layer)];
    for (SequenceAttention& a : rules) a.Close(ops, history, layer, first, first + rows);
    const RoutingConfig windows;  // the law's own windows tell what "beyond" means
    for (int i = 0; i < rows; ++i) {
      const int64_t position = first + i;
      const auto range = spec::CandidateRange(position, windows.sink_chunks, windows.local_chunks);
      if (position < from || (position - from) % stride != 0 || range.empty()) continue;
      const int64_t at = int64_t{i} * config.q_width();
      AddRow(&report, position, range, q + at, truth + at);
    }
  }

  void AddRow(Engine::LayerReport* report, int64_t position, const spec::TokenRange& range,
              const float* q, const float* truth) {
    const int dim = config.head_dim, heads = config.heads;
    std::vector<float> out(static_cast<size_t>(config.q_width()));
    ++report->rows;
    for (int h = 0; h < heads; ++h) {
      const RowFacts f = Facts(history, report->layer, h / (heads / config.kv_heads), q + h * dim,
                               position, range);
      report->entropy += f.entropy / heads;
      report->mass_beyond_windows += f.beyond / heads;
    }
    for (size_t r = 0; r < rules.size(); ++r) {
      const Status attended =
          rules[r].Attend(ops, scratch, history, report->layer, q, position, 1, out.data());
      if (status.ok()) status = attended;
      for (int h = 0; h < heads; ++h) {
        report->relative_error[r] +=
            RelativeError(out.data() + h * dim, truth + h * dim, dim) / heads;
      }
    }
  }

  std::vector<Engine::LayerReport> Means() {
    for (Engine::LayerReport& report : reports) {
      const double n = static_cast<double>(std::max<int64_t>(1, report.rows));
      report.entropy /= n;
      report.mass_beyond_windows /= n;
      for (double& e : report.relative_error) e /= n;
    }
    return reports;
  }
};

}  // namespace

Result<std::vector<Engine::LayerReport>> EngineImpl::CompareLayers(
    std::span<const int32_t> tokens, std::span<const AttentionConfig> rules, int64_t from,
    int64_t stride, const std::function<bool(int64_t, int64_t)>& progress) {
  if (tokens.empty() || from < 0 || stride < 1) {
    return InvalidArgument("comparing layers needs tokens, from >= 0 and stride >= 1");
  }
  if (!ops_->device().host_memory()) {
    return Unsupported("layers are compared on the CPU only");
  }
  const ModelConfig& c = transformer_.config();
  HGA_ASSIGN_OR_RETURN(AttentionConfig dense, PresetConfig("dense"));
  const int64_t capacity = static_cast<int64_t>(tokens.size());
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> owner, NewSequence(dense, capacity));
  auto& sequence = static_cast<SequenceImpl&>(*owner);
  LayerComparison all{*ops_, scratch_, c, *sequence.history_, {}, {}, from, stride, 0, 0, {}};
  for (const AttentionConfig& rule : rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, c.layers));
    HGA_RETURN_IF_ERROR(PrepareFor(rule, capacity));
    HGA_ASSIGN_OR_RETURN(SequenceAttention a,
                         SequenceAttention::Make(rule, transformer_.head_shape(), c.rope_theta,
                                                 *sequence.history_, ops_->device()));
    all.rules.push_back(std::move(a));
  }
  for (int layer = 0; layer < c.layers; ++layer) {
    Engine::LayerReport report;
    report.layer = layer;
    report.relative_error.resize(rules.size());
    all.reports.push_back(std::move(report));
  }
  const AttentionTap tap = [&all](int layer, size_t, const float* q, const float* out) {
    all.AddLayer(layer, q, out);
  };
  while (all.first < capacity) {
    all.rows = static_cast<int>(std::min<int64_t>(span_, capacity - all.first));
    const BatchItem item{
        &sequence,
        tokens.subspan(static_cast<size_t>(all.first), static_cast<size_t>(all.rows)),
        LogitsWanted::kNone,
        {}};
    HGA_RETURN_IF_ERROR(Run({&item, 1}, tap));
    HGA_RETURN_IF_ERROR(all.status);
    all.first += all.rows;
    if (progress && !progress(all.first, capacity)) return Cancelled("stopped");
  }
  return all.Means();
}

}  // namespace hga
