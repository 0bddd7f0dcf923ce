// SPDX-License-Identifier: Apache-2.0
// Real calls are made wherever their result can be changed afterwards.
#include "store/rigs/fault_io.h"

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "store/io_files.h"

namespace hga::rigs {
namespace {

constexpr std::byte kRubbish{0x5A};
// Calls of Reap that late completions sit out.
constexpr int kLateCalls = 6;
constexpr int64_t kOddBytes = 1096;

bool OfTransfers(FaultKind kind) { return kind > FaultKind::kNone && kind < FaultKind::kSyncEio; }

int ErrorOf(FaultKind kind) {
  switch (kind) {
    case FaultKind::kEio:
      return EIO;
    case FaultKind::kEnospc:
      return ENOSPC;
    case FaultKind::kEagain:
      return EAGAIN;
    case FaultKind::kEintr:
      return EINTR;
    case FaultKind::kEcanceled:
      return ECANCELED;
    default:
      return 0;
  }
}

}  // namespace

const char* NameOf(FaultKind kind) {
  switch (kind) {
    case FaultKind::kNone:
      return "none";
    case FaultKind::kShortAligned:
      return "short aligned";
    case FaultKind::kShortUnaligned:
      return "short unaligned";
    case FaultKind::kZeroBytes:
      return "zero bytes";
    case FaultKind::kTooManyBytes:
      return "too many bytes";
    case FaultKind::kEio:
      return "EIO";
    case FaultKind::kEnospc:
      return "ENOSPC";
    case FaultKind::kEagain:
      return "EAGAIN";
    case FaultKind::kEintr:
      return "EINTR";
    case FaultKind::kEcanceled:
      return "ECANCELED";
    case FaultKind::kLate:
      return "late";
    case FaultKind::kReordered:
      return "reordered";
    case FaultKind::kDuplicated:
      return "duplicated";
    case FaultKind::kStaleTag:
      return "stale tag";
    case FaultKind::kSyncEio:
      return "sync EIO";
    case FaultKind::kAllocateEnospc:
      return "allocate ENOSPC";
    case FaultKind::kOpenEio:
      return "open EIO";
    case FaultKind::kOpenEacces:
      return "open EACCES";
    case FaultKind::kLockHeld:
      return "lock held";
    case FaultKind::kNamesEio:
      return "names EIO";
  }
  return "?";
}

FaultIo::FaultIo(IoBackend* inner, const Fault& fault)
    : inner_(inner), fault_(fault), slots_(static_cast<size_t>(inner->depth())) {
  for (size_t i = slots_.size(); i > 0; --i) free_.push_back(i - 1);
}

void FaultIo::Set(const Fault& fault) {
  fault_ = fault;
  calls_ = 0;
  fires_ = 0;
}

void FaultIo::MoveTo(IoBackend* inner) {
  HGA_CHECK(in_flight() == 0 && inner->depth() == static_cast<int>(slots_.size()));
  inner_ = inner;
  held_.clear();
}

bool FaultIo::Hit(FaultKind kind) {
  if (kind != fault_.kind) return false;
  const int64_t call = calls_++;
  const bool hit = fault_.sticky ? call >= fault_.at : call == fault_.at;
  fires_ += hit ? 1 : 0;
  return hit;
}

FaultKind FaultIo::HitTransfer(const IoRequest& request) {
  if (!OfTransfers(fault_.kind)) return FaultKind::kNone;
  if (fault_.only.has_value() && *fault_.only != request.op) return FaultKind::kNone;
  return Hit(fault_.kind) ? fault_.kind : FaultKind::kNone;
}

Result<int> FaultIo::OpenFile(const std::string& path, OpenMode mode) {
  if (Hit(FaultKind::kOpenEio)) return FileError(path, "opening", EIO);
  if (Hit(FaultKind::kOpenEacces)) return FileError(path, "opening", EACCES);
  return inner_->OpenFile(path, mode);
}

Status FaultIo::Allocate(int file, int64_t bytes) {
  if (Hit(FaultKind::kAllocateEnospc)) return FileError("a file", "making room", ENOSPC);
  return inner_->Allocate(file, bytes);
}

Status FaultIo::Sync(int file) {
  if (Hit(FaultKind::kSyncEio)) return FileError("a file", "writing it to the disk", EIO);
  return inner_->Sync(file);
}

Status FaultIo::Lock(int file) {
  if (Hit(FaultKind::kLockHeld)) return ResourceExhausted("a file: is locked");
  return inner_->Lock(file);
}

Status FaultIo::NamesFault(const std::string& path) {
  return Hit(FaultKind::kNamesEio) ? FileError(path, "its directory", EIO) : OkStatus();
}
Status FaultIo::MakeDirectory(const std::string& path) {
  HGA_RETURN_IF_ERROR(NamesFault(path));
  return inner_->MakeDirectory(path);
}
Status FaultIo::SyncDirectory(const std::string& path) {
  HGA_RETURN_IF_ERROR(NamesFault(path));
  return inner_->SyncDirectory(path);
}
Status FaultIo::RemoveFile(const std::string& path) {
  HGA_RETURN_IF_ERROR(NamesFault(path));
  return inner_->RemoveFile(path);
}
Status FaultIo::RemoveDirectory(const std::string& path) {
  HGA_RETURN_IF_ERROR(NamesFault(path));
  return inner_->RemoveDirectory(path);
}
Status FaultIo::Rename(const std::string& from, const std::string& to) {
  HGA_RETURN_IF_ERROR(NamesFault(from));
  return inner_->Rename(from, to);
}
Result<std::vector<std::string>> FaultIo::List(const std::string& path) {
  HGA_RETURN_IF_ERROR(NamesFault(path));
  return inner_->List(path);
}

int FaultIo::in_flight() const {
  const auto held = std::ranges::count_if(held_, [](const Held& held) { return !held.extra; });
  return inner_->in_flight() + static_cast<int>(held);
}

// Half of the units, and of these the last one not whole where that is the fault.
IoRequest FaultIo::Shortened(const IoRequest& request, FaultKind fault) const {
  IoRequest real = request;
  if (fault != FaultKind::kShortAligned && fault != FaultKind::kShortUnaligned) return real;
  if (RefusalOf(request) != 0) return real;
  real.bytes = std::max<int64_t>(request.bytes / kIoAlignment / 2, 1) * kIoAlignment;
  return real;
}

int FaultIo::Submit(std::span<const IoRequest> requests) {
  const size_t room = static_cast<size_t>(depth() - in_flight());
  const size_t taken = std::min(requests.size(), room);
  for (const IoRequest& request : requests.first(taken)) {
    Slot slot{.request = request, .fault = HitTransfer(request)};
    const bool fails = ErrorOf(slot.fault) != 0 || slot.fault == FaultKind::kZeroBytes;
    if (fails && request.op == IoOp::kWrite) {
      Complete(slot, 0);
      continue;
    }
    IoRequest real = Shortened(request, slot.fault);
    real.tag = free_.back();
    free_.pop_back();
    slots_[real.tag] = slot;
    inner_->Submit({&real, 1});
  }
  return static_cast<int>(taken);
}

int FaultIo::Reap(std::span<IoCompletion> out, int least) {
  least = std::min({least, static_cast<int>(out.size()), in_flight()});
  for (Held& held : held_) held.calls = std::max(0, held.calls - 1);
  int count = Tell(out, false);
  do {
    IoCompletion real[32];
    const int got = inner_->Reap(real, count < least ? 1 : 0);
    for (int i = 0; i < got; ++i) {
      const Slot slot = slots_[real[i].tag];
      free_.push_back(real[i].tag);
      Complete(slot, real[i].result);
    }
    count += Tell(out.subspan(static_cast<size_t>(count)), false);
    // Nothing else will come: those held back must.
    if (count < least && inner_->in_flight() == 0) {
      count += Tell(out.subspan(static_cast<size_t>(count)), true);
    }
  } while (count < least);
  return count;
}

void FaultIo::Complete(const Slot& slot, int64_t result) {
  const IoRequest& request = slot.request;
  if (const int error = ErrorOf(slot.fault); error != 0) result = -error;
  if (slot.fault == FaultKind::kZeroBytes) result = 0;
  if (slot.fault == FaultKind::kTooManyBytes) result = request.bytes + kIoAlignment;
  const bool odd = slot.fault == FaultKind::kShortUnaligned ||
                   (slot.fault == FaultKind::kShortAligned && request.bytes == kIoAlignment);
  if (odd && result > kOddBytes) result -= kIoAlignment - kOddBytes;
  if (request.op == IoOp::kRead && slot.fault != FaultKind::kNone && request.bytes > 0 &&
      result < request.bytes && RefusalOf(request) == 0) {
    std::fill(request.data + std::max<int64_t>(result, 0), request.data + request.bytes, kRubbish);
  }
  Held held{.completion = {request.tag, result}};
  if (slot.fault == FaultKind::kLate) held.calls = kLateCalls;
  if (slot.fault == FaultKind::kReordered) held.calls = 1;
  if (slot.fault == FaultKind::kStaleTag) held.completion.tag = last_tag_;
  held_.push_back(held);
  if (slot.fault == FaultKind::kDuplicated) {
    held_.push_back({.completion = held.completion, .calls = 1, .extra = true});
  }
}

// Tells completions whose time has come, or all of those in flight.
int FaultIo::Tell(std::span<IoCompletion> out, bool all) {
  size_t count = 0;
  for (size_t i = 0; i < held_.size() && count < out.size();) {
    const Held& held = held_[i];
    if (held.calls > 0 && (!all || held.extra)) {
      ++i;
      continue;
    }
    last_tag_ = held.completion.tag;
    out[count++] = held.completion;
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(i));
  }
  return static_cast<int>(count);
}

}  // namespace hga::rigs
