// SPDX-License-Identifier: Apache-2.0
// The memory a run will need, before and after loading.
#include <algorithm>

#include "base/memory.h"
#include "engine/engine_impl.h"
#include "spec/layout.h"

namespace hga {
namespace {

MemoryPlan PlanOf(const ModelInfo& info, const AttentionConfig& attention, int64_t context,
                  int span, int threads) {
  const HeadShape shape{info.heads, info.kv_heads, info.head_dim};
  MemoryPlan plan;
  plan.context = context;
  plan.weight_bytes = info.weight_bytes;
  plan.kv_bytes_per_token = KvHistory::BytesPerToken({info.layers, info.kv_heads, info.head_dim});
  const int64_t stored = spec::CeilDiv(context, spec::kChunk) * spec::kChunk;
  // A pointer per cell and KV head lies beside the records.
  plan.kv_bytes = stored * plan.kv_bytes_per_token +
                  int64_t{info.layers} * info.kv_heads * stored / spec::kCell * 8;
  for (int layer = 0; layer < info.layers; ++layer) {
    if (attention.KindOf(layer) != LayerKind::kRouted) continue;
    plan.summary_bytes += stored * LayerSummaries::BytesPerToken(attention.RuleOf(layer), shape);
  }
  const int64_t r = std::max(1, info.heads / std::max(1, info.kv_heads));
  const int64_t per_row =
      4 * (2 * int64_t{info.hidden} + 5 * int64_t{info.heads} * info.head_dim) +
      4 * int64_t{std::max(1, info.experts_per_token)} * (2 * info.hidden + 3 * info.ffn_width);
  plan.scratch_bytes = span * per_row + threads * 4 * 16 * r * (context / 8 + 4096);
  plan.total_bytes = plan.weight_bytes + plan.kv_bytes + plan.summary_bytes + plan.scratch_bytes;
  plan.available_bytes = AvailableMemory();
  plan.fits = plan.available_bytes == 0 || plan.total_bytes <= plan.available_bytes;
  return plan;
}

}  // namespace

MemoryPlan EngineImpl::Plan(const AttentionConfig& attention, int64_t context) const {
  return PlanOf(info_, attention, context, span_, threads());
}

Result<MemoryPlan> PlanMemory(const std::string& directory, const AttentionConfig& attention,
                              int64_t context, int span, int threads) {
  HGA_ASSIGN_OR_RETURN(const ModelInfo info, ReadModelInfo(directory));
  HGA_RETURN_IF_ERROR(Validate(attention, info.layers));
  return PlanOf(info, attention, context, span, threads);
}

}  // namespace hga
