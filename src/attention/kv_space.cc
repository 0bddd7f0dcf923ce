// SPDX-License-Identifier: Apache-2.0
// Opening the disk, making histories, taking sessions up.
#include "attention/kv_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/cell_needs.h"
#include "attention/summaries.h"
#include "base/file.h"
#include "base/kill_point.h"
#include "spec/layout.h"
#include "store/io.h"

namespace hga {
namespace {

constexpr int kIoDepth = 256;

Status CheckKvOptions(const KvOptions& kv) {
  for (const int64_t bytes : {kv.host_bytes, kv.device_bytes, kv.disk_bytes}) {
    if (bytes < 0) return InvalidArgument(fmt::format("a budget of {} bytes", bytes));
  }
  if (kv.host_bytes > 0 && kv.directory.empty()) {
    return InvalidArgument(
        "a bound on K/V in memory needs a directory for the rest; none was given");
  }
  return OkStatus();
}

// Upper end of the bucket that holds the quantile, microseconds.
double LatencyQuantile(const IoQueueStats& stats, double quantile) {
  int64_t all = 0, seen = 0;
  for (const int64_t count : stats.read_latency) all += count;
  if (all == 0) return 0;
  for (size_t i = 0; i < stats.read_latency.size(); ++i) {
    seen += stats.read_latency[i];
    if (static_cast<double>(seen) >= quantile * static_cast<double>(all)) {
      return std::ldexp(1.0, static_cast<int>(i) + 1);
    }
  }
  return 0;
}

// Bytes of group-level key and value means of layers with a beam: of all, and of the largest.
struct GroupLevel {
  int64_t all = 0;
  int64_t largest = 0;
};

GroupLevel GroupLevelBytes(const AttentionConfig& rules, const HeadShape& heads, int layers,
                           int64_t capacity) {
  GroupLevel level;
  for (int layer = 0; layer < layers; ++layer) {
    const RoutingConfig& rule = rules.RuleOf(layer);
    if (rules.KindOf(layer) != LayerKind::kRouted || rule.chunk_beam == 0) continue;
    const int64_t bytes = spec::CeilDiv(capacity, spec::kChunk) * heads.kv_heads *
                          (LayerSummaries::KeyBytesPerChunk(rule, heads.head_dim) +
                           LayerSummaries::ValueBytesPerChunk(rule, heads.head_dim));
    level.all += bytes;
    level.largest = std::max(level.largest, bytes);
  }
  return level;
}

// What does not fit of the group level goes to disk, but for one layer's worth, which any beam
// fits into.
void SpillSummaries(const AttentionConfig& rules, const HeadShape& heads, int layers,
                    const KvOptions& options, MemoryPlan* plan) {
  const int64_t over = plan->device_bytes - options.device_bytes;
  if (options.device_bytes == 0 || options.directory.empty() || over <= 0) return;
  const GroupLevel level = GroupLevelBytes(rules, heads, layers, plan->context);
  plan->spilled_summary_bytes = std::min(over, level.all - level.largest);
  plan->summary_bytes -= plan->spilled_summary_bytes;
  plan->device_bytes -= plan->spilled_summary_bytes;
  if (plan->spilled_summary_bytes > 0) plan->disk_bytes += level.all;
}

}  // namespace

Result<std::unique_ptr<IoBackend>> OpenNamedIo(const std::string& name, int depth,
                                               std::string* note) {
  if (name == "auto") return OpenIo(IoChoice::kAuto, depth, note);
  if (name == "io_uring") return OpenIo(IoChoice::kUring, depth, note);
  if (name == "threads") return OpenIo(IoChoice::kThreads, depth, note);
  return InvalidArgument(
      fmt::format("no I/O back end {}; known: auto, io_uring, threads", Quoted(name)));
}

Result<std::unique_ptr<KvSpace>> KvSpace::Open(const KvOptions& options,
                                               const HistoryShape& shape) {
  HGA_RETURN_IF_ERROR(CheckKvOptions(options));
  std::unique_ptr<KvSpace> space(new KvSpace(options, shape));
  if (!options.directory.empty()) HGA_RETURN_IF_ERROR(space->OpenDisk());
  return space;
}

Result<std::unique_ptr<KvSpace>> KvSpace::OpenOn(std::unique_ptr<IoBackend> io,
                                                 const KvOptions& options, TierOptions buffers,
                                                 const HistoryShape& shape) {
  HGA_RETURN_IF_ERROR(CheckKvOptions(options));
  std::unique_ptr<KvSpace> space(new KvSpace(options, shape));
  HGA_RETURN_IF_ERROR(io->MakeDirectory(options.directory));
  HGA_RETURN_IF_ERROR(space->OpenTiers(std::move(io), std::move(buffers)));
  return space;
}

Status KvSpace::OpenDisk() {
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<IoBackend> io,
                       OpenNamedIo(options_.io, kIoDepth, &io_note_));
  HGA_RETURN_IF_ERROR(io->MakeDirectory(options_.directory));
  HGA_ASSIGN_OR_RETURN(const FileSystemFacts facts, FactsOf(options_.directory));
  if (facts.in_memory && !options_.allow_ram_directory) {
    return InvalidArgument(
        fmt::format("{} is on {}, which is memory itself: K/V there saves nothing; "
                    "--allow-ram-kv-dir takes it",
                    Quoted(options_.directory), facts.name));
  }
  return OpenTiers(std::move(io), {});
}

Status KvSpace::OpenTiers(std::unique_ptr<IoBackend> io, TierOptions tiers) {
  // No bound, however small, means none.
  tiers.slots =
      options_.host_bytes == 0 ? 0 : std::max<int64_t>(1, options_.host_bytes / CellBytes(shape_));
  tiers.directory = options_.directory;
  tiers.disk_bytes = options_.disk_bytes;
  HGA_ASSIGN_OR_RETURN(tiers_, KvTiers::Make(shape_, tiers, std::move(io)));
  if (options_.disk_bytes == 0) return OkStatus();
  HGA_RETURN_IF_ERROR(tiers_->Measure());
  if (tiers_->disk_used() > options_.disk_bytes) {
    return ResourceExhausted(fmt::format(
        "{}: its sessions have {} bytes, the quota is {}; remove some (hga session prune)",
        Quoted(options_.directory), tiers_->disk_used(), options_.disk_bytes));
  }
  return OkStatus();
}

MemoryPlan KvSpace::PlanFor(const AttentionConfig& rules, const HeadShape& heads, int64_t capacity,
                            int span) const {
  MemoryPlan plan;
  plan.context = capacity;
  PlanKv(rules, heads, shape_.layers, options_, false, span, &plan);
  return plan;
}

Status KvSpace::CheckDevice(const AttentionConfig& rules, const HeadShape& heads, int64_t capacity,
                            int span) const {
  const MemoryPlan plan = PlanFor(rules, heads, capacity, span);
  if (options_.device_bytes == 0 || plan.device_bytes <= options_.device_bytes) return OkStatus();
  return ResourceExhausted(fmt::format(
      "{} tokens need {} bytes that stay in memory (dense layers {}, windows and samples {}, "
      "summaries {}), allowed are {}",
      capacity, plan.device_bytes, plan.dense_bytes, plan.window_bytes, plan.summary_bytes,
      options_.device_bytes));
}

int64_t KvSpace::SummaryBudget(const AttentionConfig& rules, const HeadShape& heads,
                               int64_t capacity, int span) const {
  const MemoryPlan plan = PlanFor(rules, heads, capacity, span);
  if (plan.spilled_summary_bytes == 0) return -1;
  return GroupLevelBytes(rules, heads, shape_.layers, capacity).all - plan.spilled_summary_bytes;
}

Result<std::unique_ptr<KvHistory>> KvSpace::NewHistory(const AttentionConfig& rules,
                                                       const HeadShape& heads, int64_t capacity,
                                                       int span, Device& device) {
  HGA_RETURN_IF_ERROR(CheckDevice(rules, heads, capacity, span));
  if (!device.host_memory()) {
    if (!tiered()) return KvHistory::MakeOnDevice(shape_, capacity, device);
    return Unsupported(fmt::format("{}: K/V on a GPU has no disk tier", device.name()));
  }
  if (!tiered()) return KvHistory::Make(shape_, capacity);
  return KvHistory::MakeStored(shape_, capacity, PoliciesOf(rules, shape_.layers, true),
                               tiers_.get(), Durability::kNone, -1, span);
}

Result<OpenedSession> KvSpace::FindOrCreate(const std::string& name,
                                            const SessionIdentity& identity) {
  Drain();
  Result<OpenedSession> found =
      SessionFiles::Open(&tiers_->io(), options_.directory, name, identity);
  const StatusCode code = found.status().code();
  if (code != StatusCode::kNotFound && code != StatusCode::kDataLoss) return found;
  Result<SessionFiles> files =
      SessionFiles::Create(&tiers_->io(), options_.directory, name, identity, RandomStoreId());
  // Whoever ended before the first checkpoint left files that say nothing; those that say something
  // are not replaced.
  if (!files.ok()) return code == StatusCode::kDataLoss ? found.status() : files.status();
  return OpenedSession{std::move(*files), {}, RecordTable(shape_), {}};
}

Result<KvSpace::Session> KvSpace::OpenSession(const std::string& name,
                                              const SessionIdentity& identity,
                                              const AttentionConfig& rules, const HeadShape& heads,
                                              int64_t capacity, int span) {
  if (tiers_ == nullptr) return InvalidArgument("a session needs a directory for its records");
  HGA_RETURN_IF_ERROR(CheckDevice(rules, heads, capacity, span));
  Result<OpenedSession> found = FindOrCreate(name, identity);
  HGA_RETURN_IF_ERROR(found.status());
  SessionState& state = found->state;
  const auto length = static_cast<int64_t>(state.tokens.size());
  if (length > capacity) {
    return ResourceExhausted(fmt::format("session {} has {} tokens, the context holds {}",
                                         Quoted(name), length, capacity));
  }
  Session session;
  session.durable = std::make_unique<DurableSequence>(
      std::move(found->files), std::move(state.spans), std::move(state.rules), state.tokens);
  HGA_ASSIGN_OR_RETURN(
      session.history,
      KvHistory::MakeStored(shape_, capacity, PoliciesOf(rules, shape_.layers, tiered()),
                            tiers_.get(), Durability::kAll, session.durable->data_file(), span));
  session.history->SetGeneration(session.durable->next_generation());
  KillPoint("resume.opened");
  // Without the K/V of its unfinished chunk the history ends before it.
  const bool whole = length % spec::kChunk == 0 || !state.tail.empty();
  HGA_RETURN_IF_ERROR(session.history->Restore(
      std::move(found->table), whole ? length : length / spec::kChunk * spec::kChunk, state.tail));
  session.note = {std::move(state.sampler), std::move(state.extra)};
  session.tokens = std::move(state.tokens);
  return session;
}

void KvSpace::Drain() {
  if (tiers_ != nullptr) tiers_->Drain();
}

void KvSpace::EvictAll() {
  if (tiers_ == nullptr) return;
  Drain();
  tiers_->pool().EvictAll();
}

KvStats KvSpace::stats() const {
  KvStats out;
  if (tiers_ == nullptr) return out;
  const TierStats& tier = tiers_->stats();
  const IoQueueStats& io = tiers_->transfers().queue().stats();
  out.io = tiers_->io().name();
  out.io_note = io_note_;
  out.cells_wanted = tier.wanted;
  out.cells_in_memory = tier.hits;
  out.cells_on_their_way = tier.prefetched;
  out.reads = io.reads;
  out.writes = io.writes;
  out.read_bytes = io.read_bytes;
  out.written_bytes = io.written_bytes;
  out.summary_pages = tier.summary_pages;
  out.damaged = tier.damaged;
  out.failed_reads = tier.failed_reads;
  out.failed_writes = tier.failed_writes;
  out.stall_seconds = tier.stall_seconds;
  out.slots = tiers_->pool().slots();
  out.slots_touched = tiers_->pool().touched();
  out.evictions = tiers_->pool().evictions();
  out.disk_bytes = tiers_->disk_used();
  out.read_latency = io.read_latency;
  out.read_p50_us = LatencyQuantile(io, 0.5);
  out.read_p99_us = LatencyQuantile(io, 0.99);
  out.error = tier.write_error;
  return out;
}

void PlanKv(const AttentionConfig& rules, const HeadShape& heads, int layers,
            const KvOptions& options, bool session, int span, MemoryPlan* plan) {
  const HistoryShape shape{layers, heads.kv_heads, heads.head_dim};
  const bool tiered = options.host_bytes > 0;
  const int64_t chunks = spec::CeilDiv(plan->context, spec::kChunk);
  const int64_t cells = chunks * spec::kCellsPerChunk * heads.kv_heads;  // of a layer
  int64_t moving = 0;  // bytes that may be on disk
  plan->kv_bytes_per_token = KvHistory::BytesPerToken(shape);
  plan->kv_bytes = chunks * spec::kChunk * plan->kv_bytes_per_token;
  const std::vector<LayerPolicy> policies = PoliciesOf(rules, layers, tiered);
  for (int layer = 0; layer < layers; ++layer) {
    const LayerPolicy& policy = policies[static_cast<size_t>(layer)];
    plan->table_bytes += cells * static_cast<int64_t>(sizeof(void*));
    if (rules.KindOf(layer) == LayerKind::kRouted) {
      plan->summary_bytes +=
          chunks * spec::kChunk * LayerSummaries::BytesPerToken(rules.RuleOf(layer), heads);
    }
    if (policy.resident) {
      plan->dense_bytes += cells * CellBytes(shape);
      continue;
    }
    plan->table_bytes += cells * static_cast<int64_t>(sizeof(SlotId) + 1);
    plan->window_bytes +=
        KvHistory::StandingCells(policy, plan->context, span) * heads.kv_heads * CellBytes(shape);
    moving += cells * CellBytes(shape);
  }
  plan->device_bytes = plan->dense_bytes + plan->window_bytes + plan->summary_bytes;
  SpillSummaries(rules, heads, layers, options, plan);
  plan->host_bytes = std::min(moving, options.host_bytes);
  plan->disk_bytes += session ? plan->kv_bytes : moving;
  if (!tiered && !session) return;
  plan->table_bytes += chunks * layers * 8 * (1 + CellsPerRecord(shape));
  const TierOptions buffers;
  plan->staging_bytes =
      Transfers::StagingBytes(shape, buffers.single_buffers, buffers.whole_buffers);
}

int64_t DiskFor(const KvOptions& options) {
  if (options.directory.empty()) return 0;
  const auto facts = FactsOf(options.directory);
  if (!facts.ok()) return options.disk_bytes;
  return options.disk_bytes > 0 ? std::min(options.disk_bytes, facts->free_bytes)
                                : facts->free_bytes;
}

}  // namespace hga
