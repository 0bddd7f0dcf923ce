// SPDX-License-Identifier: Apache-2.0
// Where the K/V of an engine's sequences lives, as KvOptions ask: memory, a disk tier, sessions.
#ifndef HGA_ATTENTION_KV_SPACE_H_
#define HGA_ATTENTION_KV_SPACE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "attention/durable_sequence.h"
#include "backend/ops.h"
#include "hga/config.h"
#include "hga/engine.h"
#include "hga/status.h"
#include "store/history.h"
#include "store/io.h"
#include "store/tiers.h"

namespace hga {

// Shared by the sequences of an engine; outlives them. Not thread-safe.
class KvSpace {
 public:
  // Makes the directory if there is none. kInvalidArgument: bounds that contradict each other, an
  // unknown back end, a directory in memory. kResourceExhausted: the sessions of the directory
  // are over the quota already.
  static Result<std::unique_ptr<KvSpace>> Open(const KvOptions& options, const HistoryShape& shape);
  // The same over a disk of the caller's; of `buffers` only their numbers count.
  static Result<std::unique_ptr<KvSpace>> OpenOn(std::unique_ptr<IoBackend> io,
                                                 const KvOptions& options, TierOptions buffers,
                                                 const HistoryShape& shape);

  const KvOptions& options() const { return options_; }
  // A history for spans of `span` tokens under `rules`, used by ops of `device`.
  // kResourceExhausted: what stays in memory exceeds its bound; both numbers are named.
  // kUnsupported: a disk tier behind a GPU.
  Result<std::unique_ptr<KvHistory>> NewHistory(const AttentionConfig& rules,
                                                const HeadShape& heads, int64_t capacity, int span,
                                                Device& device);
  // A history and the files of session `name`, found or made; `state` is what was saved.
  struct Session {
    std::unique_ptr<DurableSequence> durable;  // outlives the history
    std::unique_ptr<KvHistory> history;        // restored, up to what is lost
    std::vector<int32_t> tokens;               // all of them, those without K/V too
    SessionNote note;
  };
  Result<Session> OpenSession(const std::string& name, const SessionIdentity& identity,
                              const AttentionConfig& rules, const HeadShape& heads,
                              int64_t capacity, int span);
  // Bytes of group-level summaries that a sequence may keep in memory when all of them exceed the
  // bound of what stays there; -1: all of them may.
  int64_t SummaryBudget(const AttentionConfig& rules, const HeadShape& heads, int64_t capacity,
                        int span) const;
  // Waits until nothing is under way on the disk.
  void Drain();
  void EvictAll();
  KvStats stats() const;
  KvTiers* tiers() { return tiers_.get(); }  // null without a directory

 private:
  KvSpace(const KvOptions& options, const HistoryShape& shape) : options_(options), shape_(shape) {}
  Status OpenDisk();
  Status OpenTiers(std::unique_ptr<IoBackend> io, TierOptions tiers);
  Result<OpenedSession> FindOrCreate(const std::string& name, const SessionIdentity& identity);
  bool tiered() const { return tiers_ != nullptr && tiers_->tiered(); }
  MemoryPlan PlanFor(const AttentionConfig& rules, const HeadShape& heads, int64_t capacity,
                     int span) const;
  Status CheckDevice(const AttentionConfig& rules, const HeadShape& heads, int64_t capacity,
                     int span) const;

  KvOptions options_;
  HistoryShape shape_;
  std::string io_note_;
  std::unique_ptr<KvTiers> tiers_;  // null: all K/V in memory, no sessions
};

// The part of a MemoryPlan that is K/V and summaries, for plan->context tokens.
void PlanKv(const AttentionConfig& rules, const HeadShape& heads, int layers,
            const KvOptions& options, bool session, int span, MemoryPlan* plan);

// The back end of KvOptions::io for up to `depth` transfers; `note` as OpenIo. kInvalidArgument: an
// unknown name.
Result<std::unique_ptr<IoBackend>> OpenNamedIo(const std::string& name, int depth,
                                               std::string* note);

// Bytes that record files may still take: by the quota and by the disk; 0: no directory.
int64_t DiskFor(const KvOptions& options);

}  // namespace hga

#endif  // HGA_ATTENTION_KV_SPACE_H_
