// SPDX-License-Identifier: Apache-2.0
// Whole transfers over a back end: short ones are continued, transient errors tried again, answers
// that nobody waits for dropped.
#ifndef HGA_STORE_IO_QUEUE_H_
#define HGA_STORE_IO_QUEUE_H_

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "store/io.h"

namespace hga {

// A transfer that ended: all of its bytes moved, or it failed for good.
struct IoDone {
  uint64_t id = 0;
  int error = 0;  // 0, or an errno; EIO also for a file that ended early and for a back end that
                  // answers with more bytes than were asked for
};

struct IoQueueStats {
  int64_t reads = 0, writes = 0;  // transfers that ended well
  int64_t read_bytes = 0, written_bytes = 0;
  int64_t continued = 0;  // short ones that went on
  int64_t retried = 0;    // EAGAIN, EINTR, ECANCELED tried again
  int64_t dropped = 0;    // completions of unknown or already ended transfers
  int64_t failed = 0;
  // Of reads, from submission to completion, in microseconds: bucket i counts [2^i, 2^(i+1)).
  std::array<int64_t, 32> read_latency = {};
};

// Not thread-safe. The back end must outlive it.
class IoQueue {
 public:
  explicit IoQueue(IoBackend* io);
  // Waits for everything in flight.
  ~IoQueue();

  // Queues a transfer and starts it as soon as there is room; returns its id, never 0, never used
  // again. The buffer belongs to the queue until the id is done.
  uint64_t Add(IoOp op, int file, int64_t offset, std::span<std::byte> data);
  // Transfers that ended, at most out.size(); waits until there are `least` of them or nothing is
  // under way.
  int Wait(std::span<IoDone> out, int least);
  int pending() const;  // queued or in flight

  const IoQueueStats& stats() const;
};

}  // namespace hga

#endif  // HGA_STORE_IO_QUEUE_H_
