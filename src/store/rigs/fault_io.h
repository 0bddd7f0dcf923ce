// SPDX-License-Identifier: Apache-2.0
// A layer over any back end that makes one call fail, or all from one on: raise `at` until the
// fault no longer fires, and every call of a run has failed once.
#ifndef HGA_STORE_RIGS_FAULT_IO_H_
#define HGA_STORE_RIGS_FAULT_IO_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "store/io.h"

namespace hga::rigs {

enum class FaultKind {
  kNone,
  // Of transfers. A read that fails or is short leaves rubbish where no bytes were read; a write
  // that fails wrote nothing, a short one no more than rounding needs.
  kShortAligned,    // whole units of kIoAlignment; of one unit: as the next
  kShortUnaligned,  // an odd number of bytes
  kZeroBytes,
  kTooManyBytes,  // more than were asked for
  kEio,
  kEnospc,
  kEagain,
  kEintr,
  kEcanceled,
  kLate,        // told some calls of Reap later, or when nothing else is left
  kReordered,   // told after those that completed later
  kDuplicated,  // told again by the next call of Reap
  kStaleTag,    // told with the tag of an earlier one: the right one never comes
  // Of calls.
  kSyncEio,
  kAllocateEnospc,
  kOpenEio,
  kOpenEacces,
  kLockHeld,
  kNamesEio,  // MakeDirectory, SyncDirectory, RemoveFile, RemoveDirectory, Rename, List
};
inline constexpr FaultKind kLastFault = FaultKind::kNamesEio;
// For messages: "short aligned".
const char* NameOf(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kNone;
  int64_t at = 0;                 // 0: the first call of its sort
  bool sticky = false;            // and all that follow
  std::optional<IoOp> only = {};  // count and hit only these transfers
};

// Faults can be combined by putting one layer over another. Not thread-safe.
class FaultIo final : public IoBackend {
 public:
  // `inner` must outlive it and have nothing in flight.
  FaultIo(IoBackend* inner, const Fault& fault);

  // Starts counting anew.
  void Set(const Fault& fault);
  // Goes over another back end of the same depth, as a program that is started again does; nothing
  // may be in flight. What was to be told twice is forgotten.
  void MoveTo(IoBackend* inner);
  bool fired() const { return fires_ > 0; }
  int64_t fires() const { return fires_; }
  // Calls of the fault's sort so far.
  int64_t calls() const { return calls_; }

  std::string name() const override { return "faulty " + inner_->name(); }
  int depth() const override { return inner_->depth(); }
  Result<int> OpenFile(const std::string& path, OpenMode mode) override;
  bool direct(int file) const override { return inner_->direct(file); }
  void CloseFile(int file) override { inner_->CloseFile(file); }
  Result<int64_t> FileSize(int file) override { return inner_->FileSize(file); }
  Status Allocate(int file, int64_t bytes) override;
  Status Sync(int file) override;
  Status Lock(int file) override;
  Status MakeDirectory(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Status RemoveFile(const std::string& path) override;
  Status RemoveDirectory(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  Status RegisterMemory(std::span<std::byte> memory) override {
    return inner_->RegisterMemory(memory);
  }
  int Submit(std::span<const IoRequest> requests) override;
  int Reap(std::span<IoCompletion> out, int least) override;
  int in_flight() const override;

 private:
  struct Slot {
    IoRequest request;  // the caller's
    FaultKind fault = FaultKind::kNone;
  };
  struct Held {
    IoCompletion completion;
    int calls = 0;       // of Reap that it sits out
    bool extra = false;  // told already: not in flight
  };

  // Counts a call of that sort; whether it fails.
  bool Hit(FaultKind kind);
  FaultKind HitTransfer(const IoRequest& request);
  IoRequest Shortened(const IoRequest& request, FaultKind fault) const;
  void Complete(const Slot& slot, int64_t result);
  int Tell(std::span<IoCompletion> out, bool all);
  Status NamesFault(const std::string& path);

  IoBackend* inner_;
  Fault fault_;
  int64_t calls_ = 0;
  int64_t fires_ = 0;
  std::vector<Slot> slots_;     // [depth], by the tag given to the inner back end
  std::vector<uint64_t> free_;  // slots
  std::vector<Held> held_;      // in the order in which they completed
  uint64_t last_tag_ = 0;       // told before
};

}  // namespace hga::rigs

#endif  // HGA_STORE_RIGS_FAULT_IO_H_
