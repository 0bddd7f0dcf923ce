// SPDX-License-Identifier: Apache-2.0
// Log-masses, shares and the two levels of selection for one query of one selector.
#include "reference/estimate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/reference.h"
#include "spec/layout.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Stored(const void* data, SummaryDtype dtype, int64_t element) {
  return dtype == SummaryDtype::kFp8 ? Fp8ToFloat(static_cast<const Fp8*>(data)[element])
                                     : Bf16ToFloat(static_cast<const Bf16*>(data)[element]);
}

// e of items [first, last) for each head: key means of `span` tokens, `per_item` to an item.
std::vector<std::vector<double>> LogMasses(const SelectorQuery& s, const void* keys,
                                           const float* scales, int64_t capacity, int span,
                                           int per_item, const std::vector<int64_t>& items) {
  const int d = s.shape.head_dim;
  const int64_t base = s.kv_head * spec::KeyMeanElements(capacity, d);
  std::vector<std::vector<double>> mass(s.heads);
  std::vector<double> key(d);
  std::vector<std::vector<double>> e(s.heads, std::vector<double>(per_item));
  for (int64_t item : items) {
    for (int j = 0; j < per_item; ++j) {
      const int64_t mean = item * per_item + j;
      const double scale = scales[s.kv_head * capacity + mean];
      for (int i = 0; i < d; ++i) {
        const int64_t element = base + spec::KeyMeanOffset(mean, i, d);
        key[i] = Stored(keys, s.rule->summary_dtype, element) * scale;
      }
      for (int h = 0; h < s.heads; ++h) {
        const float* q = s.q + int64_t{s.first_head + h} * d;
        double dot = 0;
        for (int i = 0; i < d; ++i) dot += q[i] * key[i];
        e[h][j] = dot / std::sqrt(static_cast<double>(d)) + std::log(static_cast<double>(span));
      }
    }
    for (int h = 0; h < s.heads; ++h) mass[h].push_back(LogSumExp(e[h]));
  }
  return mass;
}

// Sum over the heads of exp(e - log-sum-exp of e over these and the `others`).
std::vector<double> Shares(const std::vector<std::vector<double>>& mass,
                           const std::vector<std::vector<double>>& others) {
  std::vector<double> share(mass[0].size(), 0.0);
  for (size_t h = 0; h < mass.size(); ++h) {
    std::vector<double> all = mass[h];
    all.insert(all.end(), others[h].begin(), others[h].end());
    const double total = LogSumExp(all);
    for (size_t x = 0; x < share.size(); ++x) share[x] += std::exp(mass[h][x] - total);
  }
  return share;
}

// Step 6 on scores in double, through the float32 scores the op is defined on.
std::vector<int> Best(const std::vector<double>& score, int64_t count) {
  const std::vector<float> scores(score.begin(), score.end());
  std::vector<int32_t> chosen(std::min<int64_t>(count, static_cast<int64_t>(score.size())));
  SelectParams p;
  p.scores = scores.data();
  p.n = static_cast<int64_t>(scores.size());
  p.count = static_cast<int>(chosen.size());
  p.chosen = chosen.data();
  Select(p);
  return {chosen.begin(), chosen.end()};
}

std::vector<double> Row(const SelectorQuery& s, const void* data, const float* scales,
                        int64_t capacity, int64_t mean) {
  const int d = s.shape.head_dim;
  std::vector<double> row(d);
  const int64_t slot = s.kv_head * capacity + mean;
  for (int i = 0; i < d; ++i) {
    row[i] = Stored(data, s.rule->summary_dtype, slot * d + i) * scales[slot];
  }
  return row;
}

// The first level: leaves the survivors in `chunks`, the others in the estimate.
void KeepBeam(const SelectorQuery& s, std::vector<int64_t>& chunks, Estimate& out) {
  const auto candidates = static_cast<int64_t>(chunks.size());
  const int64_t beam = spec::BeamChunks(candidates, s.rule->chunk_beam, s.rule->beam_share);
  if (beam >= candidates) return;
  const SummaryView& view = *s.summaries;
  const auto mass = LogMasses(s, view.chunk_keys, view.chunk_key_scales, view.chunk_key_means,
                              s.rule->chunk_key_span, spec::ChunkMeansPerChunk(*s.rule), chunks);
  const std::vector<double> share = Shares(mass, std::vector<std::vector<double>>(mass.size()));
  const std::vector<int> kept = Best(share, beam);
  MarginOf(share, kept, &out.last_kept, &out.first_dropped);
  std::vector<int64_t> survivors;
  for (int64_t c = 0; c < candidates; ++c) {
    if (std::binary_search(kept.begin(), kept.end(), static_cast<int>(c))) {
      survivors.push_back(chunks[c]);
      continue;
    }
    out.chunks.push_back(chunks[c]);
    for (int h = 0; h < s.heads; ++h) out.chunk_mass[h].push_back(mass[h][c]);
  }
  chunks = survivors;
}

}  // namespace

double LogSumExp(const std::vector<double>& x) {
  double largest = -kInfinity;
  for (double v : x) largest = std::max(largest, v);
  if (largest == -kInfinity) return -kInfinity;
  double sum = 0;
  for (double v : x) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

void MarginOf(const std::vector<double>& score, const std::vector<int>& chosen, double* last,
              double* first_refused) {
  *last = kInfinity;
  *first_refused = -kInfinity;
  for (int x = 0; x < static_cast<int>(score.size()); ++x) {
    if (std::binary_search(chosen.begin(), chosen.end(), x)) {
      *last = std::min(*last, score[x]);
    } else {
      *first_refused = std::max(*first_refused, score[x]);
    }
  }
}

SelectorQuery QueryOf(const HeadShape& shape, const RoutingConfig& rule, const SummaryView& view,
                      const float* q, int64_t first_position, int query, int selector) {
  SelectorQuery s;
  s.shape = shape;
  s.rule = &rule;
  s.summaries = &view;
  s.q = q + int64_t{query} * shape.heads * shape.head_dim;
  s.position = first_position + query;
  const bool together = rule.scope == SelectionScope::kKvHead;
  s.heads = together ? shape.queries_per_kv() : 1;
  s.first_head = selector * s.heads;
  s.kv_head = s.first_head / shape.queries_per_kv();
  return s;
}

Estimate EstimateFor(const SelectorQuery& s) {
  Estimate out;
  out.last_kept = kInfinity;
  out.first_dropped = -kInfinity;
  out.group_mass.resize(s.heads);
  out.chunk_mass.resize(s.heads);
  const RoutingConfig& rule = *s.rule;
  const auto range = spec::CandidateRange(s.position, rule.sink_chunks, rule.local_chunks);
  if (range.empty() || !spec::NeedsSummaries(rule)) return out;
  std::vector<int64_t> chunks;
  for (int64_t t = range.begin; t < range.end; t += spec::kChunk) {
    chunks.push_back(t / spec::kChunk);
  }
  KeepBeam(s, chunks, out);
  const int per_chunk = spec::GroupsPerChunk(rule);
  for (int64_t c : chunks) {
    for (int j = 0; j < per_chunk; ++j) out.groups.push_back(c * per_chunk + j);
  }
  const SummaryView& view = *s.summaries;
  out.group_mass = LogMasses(s, view.keys, view.key_scales, view.key_means, rule.key_span,
                             spec::MeansPerGroup(rule), out.groups);
  out.share = Shares(out.group_mass, out.chunk_mass);
  out.opened = Best(out.share, rule.groups_budget);
  return out;
}

std::vector<double> ValueMean(const SelectorQuery& s, int64_t mean) {
  const SummaryView& view = *s.summaries;
  return Row(s, view.values, view.value_scales, view.value_means, mean);
}

std::vector<double> ChunkValueMean(const SelectorQuery& s, int64_t chunk) {
  const SummaryView& view = *s.summaries;
  return Row(s, view.chunk_values, view.chunk_value_scales, view.chunks, chunk);
}

}  // namespace hga::reference
