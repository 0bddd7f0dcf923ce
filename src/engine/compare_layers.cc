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

}  // namespace

Result<std::vector<Engine::LayerReport>> EngineImpl::CompareLayers(
    std::span<const int32_t> tokens, std::span<const AttentionConfig> rules, int64_t from,
    int64_t stride, const std::function<bool(int64_t, int64_t)>& progress) {
  if (tokens.empty() || from < 0 || stride < 1) {
    return InvalidArgument("comparing layers needs tokens, from >= 0 and stride >= 1");
  }
  const ModelConfig& c = transformer_.config();
  const HeadShape shape = transformer_.head_shape();
  HGA_ASSIGN_OR_RETURN(AttentionConfig dense, PresetConfig("dense"));
  const int64_t capacity = static_cast<int64_t>(tokens.size());
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> owner, NewSequence(dense, capacity));
  auto& sequence = static_cast<SequenceImpl&>(*owner);
  std::vector<SequenceAttention> others;
  for (const AttentionConfig& rule : rules) {
    HGA_RETURN_IF_ERROR(Validate(rule, c.layers));
    HGA_RETURN_IF_ERROR(PrepareFor(rule, capacity));
    HGA_ASSIGN_OR_RETURN(SequenceAttention a, SequenceAttention::Make(rule, shape, c.rope_theta,
                                                                      sequence.history_));
    others.push_back(std::move(a));
  }
  std::vector<LayerReport> reports(static_cast<size_t>(c.layers));
  for (int layer = 0; layer < c.layers; ++layer) {
    reports[static_cast<size_t>(layer)].layer = layer;
    reports[static_cast<size_t>(layer)].relative_error.resize(rules.size());
  }
  const RoutingConfig windows;  // the law's own windows tell what "beyond" means
  std::vector<float> out(static_cast<size_t>(c.q_width()));
  int64_t first = 0;
  int span_rows = 0;
  const AttentionTap tap = [&](int layer, size_t, const float* q, const float* truth) {
    LayerReport& report = reports[static_cast<size_t>(layer)];
    for (SequenceAttention& a : others) {
      a.Close(*ops_, sequence.history_, layer, first, first + span_rows);
    }
    for (int i = 0; i < span_rows; ++i) {
      const int64_t position = first + i;
      const auto range =
          spec::CandidateRange(position, windows.sink_chunks, windows.local_chunks);
      if (position < from || (position - from) % stride != 0 || range.empty()) continue;
      ++report.rows;
      const float* row = q + int64_t{i} * c.q_width();
      const float* dense_row = truth + int64_t{i} * c.q_width();
      for (int h = 0; h < c.heads; ++h) {
        const RowFacts f = Facts(sequence.history_, layer, h / shape.queries_per_kv(),
                                 row + h * c.head_dim, position, range);
        report.entropy += f.entropy / c.heads;
        report.mass_beyond_windows += f.beyond / c.heads;
      }
      for (size_t r = 0; r < others.size(); ++r) {
        others[r].Attend(*ops_, scratch_, sequence.history_, layer, row, position, 1, out.data());
        for (int h = 0; h < c.heads; ++h) {
          report.relative_error[r] +=
              RelativeError(out.data() + h * c.head_dim, dense_row + h * c.head_dim, c.head_dim) /
              c.heads;
        }
      }
    }
  };
  while (first < capacity) {
    span_rows = static_cast<int>(std::min<int64_t>(span_, capacity - first));
    const BatchItem item{&sequence, tokens.subspan(static_cast<size_t>(first), span_rows),
                         LogitsWanted::kNone, {}};
    HGA_RETURN_IF_ERROR(Run({&item, 1}, tap));
    first += span_rows;
    if (progress && !progress(first, capacity)) return Cancelled("stopped");
  }
  for (LayerReport& report : reports) {
    const double n = static_cast<double>(std::max<int64_t>(1, report.rows));
    report.entropy /= n;
    report.mass_beyond_windows /= n;
    for (double& e : report.relative_error) e /= n;
  }
  return reports;
}

}  // namespace hga
