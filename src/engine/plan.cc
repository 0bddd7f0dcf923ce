// SPDX-License-Identifier: Apache-2.0
// The memory and the disk a run will need, before and after loading.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "attention/kv_space.h"
#include "base/memory.h"
#include "engine/engine_impl.h"

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

MemoryPlan PlanOf(const ModelInfo& info, const AttentionConfig& attention, const KvOptions& kv,
                  bool session, int64_t context, int span, int threads, int64_t program_bytes) {
  const HeadShape shape{info.heads, info.kv_heads, info.head_dim};
  MemoryPlan plan;
  plan.program_bytes = program_bytes;
  plan.context = context;
  plan.weight_bytes = info.weight_bytes;
  PlanKv(attention, shape, info.layers, kv, session, span, &plan);
  const int64_t r = std::max(1, info.heads / std::max(1, info.kv_heads));
  const int64_t per_row =
      4 * (2 * int64_t{info.hidden} + 5 * int64_t{info.heads} * info.head_dim) +
      4 * int64_t{std::max(1, info.experts_per_token)} * (2 * info.hidden + 3 * info.ffn_width);
  plan.scratch_bytes = span * per_row + threads * 4 * 16 * r * (context / 8 + 4096);
  plan.total_bytes = plan.program_bytes + plan.weight_bytes + plan.device_bytes + plan.table_bytes + plan.host_bytes +
                     plan.staging_bytes + plan.scratch_bytes;
  plan.available_bytes = AvailableMemory();
  plan.disk_available_bytes = DiskFor(kv);
  Judge(kv, &plan);
  return plan;
}

}  // namespace

MemoryPlan EngineImpl::Plan(const AttentionConfig& attention, int64_t context) const {
  return PlanOf(info_, attention, space_->options(), false, context, span_, threads(), program_bytes_);
}

Result<MemoryPlan> PlanMemory(const std::string& directory, const AttentionConfig& attention,
                              const KvOptions& kv, bool session, int64_t context, int span,
                              int threads) {
  HGA_ASSIGN_OR_RETURN(const ModelInfo info, ReadModelInfo(directory));
  HGA_RETURN_IF_ERROR(Validate(attention, info.layers));
  if (threads == 0) {
    HGA_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, ListDevices());
    threads = devices.front().threads;
  }
  return PlanOf(info, attention, kv, session, context, span, threads,
                ResidentMemory() + TokenizerMemory(directory));
}

}  // namespace hga
