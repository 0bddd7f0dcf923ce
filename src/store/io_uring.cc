// SPDX-License-Identifier: Apache-2.0
// Submission and completion queues. Each entry carries the number of its slot; the slot knows the
// caller's tag and the file.
#include "store/io_uring.h"

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"

namespace hga {
namespace {

// The kernel registers at most 1 GiB as one buffer.
constexpr size_t kPieceBytes = size_t{1} << 30;
// How long a queue without memory, or without its system call, waits before it looks again.
constexpr useconds_t kPause = 1000;

std::string RefusedBecause(int error) {
  const char* hint = "";
  switch (error) {
    case EPERM:
    case EACCES:
      hint = " (a container's seccomp filter or /proc/sys/kernel/io_uring_disabled)";
      break;
    case ENOSYS:
      hint = " (the kernel has none)";
      break;
    case ENOMEM:
      hint = " (RLIMIT_MEMLOCK or the memory limit of a cgroup)";
      break;
    default:
      break;
  }
  return fmt::format("io_uring refused: {}{}", ErrnoText(error), hint);
}

// Whether this kernel knows plain and fixed transfers (5.6).
bool KnowsTransfers(io_uring* ring) {
  std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(io_uring_get_probe_ring(ring),
                                                                   &io_uring_free_probe);
  if (!probe) return false;
  constexpr int kNeeded[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_FIXED,
                             IORING_OP_WRITE_FIXED};
  return std::ranges::all_of(
      kNeeded, [&](int op) { return io_uring_opcode_supported(probe.get(), op) != 0; });
}

// Filters may let a ring be made and refuse to run it. Returns 0 or an errno.
int RunNothing(io_uring* ring) {
  io_uring_prep_nop(io_uring_get_sqe(ring));
  int result;
  do {
    result = io_uring_submit_and_wait(ring, 1);
  } while (result == -EINTR);
  if (result < 0) return -result;
  io_uring_cqe* entry = nullptr;
  if (io_uring_peek_cqe(ring, &entry) != 0) return EIO;
  io_uring_cqe_seen(ring, entry);
  return 0;
}

}  // namespace

UringIo::UringIo(int depth)
    : depth_(depth), slots_(static_cast<size_t>(depth)), refused_(static_cast<size_t>(depth)) {
  for (int i = depth; i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
}

Result<std::unique_ptr<UringIo>> UringIo::Open(int depth) {
  HGA_CHECK(depth > 0);
  std::unique_ptr<UringIo> io(new UringIo(depth));
  HGA_RETURN_IF_ERROR(io->Start());
  return io;
}

Status UringIo::Start() {
  // The completion queue has twice the entries: more than can ever be in flight.
  const int result = io_uring_queue_init(static_cast<unsigned>(depth_), &ring_, 0);
  if (result < 0) return Unsupported(RefusedBecause(-result));
  started_ = true;
  if (!KnowsTransfers(&ring_)) {
    return Unsupported("io_uring refused: the kernel is too old (5.6 is needed)");
  }
  const int error = RunNothing(&ring_);
  return error == 0 ? OkStatus() : Unsupported(RefusedBecause(error));
}

UringIo::~UringIo() {
  if (!started_) return;
  IoCompletion dropped[64];
  while (in_flight_ > 0) Reap(dropped, 1);
  io_uring_queue_exit(&ring_);
}

Status UringIo::RegisterMemory(std::span<std::byte> memory) {
  HGA_CHECK(memory_.empty() && in_flight_ == 0);
  std::vector<iovec> pieces;
  for (size_t at = 0; at < memory.size(); at += kPieceBytes) {
    pieces.push_back({memory.data() + at, std::min(kPieceBytes, memory.size() - at)});
  }
  if (pieces.empty()) return OkStatus();
  memory_ = memory;
  registered_ =
      io_uring_register_buffers(&ring_, pieces.data(), static_cast<unsigned>(pieces.size())) == 0;
  return OkStatus();
}

int UringIo::PieceOf(const IoRequest& request) const {
  if (!registered_) return -1;
  const auto base = reinterpret_cast<uintptr_t>(memory_.data());
  const auto first = reinterpret_cast<uintptr_t>(request.data);
  const auto bytes = static_cast<uintptr_t>(request.bytes);
  if (first < base || bytes > memory_.size() || first - base > memory_.size() - bytes) return -1;
  const uintptr_t piece = (first - base) / kPieceBytes;
  return piece == (first - base + bytes - 1) / kPieceBytes ? static_cast<int>(piece) : -1;
}

void UringIo::Prepare(const IoRequest& request, int fd) {
  const uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot] = {.tag = request.tag, .file = request.file};
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  HGA_CHECK(entry != nullptr);  // the ring has an entry for each slot
  const auto bytes = static_cast<unsigned>(std::min(request.bytes, kMostTransferBytes));
  const auto offset = static_cast<uint64_t>(request.offset);
  const int piece = PieceOf(request);
  if (request.op == IoOp::kRead) {
    if (piece >= 0) {
      io_uring_prep_read_fixed(entry, fd, request.data, bytes, offset, piece);
    } else {
      io_uring_prep_read(entry, fd, request.data, bytes, offset);
    }
  } else if (piece >= 0) {
    io_uring_prep_write_fixed(entry, fd, request.data, bytes, offset, piece);
  } else {
    io_uring_prep_write(entry, fd, request.data, bytes, offset);
  }
  entry->user_data = slot;
}

int UringIo::Submit(std::span<const IoRequest> requests) {
  const size_t taken = std::min(requests.size(), static_cast<size_t>(depth_ - in_flight_));
  bool prepared = false;
  for (const IoRequest& request : requests.first(taken)) {
    const int fd = error_ != 0 ? -error_ : Begin(request);
    if (fd < 0) {
      refused_.push({request.tag, fd});
    } else {
      Prepare(request, fd);
      prepared = true;
    }
  }
  in_flight_ += static_cast<int>(taken);
  if (prepared) Enter(0);
  return static_cast<int>(taken);
}

int UringIo::Reap(std::span<IoCompletion> out, int least) {
  least = std::min({least, static_cast<int>(out.size()), in_flight_});
  // Entries that an earlier call could not hand over.
  if (error_ == 0 && io_uring_sq_ready(&ring_) > 0) Enter(0);
  int count = Collect(out);
  while (count < least) {
    Enter(least - count);
    count += Collect(out.subspan(static_cast<size_t>(count)));
  }
  return count;
}

int UringIo::TellRefused(std::span<IoCompletion> out) {
  int count = 0;
  while (!refused_.empty() && count < static_cast<int>(out.size())) {
    out[static_cast<size_t>(count++)] = refused_.pop();
  }
  return count;
}

int UringIo::Collect(std::span<IoCompletion> out) {
  int count = TellRefused(out);
  unsigned head, seen = 0;
  io_uring_cqe* entry;
  io_uring_for_each_cqe(&ring_, head, entry) {
    if (count == static_cast<int>(out.size())) break;
    const uint64_t slot = entry->user_data;
    HGA_CHECK(slot < slots_.size() && slots_[slot].file >= 0);
    out[static_cast<size_t>(count++)] = {slots_[slot].tag, entry->res};
    End(slots_[slot].file);
    slots_[slot].file = -1;
    free_.push_back(static_cast<uint32_t>(slot));
    ++seen;
  }
  io_uring_cq_advance(&ring_, seen);
  in_flight_ -= count;
  return count;
}

void UringIo::Enter(int least) {
  if (error_ != 0) {  // what the kernel has already, it completes without being asked
    usleep(kPause);
    return;
  }
  const int result = io_uring_submit_and_wait(&ring_, static_cast<unsigned>(least));
  if (result >= 0 || result == -EINTR) return;
  if (result != -EAGAIN && result != -EBUSY && result != -ENOMEM) return Break(-result);
  if (least == 0) return;  // the next Reap tries again
  // No memory for another entry: there will be some when one of those under way ends.
  usleep(kPause);
}

// Entries that were prepared and not handed over end here; the others still complete.
void UringIo::Break(int error) {
  error_ = error;
  const unsigned first = *ring_.sq.khead, last = ring_.sq.sqe_tail;
  for (unsigned i = first; i != last; ++i) {
    const uint64_t slot = ring_.sq.sqes[i & *ring_.sq.kring_mask].user_data;
    refused_.push({slots_[slot].tag, -error});
    End(slots_[slot].file);
    slots_[slot].file = -1;
    free_.push_back(static_cast<uint32_t>(slot));
  }
}

}  // namespace hga
