// SPDX-License-Identifier: Apache-2.0
// Plan, attend and account for one layer's span.
#include "attention/layer_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "attention/cell_needs.h"
#include "spec/layout.h"
#include "spec/rules.h"
#include "spec/visibility.h"

namespace hga {
namespace {

using spec::kCell;
using spec::kChunk;

int64_t BytesOfTokens(int64_t tokens, int head_dim) {
  return tokens * 2 * head_dim * static_cast<int64_t>(sizeof(Bf16));
}

}  // namespace

Status AttentionScratch::Prepare(const HeadShape& shape, int rows, int budget, Device& device) {
  const int64_t selections = int64_t{rows} * shape.heads;
  HGA_ASSIGN_OR_RETURN(groups_, DeviceArray<int32_t>::Make(device, selections * budget));
  HGA_ASSIGN_OR_RETURN(counts_, DeviceArray<int32_t>::Make(device, selections));
  HGA_ASSIGN_OR_RETURN(
      tail_, DeviceArray<float>::Make(device, selections * TailLayout::Width(shape.head_dim)));
  return OkStatus();
}

PlanView AttentionScratch::Plan(const RoutingConfig& rule, const HeadShape& shape) const {
  PlanView plan;
  plan.groups = groups_.data();
  plan.counts = counts_.data();
  plan.selectors = spec::Selectors(rule, shape.heads, shape.kv_heads);
  plan.budget = std::max(1, rule.groups_budget);
  return plan;
}

Result<SequenceAttention> SequenceAttention::Make(const AttentionConfig& config,
                                                  const HeadShape& shape, double rope_theta,
                                                  const KvHistory& history, Device& device,
                                                  int64_t summary_budget) {
  SequenceAttention a;
  a.config_ = config;
  a.shape_ = shape;
  a.rope_theta_ = rope_theta;
  a.fetches_ = std::make_unique<std::array<CellFetch, 3>>();
  const int layers = history.shape().layers;
  a.last_.resize(static_cast<size_t>(layers));
  for (int layer = 0; layer < layers; ++layer) {
    if (config.KindOf(layer) != LayerKind::kRouted) {
      a.summaries_.emplace_back();
      continue;
    }
    const RoutingConfig& rule = config.RuleOf(layer);
    const bool paged = summary_budget >= 0 && rule.chunk_beam > 0;
    HGA_ASSIGN_OR_RETURN(LayerSummaries summaries,
                         LayerSummaries::Make(rule, shape, history.capacity(), paged, device));
    a.summaries_.push_back(std::move(summaries));
  }
  a.summary_budget_ = summary_budget;
  if (summary_budget >= 0 && history.tiers() != nullptr) {
    HGA_ASSIGN_OR_RETURN(a.pager_,
                         SummaryPager::Make(history.tiers(), shape, a.summaries_, summary_budget));
    a.kept_.resize(static_cast<size_t>(shape.kv_heads) *
                   static_cast<size_t>(spec::CeilDiv(history.capacity(), kChunk)));
  }
  a.ReserveFor(history.capacity());
  return a;
}

void SequenceAttention::ReserveFor(int64_t capacity) {
  int64_t groups = 0;
  for (int layer = 0; layer < static_cast<int>(last_.size()); ++layer) {
    if (config_.KindOf(layer) != LayerKind::kRouted) continue;
    const RoutingConfig& rule = config_.RuleOf(layer);
    groups = std::max(groups, capacity / rule.group + 1);
    const int selectors = spec::Selectors(rule, shape_.heads, shape_.kv_heads) / shape_.kv_heads;
    LastPlanOf& last = last_[static_cast<size_t>(layer)];
    last.groups.resize(static_cast<size_t>(shape_.kv_heads));
    for (auto& head : last.groups)
      head.reserve(static_cast<size_t>(selectors * rule.groups_budget));
  }
  marks_.reserve(static_cast<size_t>(groups));
}

void SequenceAttention::Close(Ops& ops, const KvHistory& history, int layer, int64_t old_length,
                              int64_t length) {
  const RoutingConfig& rule = config_.RuleOf(layer);
  if (config_.KindOf(layer) != LayerKind::kRouted || !spec::NeedsSummaries(rule)) return;
  for (int64_t chunk = old_length / kChunk; chunk < length / kChunk; ++chunk) {
    SummariseParams p;
    p.shape = shape_;
    p.rule = &rule;
    p.rope_theta = rope_theta_;
    p.chunk = chunk;
    p.cells = history.cells(layer) + chunk * spec::kCellsPerChunk;
    p.cell_stride = history.cell_stride();
    p.out = summaries_[static_cast<size_t>(layer)].view();
    ops.Summarise(p);
    if (pager_ != nullptr) pager_->Closed(layer, chunk);
  }
}

Status SequenceAttention::Attend(Ops& ops, AttentionScratch& scratch, KvHistory& history, int layer,
                                 const float* q, int64_t first_position, int queries, float* out) {
  const auto fill = [&](AttendParams* p) {
    p->shape = shape_;
    p->q = q;
    p->first_position = first_position;
    p->queries = queries;
    p->kv = {history.cells(layer), history.cell_stride()};
    p->out = out;
  };
  const RoutingConfig& rule = config_.RuleOf(layer);
  switch (config_.KindOf(layer)) {
    case LayerKind::kDense: {
      AttendDenseParams p;
      fill(&p);
      ops.AttendDense(p);
      CountFixed(layer, first_position, queries);
      return OkStatus();
    }
    case LayerKind::kSampled: {
      AttendParams p;
      fill(&p);
      HGA_RETURN_IF_ERROR(AttendSampled(ops, history, layer, p));
      CountFixed(layer, first_position, queries);
      return OkStatus();
    }
    case LayerKind::kRouted: {
      AttendRoutedParams p;
      fill(&p);
      p.rule = &rule;
      p.plan = scratch.Plan(rule, shape_);
      p.tail = rule.tail ? scratch.tail() : nullptr;
      HGA_RETURN_IF_ERROR(Route(ops, scratch, history, p, layer));
      HGA_RETURN_IF_ERROR(AttendRouted(ops, history, layer, p));
      if (!ops.device().host_memory()) {
        CountUnseen(p);
        return OkStatus();
      }
      CountRouted(p);
      if (queries == 1) Remember(p, layer);
      return OkStatus();
    }
  }
  return Internal("no such kind of layer");
}

Status SequenceAttention::Route(Ops& ops, AttentionScratch& scratch, KvHistory& history,
                                const AttendRoutedParams& attend, int layer) {
  if (!spec::NeedsSummaries(*attend.rule)) {
    ops.stream().Fill(
        attend.plan.counts, 0,
        int64_t{attend.queries} * attend.plan.selectors * static_cast<int64_t>(sizeof(int32_t)));
    return OkStatus();
  }
  RouteParams r;
  r.shape = attend.shape;
  r.rule = attend.rule;
  r.q = attend.q;
  r.first_position = attend.first_position;
  r.queries = attend.queries;
  r.summaries = summaries_[static_cast<size_t>(layer)].view();
  r.plan = attend.plan;
  r.tail = attend.rule->tail ? scratch.tail() : nullptr;
  if (pager_ != nullptr && pager_->paged(layer)) {
    HGA_RETURN_IF_ERROR(BringSummaries(ops, history, r, layer));
  }
  ops.Route(r);
  return OkStatus();
}

Status SequenceAttention::SetConfig(Ops& ops, KvHistory& history, const AttentionConfig& config,
                                    int64_t length) {
  for (int layer = 0; layer < history.shape().layers; ++layer) {
    if (config.KindOf(layer) == LayerKind::kDense && !history.resident(layer)) {
      return InvalidArgument(
          fmt::format("layer {} would become dense, but its K/V is not in memory whole", layer));
    }
  }
  HGA_ASSIGN_OR_RETURN(SequenceAttention next,
                       Make(config, shape_, rope_theta_, history, ops.device(), summary_budget_));
  std::vector<bool> same(static_cast<size_t>(history.shape().layers));
  for (int layer = 0; layer < history.shape().layers; ++layer) {
    const size_t l = static_cast<size_t>(layer);
    same[l] = config_.KindOf(layer) == LayerKind::kRouted &&
              config.KindOf(layer) == LayerKind::kRouted &&
              spec::SameSummaries(config_.RuleOf(layer), config.RuleOf(layer)) && pager_ == nullptr;
    if (!same[l]) HGA_RETURN_IF_ERROR(next.RebuildLayer(ops, history, layer, length));
  }
  for (size_t l = 0; l < same.size(); ++l) {
    if (same[l]) next.summaries_[l] = std::move(summaries_[l]);
  }
  *this = std::move(next);
  return OkStatus();
}

void SequenceAttention::CountFixed(int layer, int64_t first_position, int queries) {
  const LayerKind kind = config_.KindOf(layer);
  const RoutingConfig& rule = config_.RuleOf(layer);
  AttentionStats::Sums sums;
  for (int i = 0; i < queries; ++i) {
    const int64_t position = first_position + i;
    int64_t visible = position + 1;
    const auto range = spec::CandidateRange(position, rule.sink_chunks, rule.local_chunks);
    if (kind == LayerKind::kSampled && !range.empty()) {
      const int64_t cells = range.size() / kCell;
      const int64_t stride = spec::SampleStride(cells, config_.sampled_layers.at(layer));
      visible = position + 1 - range.size() + spec::CeilDiv(cells, stride) * kCell;
    }
    sums.context += static_cast<double>(position + 1) * shape_.kv_heads;
    sums.visible += static_cast<double>(visible) * shape_.kv_heads;
    if (i == queries - 1) {
      // The span's share of the context at its end, weighed like the context.
      sums.fetched =
          sums.context * static_cast<double>(visible) / static_cast<double>(position + 1);
      stats_.bytes_read +=
          static_cast<double>(BytesOfTokens(visible, shape_.head_dim)) * shape_.kv_heads;
    }
  }
  stats_.flops += 4.0 * sums.visible * shape_.queries_per_kv() * shape_.head_dim;
  const auto add = [&sums](AttentionStats::Sums* to) {
    to->context += sums.context;
    to->visible += sums.visible;
    to->fetched += sums.fetched;
  };
  add(&stats_.all);
  if (kind != LayerKind::kDense) add(&stats_.routed);
}

void SequenceAttention::CountRouted(const AttendRoutedParams& p) {
  const RoutingConfig& rule = *p.rule;
  const int per_head = p.plan.selectors / shape_.kv_heads;
  const int64_t last = p.first_position + p.queries - 1;
  const auto first_range =
      spec::CandidateRange(p.first_position, rule.sink_chunks, rule.local_chunks);
  const auto range = spec::CandidateRange(last, rule.sink_chunks, rule.local_chunks);
  // Tokens of the span's windows together: everything but what lies before the first local window.
  const int64_t windows = last + 1 - first_range.size();
  AttentionStats::Sums sums;
  double share = 0;  // of the context at the span's end, summed over KV heads
  double bytes = 0;
  for (int head = 0; head < shape_.kv_heads; ++head) {
    marks_.assign(static_cast<size_t>(range.end / rule.group + 1), 0);
    int64_t distinct = 0;
    for (int i = 0; i < p.queries; ++i) {
      const auto own =
          spec::CandidateRange(p.first_position + i, rule.sink_chunks, rule.local_chunks);
      int64_t opened = 0;
      for (int s = head * per_head; s < (head + 1) * per_head; ++s) {
        const int64_t at = int64_t{i} * p.plan.selectors + s;
        opened += p.plan.counts[at];
        for (int g = 0; g < p.plan.counts[at]; ++g) {
          const int32_t group = p.plan.groups[at * p.plan.budget + g];
          uint8_t& mark = marks_[static_cast<size_t>(group)];
          if (mark == 0 && int64_t{group} * rule.group < first_range.end) ++distinct;
          mark = 1;
        }
      }
      const double context = static_cast<double>(p.first_position + i + 1);
      sums.context += context;
      sums.visible += context - static_cast<double>(own.size()) +
                      static_cast<double>(opened) * rule.group / per_head;
    }
    const int64_t fetched = windows + distinct * rule.group;
    share += static_cast<double>(fetched) / static_cast<double>(last + 1);
    bytes += static_cast<double>(BytesOfTokens(fetched, shape_.head_dim));
  }
  sums.fetched = sums.context * share / shape_.kv_heads;
  AddRouted(p, sums, bytes);
}

// Adds a routed span's sums, what it read of K/V, and its scan of the summaries.
void SequenceAttention::AddRouted(const AttendRoutedParams& p, const AttentionStats::Sums& sums,
                                  double kv_bytes) {
  const RoutingConfig& rule = *p.rule;
  const auto range =
      spec::CandidateRange(p.first_position + p.queries - 1, rule.sink_chunks, rule.local_chunks);
  stats_.bytes_read += kv_bytes;
  stats_.flops += 4.0 * sums.visible * shape_.queries_per_kv() * shape_.head_dim;
  if (spec::NeedsSummaries(rule)) {
    const double means = 1.0 / rule.key_span + (rule.tail ? 1.0 / rule.value_span : 0.0);
    stats_.flops += 2.0 * means * static_cast<double>(range.size()) * p.queries * shape_.heads *
                    shape_.head_dim;
  }
  stats_.bytes_read += static_cast<double>(LayerSummaries::BytesPerToken(rule, shape_)) *
                       static_cast<double>(range.size());
  for (AttentionStats::Sums* to : {&stats_.all, &stats_.routed}) {
    to->context += sums.context;
    to->visible += sums.visible;
    to->fetched += sums.fetched;
  }
}

// As CountRouted, from sizes alone: how many groups a plan opens is known without it.
void SequenceAttention::CountUnseen(const AttendRoutedParams& p) {
  const RoutingConfig& rule = *p.rule;
  const int per_head = p.plan.selectors / shape_.kv_heads;
  const int64_t last = p.first_position + p.queries - 1;
  const auto first_range =
      spec::CandidateRange(p.first_position, rule.sink_chunks, rule.local_chunks);
  const auto range = spec::CandidateRange(last, rule.sink_chunks, rule.local_chunks);
  AttentionStats::Sums sums;
  int64_t distinct = 0;
  for (int i = 0; i < p.queries; ++i) {
    const auto own =
        spec::CandidateRange(p.first_position + i, rule.sink_chunks, rule.local_chunks);
    const int64_t kept = spec::BeamChunks(own.size() / kChunk, rule.chunk_beam, rule.beam_share);
    const int64_t opened = std::min<int64_t>(rule.groups_budget, kept * spec::GroupsPerChunk(rule));
    const double context = static_cast<double>(p.first_position + i + 1);
    distinct = std::min(distinct + opened * per_head, range.size() / rule.group);
    sums.context += context * shape_.kv_heads;
    sums.visible +=
        (context - static_cast<double>(own.size()) + static_cast<double>(opened * rule.group)) *
        shape_.kv_heads;
  }
  const int64_t fetched = std::min(last + 1, last + 1 - first_range.size() + distinct * rule.group);
  sums.fetched = sums.context * static_cast<double>(fetched) / static_cast<double>(last + 1);
  AddRouted(p, sums,
            static_cast<double>(BytesOfTokens(fetched, shape_.head_dim)) * shape_.kv_heads);
}

void SequenceAttention::Remember(const AttendRoutedParams& p, int layer) {
  LastPlanOf& last = last_[static_cast<size_t>(layer)];
  const int per_head = p.plan.selectors / shape_.kv_heads;
  last.group = p.rule->group;
  for (int head = 0; head < shape_.kv_heads; ++head) {
    std::vector<int32_t>& groups = last.groups[static_cast<size_t>(head)];
    groups.clear();
    for (int s = head * per_head; s < (head + 1) * per_head; ++s) {
      const int32_t* from = p.plan.groups + int64_t{s} * p.plan.budget;
      groups.insert(groups.end(), from, from + p.plan.counts[s]);
    }
    std::sort(groups.begin(), groups.end());
    groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  }
}

std::vector<Sequence::OpenedGroup> SequenceAttention::LastPlan(int layer, int kv_head) const {
  std::vector<Sequence::OpenedGroup> opened;
  if (layer < 0 || layer >= static_cast<int>(last_.size())) return opened;
  const LastPlanOf& last = last_[static_cast<size_t>(layer)];
  if (kv_head < 0 || kv_head >= static_cast<int>(last.groups.size())) return opened;
  for (int32_t group : last.groups[static_cast<size_t>(kv_head)]) {
    opened.push_back({int64_t{group} * last.group, last.group});
  }
  return opened;
}

}  // namespace hga
