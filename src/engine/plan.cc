// SPDX-License-Identifier: Apache-2.0
// The memory and the disk a run will need, before and after loading.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "attention/kv_space.h"
#include "backend/ops.h"
#include "base/memory.h"
#include "cpu/cpu_backend.h"
#include "engine/engine_impl.h"
#include "spec/layout.h"

namespace hga {
namespace {

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

// A loaded tokenizer takes this many times its tokenizer.json.
constexpr int64_t kTokenizerFactor = 6;

int64_t TokenizerMemory(const std::string& directory) {
  struct stat facts;
  const std::string name = directory + "/tokenizer.json";
  return stat(name.c_str(), &facts) == 0 ? kTokenizerFactor * int64_t{facts.st_size} : 0;
}

// Activations of one span, plans and tails of its queries, and what the ops touch.
int64_t ScratchOf(const ModelInfo& info, const AttentionConfig& attention, int64_t context,
                  int span, const Ops& ops) {
  const int64_t q = int64_t{info.heads} * info.head_dim,
                kv = int64_t{info.kv_heads} * info.head_dim;
  const int64_t ffn = info.experts > 0 ? 0 : info.ffn_width;
  const int64_t activations = 4 * (2 * info.hidden + 2 * q + 2 * kv + 2 * ffn + info.head_dim);
  const int64_t selections = info.heads * (4 * int64_t{LargestBudget(attention, info.layers)} + 4 +
                                           4 * int64_t{TailLayout::Width(info.head_dim)});
  ScratchUse use{spec::kChunk, false, false};
  for (int layer = 0; layer < info.layers; ++layer) {
    use.dense = use.dense || attention.KindOf(layer) == LayerKind::kDense;
    if (attention.KindOf(layer) != LayerKind::kRouted) continue;
    const RoutingConfig& rule = attention.RuleOf(layer);
    use.group = std::min(use.group, rule.group);
    use.beam = use.beam || rule.chunk_beam > 0;
  }
  return span * (activations + selections) + ops.ScratchBytes(LimitsOf(info, context, span), use);
}

MemoryPlan PlanOf(const ModelInfo& info, const AttentionConfig& attention, const KvOptions& kv,
                  bool session, int64_t context, int span, const Ops& ops) {
  const HeadShape shape{info.heads, info.kv_heads, info.head_dim};
  MemoryPlan plan;
  plan.context = context;
  plan.weight_bytes = info.weight_bytes;
  PlanKv(attention, shape, info.layers, kv, session, span, &plan);
  plan.scratch_bytes = ScratchOf(info, attention, context, span, ops);
  return plan;
}

// Adds up, and holds it against what there is.
MemoryPlan Finished(MemoryPlan plan, const KvOptions& kv, int64_t program_bytes) {
  plan.program_bytes = program_bytes;
  plan.total_bytes = plan.program_bytes + plan.weight_bytes + plan.device_bytes + plan.table_bytes +
                     plan.host_bytes + plan.staging_bytes + plan.scratch_bytes;
  plan.available_bytes = AvailableMemory();
  plan.disk_available_bytes = DiskFor(kv);
  Judge(kv, &plan);
  return plan;
}

}  // namespace

OpsLimits LimitsOf(const ModelInfo& info, int64_t capacity, int span) {
  OpsLimits limits;
  limits.shape = {info.heads, info.kv_heads, info.head_dim};
  limits.rows = span;
  limits.context = capacity;
  limits.hidden = info.hidden;
  limits.ffn_width = info.ffn_width;
  limits.experts = info.experts;
  limits.experts_per_token = info.experts_per_token;
  return limits;
}

MemoryPlan EngineImpl::Plan(const AttentionConfig& attention, int64_t context) const {
  return Finished(PlanOf(info_, attention, space_->options(), false, context, span_, *ops_),
                  space_->options(), program_bytes_);
}

Result<MemoryPlan> PlanMemory(const std::string& directory, const AttentionConfig& attention,
                              const KvOptions& kv, bool session, int64_t context, int span,
                              int threads) {
  HGA_ASSIGN_OR_RETURN(const ModelInfo info, ReadModelInfo(directory));
  HGA_RETURN_IF_ERROR(Validate(attention, info.layers));
  BackendOptions options;
  options.threads = threads;
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<Ops> ops, OpenCpu(options));
  return Finished(PlanOf(info, attention, kv, session, context, span, *ops), kv,
                  ResidentMemory() + TokenizerMemory(directory));
}

}  // namespace hga
