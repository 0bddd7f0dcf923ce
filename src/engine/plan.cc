// SPDX-License-Identifier: Apache-2.0
// The memory and the disk a run will need, before and after loading.
#include <fmt/format.h>

#include <algorithm>

#include "attention/cell_needs.h"
#include "base/memory.h"
#include "engine/engine_impl.h"
#include "spec/layout.h"
#include "store/io.h"

namespace hga {
namespace {

// K/V by where it will be.
void PlanHistory(const ModelInfo& info, const AttentionConfig& attention, const KvOptions& kv,
                 int span, MemoryPlan* plan) {
  const HistoryShape shape{info.layers, info.kv_heads, info.head_dim};
  const bool tiered = kv.host_bytes > 0;
  const int64_t chunks = spec::CeilDiv(plan->context, spec::kChunk);
  const int64_t cells = chunks * spec::kCellsPerChunk * info.kv_heads;  // of a layer
  int64_t moving = 0;                                                  // bytes that may be on disk
  for (const LayerPolicy& policy : PoliciesOf(attention, info.layers, tiered)) {
    plan->table_bytes += cells * static_cast<int64_t>(sizeof(void*));
    if (policy.resident) {
      plan->dense_bytes += cells * CellBytes(shape);
      continue;
    }
    plan->table_bytes += cells * static_cast<int64_t>(sizeof(SlotId) + 1);
    plan->window_bytes += KvHistory::StandingCells(policy, plan->context, span) * info.kv_heads *
                          CellBytes(shape);
    moving += cells * CellBytes(shape);
  }
  if (!tiered) return;
  plan->table_bytes += chunks * info.layers * 8 * (1 + CellsPerRecord(shape));
  plan->host_bytes = std::min(moving, kv.host_bytes);
  // A record of a layer in memory has its place in the file too: holes take no disk.
  plan->disk_bytes = moving;
  const TierOptions buffers;
  plan->staging_bytes =
      Transfers::StagingBytes(shape, buffers.single_buffers, buffers.whole_buffers);
}

void Judge(const KvOptions& kv, MemoryPlan* plan) {
  const auto lacks = [plan](const char* what, int64_t needed, int64_t given) {
    plan->why += fmt::format("{}{} needs {} bytes and has {}", plan->why.empty() ? "" : "; ", what,
                             needed, given);
  };
  if (plan->available_bytes > 0 && plan->total_bytes > plan->available_bytes) {
    lacks("memory", plan->total_bytes, plan->available_bytes);
  }
  if (kv.device_bytes > 0 && plan->device_bytes > kv.device_bytes) {
    lacks("what stays in memory", plan->device_bytes, kv.device_bytes);
  }
  if (plan->disk_available_bytes > 0 && plan->disk_bytes > plan->disk_available_bytes) {
    lacks("the disk", plan->disk_bytes, plan->disk_available_bytes);
  }
  plan->fits = plan->why.empty();
}

MemoryPlan PlanOf(const ModelInfo& info, const AttentionConfig& attention, const KvOptions& kv,
                  int64_t context, int span, int threads) {
  const HeadShape shape{info.heads, info.kv_heads, info.head_dim};
  MemoryPlan plan;
  plan.context = context;
  plan.weight_bytes = info.weight_bytes;
  plan.kv_bytes_per_token = KvHistory::BytesPerToken({info.layers, info.kv_heads, info.head_dim});
  const int64_t stored = spec::CeilDiv(context, spec::kChunk) * spec::kChunk;
  plan.kv_bytes = stored * plan.kv_bytes_per_token;
  PlanHistory(info, attention, kv, span, &plan);
  for (int layer = 0; layer < info.layers; ++layer) {
    if (attention.KindOf(layer) != LayerKind::kRouted) continue;
    plan.summary_bytes += stored * LayerSummaries::BytesPerToken(attention.RuleOf(layer), shape);
  }
  plan.device_bytes = plan.dense_bytes + plan.window_bytes + plan.summary_bytes;
  const int64_t r = std::max(1, info.heads / std::max(1, info.kv_heads));
  const int64_t per_row =
      4 * (2 * int64_t{info.hidden} + 5 * int64_t{info.heads} * info.head_dim) +
      4 * int64_t{std::max(1, info.experts_per_token)} * (2 * info.hidden + 3 * info.ffn_width);
  plan.scratch_bytes = span * per_row + threads * 4 * 16 * r * (context / 8 + 4096);
  plan.total_bytes = plan.weight_bytes + plan.device_bytes + plan.table_bytes + plan.host_bytes +
                     plan.staging_bytes + plan.scratch_bytes;
  plan.available_bytes = AvailableMemory();
  if (!kv.directory.empty()) {
    const auto facts = FactsOf(kv.directory);
    if (facts.ok()) plan.disk_available_bytes = facts->free_bytes;
    if (kv.disk_bytes > 0) {
      plan.disk_available_bytes = std::min(
          kv.disk_bytes, facts.ok() ? plan.disk_available_bytes : kv.disk_bytes);
    }
  }
  Judge(kv, &plan);
  return plan;
}

}  // namespace

MemoryPlan EngineImpl::Plan(const AttentionConfig& attention, int64_t context) const {
  return PlanOf(info_, attention, kv_, context, span_, threads());
}

Result<MemoryPlan> PlanMemory(const std::string& directory, const AttentionConfig& attention,
                              const KvOptions& kv, int64_t context, int span, int threads) {
  HGA_ASSIGN_OR_RETURN(const ModelInfo info, ReadModelInfo(directory));
  HGA_RETURN_IF_ERROR(Validate(attention, info.layers));
  return PlanOf(info, attention, kv, context, span, threads);
}

}  // namespace hga
