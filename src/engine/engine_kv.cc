// SPDX-License-Identifier: Apache-2.0
// K/V of an engine's sequences in tiers: opening the disk, making histories, computing again what
// a disk lost.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "attention/cell_needs.h"
#include "base/file.h"
#include "engine/engine_impl.h"
#include "store/io.h"

namespace hga {
namespace {

constexpr int kIoDepth = 256;

Result<IoChoice> ChoiceOf(const std::string& name) {
  if (name == "auto") return IoChoice::kAuto;
  if (name == "io_uring") return IoChoice::kUring;
  if (name == "threads") return IoChoice::kThreads;
  return InvalidArgument(
      fmt::format("no I/O back end {}; known: auto, io_uring, threads", Quoted(name)));
}

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

}  // namespace

Status EngineImpl::OpenTiers() {
  HGA_RETURN_IF_ERROR(CheckKvOptions(kv_));
  HGA_ASSIGN_OR_RETURN(const IoChoice choice, ChoiceOf(kv_.io));
  if (kv_.directory.empty()) return OkStatus();
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<IoBackend> io, OpenIo(choice, kIoDepth, &io_note_));
  HGA_RETURN_IF_ERROR(io->MakeDirectory(kv_.directory));
  HGA_ASSIGN_OR_RETURN(const FileSystemFacts facts, FactsOf(kv_.directory));
  if (facts.in_memory && !kv_.allow_ram_directory) {
    return InvalidArgument(fmt::format(
        "{} is on {}, which is memory itself: K/V there saves nothing", Quoted(kv_.directory),
        facts.name));
  }
  const ModelConfig& c = transformer_.config();
  const HistoryShape shape{c.layers, c.kv_heads, c.head_dim};
  TierOptions options;
  options.slots = kv_.host_bytes / CellBytes(shape);
  options.directory = kv_.directory;
  options.disk_bytes = kv_.disk_bytes;
  HGA_ASSIGN_OR_RETURN(tiers_, KvTiers::Make(shape, options, std::move(io)));
  return OkStatus();
}

Result<std::unique_ptr<KvHistory>> EngineImpl::MakeHistory(const AttentionConfig& attention,
                                                           int64_t capacity,
                                                           Durability durability, int file) {
  const ModelConfig& c = transformer_.config();
  const HistoryShape shape{c.layers, c.kv_heads, c.head_dim};
  const bool tiered = tiers_ != nullptr && tiers_->tiered();
  if (!tiered && durability == Durability::kNone) return KvHistory::Make(shape, capacity);
  const MemoryPlan plan = Plan(attention, capacity);
  if (kv_.device_bytes > 0 && plan.device_bytes > kv_.device_bytes) {
    return ResourceExhausted(fmt::format(
        "{} tokens need {} bytes that stay in memory (dense layers {}, windows and samples {}, "
        "summaries {}), allowed are {}",
        capacity, plan.device_bytes, plan.dense_bytes, plan.window_bytes, plan.summary_bytes,
        kv_.device_bytes));
  }
  return KvHistory::MakeStored(shape, capacity, PoliciesOf(attention, c.layers, tiered),
                               tiers_.get(), durability, file, span_);
}

Status EngineImpl::Truncate(SequenceImpl& sequence, int64_t length) {
  sequence.tokens_.resize(static_cast<size_t>(length));
  const Status status = sequence.history_->Truncate(length);
  return status.code() == StatusCode::kDataLoss ? Recover(sequence) : status;
}

// Everything from the lost record's chunk on is forgotten and computed again from its tokens: the
// bluntest way, and the one that is the same code as any prefill.
Status EngineImpl::Recover(SequenceImpl& sequence) {
  KvHistory& history = *sequence.history_;
  const std::vector<int32_t> tokens = sequence.tokens_;
  Status status;
  for (int attempt = 0; attempt < 16; ++attempt) {
    do {
      const int64_t first = std::max<int64_t>(0, history.lost_chunk()) * spec::kChunk;
      const int64_t keep = std::min(first, history.length());
      sequence.tokens_.resize(static_cast<size_t>(keep));
      status = history.Truncate(keep);
    } while (status.code() == StatusCode::kDataLoss);
    HGA_RETURN_IF_ERROR(status);
    while (status.ok() && sequence.tokens_.size() < tokens.size()) {
      const size_t at = sequence.tokens_.size();
      const size_t room = static_cast<size_t>(span_ - (span_ >= 64 ? at % 64 : 0));
      const BatchItem item{&sequence,
                           std::span(tokens).subspan(at, std::min(room, tokens.size() - at)),
                           LogitsWanted::kNone,
                           {}};
      SequenceImpl* failed = nullptr;
      status = RunOnce({&item, 1}, {}, &failed);
      if (status.ok()) recomputed_tokens_ += static_cast<int64_t>(item.tokens.size());
    }
    if (status.code() != StatusCode::kDataLoss) break;
  }
  return status;
}

KvStats EngineImpl::kv_stats() const {
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
  out.damaged = tier.damaged;
  out.failed_reads = tier.failed_reads;
  out.failed_writes = tier.failed_writes;
  out.recomputed_tokens = recomputed_tokens_;
  out.stall_seconds = tier.stall_seconds;
  out.slots = tiers_->pool().slots();
  out.slots_touched = tiers_->pool().touched();
  out.evictions = tiers_->pool().evictions();
  out.disk_bytes = tiers_->disk_used();
  out.read_p50_us = LatencyQuantile(io, 0.5);
  out.read_p99_us = LatencyQuantile(io, 0.99);
  out.error = tier.write_error;
  return out;
}

}  // namespace hga
