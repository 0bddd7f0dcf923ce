// SPDX-License-Identifier: Apache-2.0
// A disk that outlives the programs working with it, simulated or real, behind a layer of faults.
#ifndef HGA_TESTS_FAULT_RIG_DISK_H_
#define HGA_TESTS_FAULT_RIG_DISK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "store/rigs/fault_io.h"
#include "store/rigs/sim_disk.h"

namespace hga::rigs {

enum class DiskKind { kSimulated, kThreads, kUring };
const char* NameOf(DiskKind kind);

// A number from the environment, or `otherwise`.
int64_t FromEnvironment(const char* name, int64_t otherwise);

class RigDisk {
 public:
  explicit RigDisk(std::unique_ptr<SimDisk> disk);
  // Of a real one, in a directory of its own that goes with it. kUnsupported: the kernel refuses
  // io_uring.
  static Result<std::unique_ptr<RigDisk>> Open(DiskKind kind, const SimOptions& options);
  ~RigDisk();

  DiskKind kind() const { return kind_; }
  // Where sessions go.
  const std::string& root() const { return root_; }
  // A way to the disk as a program has it that starts now; the one before must be gone. Calls of
  // all of them count for the fault.
  Result<std::unique_ptr<IoBackend>> Start();
  FaultIo& faults() { return *faults_; }
  SimDisk* simulated() { return sim_.get(); }  // null: a real one

  // What is left below root(), names relative to it, without the lock of the store.
  std::vector<std::string> Leftovers();
  // Bytes of all files, those without a name too; of a real disk what has a name.
  int64_t UsedBytes();

 private:
  RigDisk(DiskKind kind, std::string directory);

  DiskKind kind_;
  std::string directory_;  // of a real disk
  std::string root_;
  std::unique_ptr<SimDisk> sim_;
  std::unique_ptr<IoBackend> real_;
  std::unique_ptr<FaultIo> faults_;
};

}  // namespace hga::rigs

#endif  // HGA_TESTS_FAULT_RIG_DISK_H_
