// SPDX-License-Identifier: Apache-2.0
// The seam between the store and the disk: asynchronous reads and writes of whole sectors, and the
// few file operations the store needs. Back ends: io_uring, a pool of threads, a disk simulated in
// memory, and a layer that puts faults into any of them (the last two in src/store/rigs).
#ifndef HGA_STORE_IO_H_
#define HGA_STORE_IO_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

// Offsets, lengths and buffers of every transfer are multiples of this: what O_DIRECT asks for on
// any disk of today.
inline constexpr int64_t kIoAlignment = 4096;

enum class IoOp { kRead, kWrite };

// One transfer. The buffer belongs to the back end until its completion was returned by Reap.
struct IoRequest {
  IoOp op = IoOp::kRead;
  int file = -1;              // as returned by OpenFile
  int64_t offset = 0;         // bytes from the start of the file
  std::byte* data = nullptr;  // [bytes]
  int64_t bytes = 0;
  uint64_t tag = 0;  // given back by the completion
};

// What a transfer came to, raw: may be short, may be an error that a second try heals.
struct IoCompletion {
  uint64_t tag = 0;
  int64_t result = 0;  // bytes moved, or -errno
};

enum class OpenMode {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // must not exist; mode 0600
  kTemporary,  // without a name, gone when it is closed or the process ends; `path` is a directory
};

// Not thread-safe: one thread calls it. File numbers are not given out again soon; one that is not
// open breaks a precondition, except in a request, which completes with -EBADF. Errors of file
// operations are kNotFound, kIoError with the path and the errno's text, kResourceExhausted for
// ENOSPC and EDQUOT.
class IoBackend {
 public:
  virtual ~IoBackend() = default;
  virtual std::string name() const = 0;  // "io_uring", "threads", "simulated", "faulty io_uring"
  // Most transfers that can be in flight.
  virtual int depth() const = 0;

  // Files are opened without the page cache where the file system allows it.
  virtual Result<int> OpenFile(const std::string& path, OpenMode mode) = 0;
  // Whether transfers of this file go past the page cache.
  virtual bool direct(int file) const = 0;
  // No transfer of the file may be in flight.
  virtual void CloseFile(int file) = 0;
  virtual Result<int64_t> FileSize(int file) = 0;
  // Makes room for [0, bytes) on the disk; the file grows, its content reads as zeros.
  virtual Status Allocate(int file, int64_t bytes) = 0;
  // Everything whose completion was reaped is on the disk when this returns (fdatasync).
  virtual Status Sync(int file) = 0;
  // Locks the file against other processes until it is closed; kResourceExhausted: already locked.
  virtual Status Lock(int file) = 0;

  virtual Status MakeDirectory(const std::string& path) = 0;  // 0700; an existing one is fine
  virtual Status SyncDirectory(const std::string& path) = 0;
  virtual Status RemoveFile(const std::string& path) = 0;
  virtual Status RemoveDirectory(const std::string& path) = 0;  // must be empty
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // Names without "." and "..", sorted.
  virtual Result<std::vector<std::string>> List(const std::string& path) = 0;

  // Memory that transfers will use, for back ends that register buffers; at most once, before the
  // first transfer. Transfers outside of it work as well.
  virtual Status RegisterMemory(std::span<std::byte> memory) = 0;

  // Starts transfers; returns how many of them were taken (from the front), at most depth() minus
  // those in flight. A request that the back end refuses outright completes with -errno.
  virtual int Submit(std::span<const IoRequest> requests) = 0;
  // Finished transfers into `out`; waits until there are `least` or none is in flight. Returns
  // their number. Completions come in any order.
  virtual int Reap(std::span<IoCompletion> out, int least) = 0;
  virtual int in_flight() const = 0;

  // Counts up. Queues tag their attempts with it, so that a late answer to one queue is nothing to
  // the next one over the same back end.
  uint64_t NextAttempt() { return ++attempts_; }

 private:
  uint64_t attempts_ = 0;
};

enum class IoChoice { kAuto, kUring, kThreads };

// kAuto: io_uring, or the pool of threads where the kernel refuses it; `*why` (may be null) then
// says what it refused. kUring alone fails with kUnsupported and the reason.
Result<std::unique_ptr<IoBackend>> OpenIo(IoChoice choice, int depth, std::string* why);

// The file system a directory is on: "ext4", "xfs", "tmpfs", ... or its number in hexadecimal.
struct FileSystemFacts {
  std::string name;
  bool in_memory = false;  // tmpfs, ramfs: no disk at all
  int64_t free_bytes = 0;  // for this user
  int64_t total_bytes = 0;
};
Result<FileSystemFacts> FactsOf(const std::string& directory);

}  // namespace hga

#endif  // HGA_STORE_IO_H_
