// SPDX-License-Identifier: Apache-2.0
// Each attempt has a tag of its own, so that the answer to an earlier attempt, late or told twice,
// never counts for a later one, nor for one of another queue.
#include "store/io_queue.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/check.h"

namespace hga {
namespace {

// A tag: the number of the attempt above, the slot in the lowest bits.
constexpr int kSlotBits = 16;
constexpr uint64_t kSlotMask = (uint64_t{1} << kSlotBits) - 1;
constexpr int64_t kMostErrno = 4095;

bool Transient(int error) { return error == EAGAIN || error == EINTR || error == ECANCELED; }

}  // namespace

IoQueue::IoQueue(IoBackend* io)
    : io_(io),
      slots_(static_cast<size_t>(io->depth())),
      completions_(slots_.size()),
      waiting_(slots_.size()),
      done_(slots_.size()) {
  HGA_CHECK(!slots_.empty() && slots_.size() <= kSlotMask);
  for (size_t i = slots_.size(); i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
  ready_.reserve(slots_.size());
}

IoQueue::~IoQueue() {
  while (io_->in_flight() > 0) io_->Reap(completions_, 1);
}

uint64_t IoQueue::Add(IoOp op, int file, int64_t offset, std::span<std::byte> data, bool start) {
  const auto bytes = static_cast<int64_t>(data.size());
  Transfer transfer;
  transfer.id = ++last_id_;
  transfer.bytes = bytes;
  transfer.request = {
      .op = op, .file = file, .offset = offset, .data = data.data(), .bytes = bytes, .tag = 0};
  waiting_.push(transfer);
  if (start) Start();
  return transfer.id;
}

int IoQueue::Wait(std::span<IoDone> out, int least) {
  const size_t wanted = static_cast<size_t>(std::clamp(least, 0, static_cast<int>(out.size())));
  Start();
  Take(0);
  while (done_.size() < wanted && in_use_ > 0) {
    const int missing = static_cast<int>(wanted - done_.size());
    // While others wait for room, a quarter of the back end's depth at most may run empty.
    const int step = waiting_.empty() ? missing : std::max(1, io_->depth() / 4);
    Take(std::min(missing, step));
  }
  int count = 0;
  while (!done_.empty() && count < static_cast<int>(out.size())) {
    out[static_cast<size_t>(count++)] = done_.pop();
  }
  return count;
}

uint64_t IoQueue::NewTag(uint32_t slot) { return io_->NextAttempt() << kSlotBits | slot; }

// Fills free slots and hands the back end what it takes.
void IoQueue::Start() {
  while (!waiting_.empty() && !free_.empty()) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    slots_[slot] = waiting_.pop();
    slots_[slot].start = Clock::now();
    ++in_use_;
    Attempt(slot);
  }
  if (ready_.empty()) return;
  const int taken = io_->Submit(ready_);
  ready_.erase(ready_.begin(), ready_.begin() + taken);
}

void IoQueue::Attempt(uint32_t slot) {
  slots_[slot].request.tag = NewTag(slot);
  ready_.push_back(slots_[slot].request);
}

void IoQueue::Take(int least) {
  const int count = io_->Reap(completions_, std::min(least, io_->in_flight()));
  for (int i = 0; i < count; ++i) Handle(completions_[static_cast<size_t>(i)]);
  if (count == 0 && least > 0 && io_->in_flight() == 0) FailLost();
  Start();
}

void IoQueue::Handle(const IoCompletion& completion) {
  const auto slot = static_cast<uint32_t>(completion.tag & kSlotMask);
  if (slot >= slots_.size() || slots_[slot].id == 0 || slots_[slot].request.tag != completion.tag) {
    ++stats_.dropped;
    return;
  }
  const int64_t result = completion.result, left = slots_[slot].request.bytes;
  if (result == left) {
    Finish(slot, 0);
  } else if (result > left || result == 0 || result < -kMostErrno) {
    Finish(slot, EIO);
  } else if (result > 0) {
    Advance(slot, result);
  } else if (Transient(static_cast<int>(-result))) {
    TryAgain(slot, static_cast<int>(-result));
  } else {
    Finish(slot, static_cast<int>(-result));
  }
}

// The rest of a short transfer begins at a whole sector: direct I/O refuses anything else.
void IoQueue::Advance(uint32_t slot, int64_t moved) {
  moved -= moved % kIoAlignment;
  if (moved == 0) return TryAgain(slot, EIO);
  IoRequest& request = slots_[slot].request;
  request.offset += moved;
  request.data += moved;
  request.bytes -= moved;
  ++stats_.continued;
  Attempt(slot);
}

void IoQueue::TryAgain(uint32_t slot, int error) {
  if (slots_[slot].retries == kMostRetries) return Finish(slot, error);
  ++slots_[slot].retries;
  ++stats_.retried;
  Attempt(slot);
}

void IoQueue::Finish(uint32_t slot, int error) {
  Transfer& transfer = slots_[slot];
  const bool read = transfer.request.op == IoOp::kRead;
  if (error != 0) {
    ++stats_.failed;
  } else if (read) {
    const auto time =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - transfer.start);
    const size_t bucket = std::bit_width(static_cast<uint64_t>(time.count()) | 1) - 1;
    ++stats_.read_latency[std::min(bucket, stats_.read_latency.size() - 1)];
    ++stats_.reads;
    stats_.read_bytes += transfer.bytes;
  } else {
    ++stats_.writes;
    stats_.written_bytes += transfer.bytes;
  }
  done_.push({transfer.id, error});
  transfer.id = 0;
  free_.push_back(slot);
  --in_use_;
}

// The back end has nothing in flight and took nothing: whoever is left will never be answered.
void IoQueue::FailLost() {
  ready_.clear();
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].id != 0) Finish(slot, EIO);
  }
}

}  // namespace hga
