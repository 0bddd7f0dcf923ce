// SPDX-License-Identifier: Apache-2.0
// Whole transfers over a back end: short ones are continued, transient errors tried again, answers
// that nobody waits for dropped.
#ifndef HGA_STORE_IO_QUEUE_H_
#define HGA_STORE_IO_QUEUE_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "store/fifo.h"
#include "store/io.h"

namespace hga {

// A transfer that ended: all of its bytes moved, or it failed for good.
struct IoDone {
  uint64_t id = 0;
  int error = 0;  // 0, or an errno; EIO also for a file that ended early and for a back end that
                  // answers with more bytes than were asked for, or not at all
};

struct IoQueueStats {
  int64_t reads = 0, writes = 0;  // transfers that ended well
  int64_t read_bytes = 0, written_bytes = 0;
  int64_t continued = 0;  // short ones that went on
  int64_t retried = 0;    // EAGAIN, EINTR, ECANCELED, too short to go on: tried again
  int64_t dropped = 0;    // completions of unknown or already ended transfers
  int64_t failed = 0;
  // Of reads, from submission to completion, in microseconds: bucket i counts [2^i, 2^(i+1)), the
  // first one 0 as well.
  std::array<int64_t, 32> read_latency = {};
};

// Not thread-safe. The back end must outlive it and take transfers from nobody else meanwhile.
// Allocates only when more transfers are pending than ever before.
class IoQueue {
 public:
  // Attempts of a transfer that may end with a transient error before it fails with that.
  static constexpr int kMostRetries = 8;

  explicit IoQueue(IoBackend* io);
  // Waits for everything in flight; what was only queued is never started.
  ~IoQueue();
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;

  // Queues a transfer and starts it as soon as there is room; returns its id, never 0, never used
  // again. The buffer belongs to the queue until the id is done. Offset, size and buffer are
  // multiples of kIoAlignment. With `start` false it goes out with the next call that starts
  // something, Wait at the latest: many transfers for one system call.
  uint64_t Add(IoOp op, int file, int64_t offset, std::span<std::byte> data, bool start = true);
  // Transfers that ended, at most out.size(); waits until there are `least` of them or nothing is
  // under way.
  int Wait(std::span<IoDone> out, int least);
  // Queued, in flight, or ended and not yet told by Wait.
  int pending() const { return static_cast<int>(waiting_.size() + done_.size()) + in_use_; }

  const IoQueueStats& stats() const { return stats_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Transfer {
    uint64_t id = 0;    // 0: the slot is free
    IoRequest request;  // what is left of it; the tag is that of the attempt under way
    int64_t bytes = 0;  // all of it
    int retries = 0;
    Clock::time_point start;
  };

  uint64_t NewTag(uint32_t slot);
  void Start();
  void Take(int least);
  void Handle(const IoCompletion& completion);
  void Advance(uint32_t slot, int64_t moved);
  void TryAgain(uint32_t slot, int error);
  void Attempt(uint32_t slot);
  void Finish(uint32_t slot, int error);
  void FailLost();

  IoBackend* io_;
  uint64_t last_id_ = 0;
  int in_use_ = 0;                         // slots
  std::vector<Transfer> slots_;            // [depth]
  std::vector<uint32_t> free_;             // slots
  std::vector<IoRequest> ready_;           // attempts that the back end has not taken yet
  std::vector<IoCompletion> completions_;  // [depth]
  Fifo<Transfer> waiting_;                 // for a slot
  Fifo<IoDone> done_;
  IoQueueStats stats_;
};

}  // namespace hga

#endif  // HGA_STORE_IO_QUEUE_H_
