// SPDX-License-Identifier: Apache-2.0
// A disk in memory that a seed makes slow, out of order, full or wrong, and that knows what it
// would hold after a power cut at any moment.
#ifndef HGA_STORE_RIGS_SIM_DISK_H_
#define HGA_STORE_RIGS_SIM_DISK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "store/io.h"
#include "store/rigs/sim_log.h"

namespace hga::rigs {

// Probabilities per transfer, 0 to 1. Sizes and results look right all the same.
struct SimFaults {
  double lost_write = 0;         // reported, never done
  double misdirected_write = 0;  // done at another place of the file
  double misdirected_read = 0;   // from another place of the file
  double flipped_write = 0;      // one bit is stored wrong
  double flipped_read = 0;       // one bit comes wrong, once
  double failed_read = 0;        // EIO
  double failed_write = 0;       // EIO, nothing done
};

struct SimOptions {
  uint64_t seed = 1;
  int depth = 32;
  int64_t capacity = int64_t{1} << 30;  // bytes of all files together
  int most_delay = 4;                   // calls of Reap a transfer may sit out
  bool log = true;                      // false: no crash images, and no memory of what was written
  SimFaults faults = {};
};

// The same calls with the same seed give the same completions in the same order. Reads return what
// is there when they complete; writes take their bytes at that moment too, so that a buffer that is
// used too early shows. Paths are taken as they are ("a/b"); the root always exists, every other
// directory must be made. Directories can't be renamed. Not thread-safe.
class SimDisk final : public IoBackend {
 public:
  explicit SimDisk(const SimOptions& options);

  std::string name() const override { return "simulated"; }
  int depth() const override { return options_.depth; }
  Result<int> OpenFile(const std::string& path, OpenMode mode) override;
  bool direct(int file) const override { return handles_.contains(file); }
  void CloseFile(int file) override;
  Result<int64_t> FileSize(int file) override;
  Status Allocate(int file, int64_t bytes) override;
  Status Sync(int file) override;
  Status Lock(int file) override;
  Status MakeDirectory(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Status RemoveFile(const std::string& path) override;
  Status RemoveDirectory(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  Status RegisterMemory(std::span<std::byte>) override { return OkStatus(); }
  int Submit(std::span<const IoRequest> requests) override;
  int Reap(std::span<IoCompletion> out, int least) override;
  int in_flight() const override { return static_cast<int>(in_flight_.size()); }

  // Durable-relevant events so far: names, sizes, starts and ends of writes, syncs.
  size_t events() const { return log_.events(); }
  // Operations that no sync covers after the first `event` events.
  int Pending(size_t event) const { return log_.Pending(event); }
  // The disk after a power cut at `event`, with the same options.
  std::unique_ptr<SimDisk> CrashImage(size_t event, const CrashChoice& choice) const;

  void set_faults(const SimFaults& faults) { options_.faults = faults; }
  int64_t faults_made() const { return faults_made_; }
  void set_capacity(int64_t bytes) { options_.capacity = bytes; }
  int64_t used_bytes() const;
  int open_files() const { return static_cast<int>(handles_.size()); }
  // The next `count` calls of Sync fail with EIO, and what they did not write never gets durable.
  void FailSyncs(int count) { failing_syncs_ = count; }

  // A file's bytes from outside, durable at once; the path must exist.
  std::vector<std::byte> Content(const std::string& path) const;
  void SetContent(const std::string& path, std::span<const std::byte> bytes);
  void FlipBit(const std::string& path, int64_t offset, int bit);
  void SwapRanges(const std::string& path, int64_t first, int64_t second, int64_t bytes);
  void Truncate(const std::string& path, int64_t bytes);
  // Every file, sorted.
  std::vector<std::string> Files() const;

 private:
  struct Handle {
    std::string path;
    uint64_t file = 0;
    bool writable = false;
    bool locked = false;
    int in_flight = 0;
  };
  struct Flight {
    IoRequest request;
    int refused = 0;  // errno
    int delay = 0;
    size_t write = 0;  // in the log
  };

  SimDisk(const SimOptions& options, SimContent content);
  Handle& Get(int file);
  const std::vector<std::byte>& BytesOf(const std::string& path) const;
  bool Chance(double probability);
  int64_t ElsewhereIn(const std::vector<std::byte>& bytes, const IoRequest& request);
  int64_t Complete(const Flight& flight);
  int64_t Read(const IoRequest& request);
  int64_t Write(const Flight& flight);
  void DropUnused(uint64_t file);

  SimOptions options_;
  std::mt19937_64 random_;
  SimContent now_;  // what a reader sees
  SimLog log_;
  uint64_t last_file_ = 0;
  std::map<int, Handle> handles_;
  int next_handle_ = 0;
  std::vector<Flight> in_flight_;
  int failing_syncs_ = 0;
  int64_t faults_made_ = 0;
};

}  // namespace hga::rigs

#endif  // HGA_STORE_RIGS_SIM_DISK_H_
