// SPDX-License-Identifier: Apache-2.0
// What the sequences of an engine share: the slots that hold cells in memory, the way to the disk,
// the quota, and the counts of it all.
#ifndef HGA_STORE_TIERS_H_
#define HGA_STORE_TIERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hga/status.h"
#include "store/cell_pool.h"
#include "store/io.h"
#include "store/transfers.h"

namespace hga {

struct TierOptions {
  // Cells kept in memory beside windows and samples, of all sequences; 0: the K/V of every layer
  // stays in memory and the disk is for sessions only.
  int64_t slots = 0;
  std::string directory;   // where records go; must exist
  int64_t disk_bytes = 0;  // most bytes of record files; 0: what the disk gives
  int single_buffers = 256;
  int whole_buffers = 32;
};

struct TierStats {
  int64_t wanted = 0;         // cells that fetches asked for
  int64_t hits = 0;           // of those, in memory already
  int64_t prefetched = 0;     // of those, on their way already
  int64_t read = 0;           // cells brought in from the disk
  int64_t summary_pages = 0;  // pages of summaries brought in
  int64_t damaged = 0;        // cells whose bytes did not match their checksum
  int64_t failed_reads = 0;   // transfers
  int64_t failed_writes = 0;  // transfers
  int64_t stale = 0;          // cells that arrived after their slot had gone to another holder
  double stall_seconds = 0;   // waiting for cells
  std::string write_error;    // why records can't be written; empty when they can
};

// Not thread-safe; sequences must be closed before it.
class KvTiers {
 public:
  // `io` is opened by the caller; its directory and files are the tiers' from then on.
  static Result<std::unique_ptr<KvTiers>> Make(const HistoryShape& shape,
                                               const TierOptions& options,
                                               std::unique_ptr<IoBackend> io);
  ~KvTiers();

  const TierOptions& options() const { return options_; }
  bool tiered() const { return options_.slots > 0; }
  CellPool& pool() { return pool_; }
  IoBackend& io() { return *io_; }
  Transfers& transfers() { return *transfers_; }
  int cells_per_sector() const { return cells_per_sector_; }
  TierStats& stats() { return stats_; }

  // Sequences from when they are made until they are closed.
  void Add(TransferOwner* owner) { owners_.push_back(owner); }
  void Remove(TransferOwner* owner) { std::erase(owners_, owner); }
  // Has all of them write what they could not write; whether anything is under way then. Nothing
  // is before.
  bool WriteUnsaved();
  // Waits until nothing is under way, as the files of sessions ask for.
  void Drain();

  // Takes `bytes` of the quota; kResourceExhausted names both numbers. `named`: of a session's
  // file.
  Status TakeDisk(int64_t bytes, bool named);
  void GiveDisk(int64_t bytes, bool named);
  // Counts anew what a quota bounds: sessions may have been removed since, by other processes too.
  Status Measure();
  int64_t disk_used() const { return disk_used_; }

 private:
  KvTiers(const HistoryShape& shape, const TierOptions& options, std::unique_ptr<IoBackend> io)
      : options_(options), io_(std::move(io)), pool_(CellBytes(shape)) {}
  TierOptions options_;
  std::unique_ptr<IoBackend> io_;
  CellPool pool_;
  std::unique_ptr<Transfers> transfers_;
  TierStats stats_;
  int cells_per_sector_ = 1;
  std::vector<TransferOwner*> owners_;
  int64_t disk_used_ = 0;
  int64_t unnamed_ = 0;  // of it, in files without a name
};

}  // namespace hga

#endif  // HGA_STORE_TIERS_H_
