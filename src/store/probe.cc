// SPDX-License-Identifier: Apache-2.0
// Keeps a number of transfers in flight for a while and looks at the clock around each.
#include "store/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <random>
#include <vector>

#include "base/file.h"
#include "base/memory.h"
#include "store/io_files.h"
#include "store/io_queue.h"

namespace hga {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLarge = int64_t{1} << 20;
constexpr int kMostDepth = 64;
// Large transfers: enough in flight to keep a disk busy.
constexpr int kLargeDepth = 8;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One measurement: `depth` places, each with a piece of memory and one transfer at a time.
class Run {
 public:
  Run(IoBackend* io, int file, const ProbeOptions& options, std::span<std::byte> memory)
      : queue_(io), file_(file), options_(options), memory_(memory), random_(options.seed) {}

  // Places are random, or one behind the other from the start of the file on, again and again.
  Result<ProbeFigures> Measure(IoOp op, int64_t bytes, int depth, bool random) {
    op_ = op;
    bytes_ = bytes;
    random_places_ = random;
    ids_.assign(static_cast<size_t>(depth), 0);
    starts_.resize(static_cast<size_t>(depth));
    const Clock::time_point start = Clock::now();
    for (size_t place = 0; place < ids_.size(); ++place) Begin(place);
    std::array<IoDone, kMostDepth> done;
    double seconds = 0;
    while (queue_.pending() > 0) {
      const int count = queue_.Wait(done, 1);
      seconds = SecondsSince(start);
      for (const IoDone& end : std::span(done).first(static_cast<size_t>(count))) {
        HGA_RETURN_IF_ERROR(End(end, seconds < options_.seconds));
      }
    }
    return Figures(depth, seconds);
  }

 private:
  void Begin(size_t place) {
    const int64_t places = options_.file_bytes / bytes_;
    const int64_t at =
        random_places_ ? static_cast<int64_t>(random_() % static_cast<uint64_t>(places)) : next_;
    next_ = (next_ + 1) % places;
    starts_[place] = Clock::now();
    ids_[place] = queue_.Add(
        op_, file_, at * bytes_,
        memory_.subspan(place * static_cast<size_t>(bytes_), static_cast<size_t>(bytes_)), false);
  }

  Status End(const IoDone& end, bool again) {
    const auto place = static_cast<size_t>(std::ranges::find(ids_, end.id) - ids_.begin());
    if (end.error != 0) {
      return IoError(fmt::format("a {} of {} bytes: {}", op_ == IoOp::kRead ? "read" : "write",
                                 bytes_, ErrnoText(end.error)));
    }
    microseconds_.push_back(SecondsSince(starts_[place]) * 1e6);
    if (again) Begin(place);
    return OkStatus();
  }

  double Quantile(double share) {
    const auto at = static_cast<ptrdiff_t>(static_cast<double>(microseconds_.size() - 1) * share);
    std::ranges::nth_element(microseconds_, microseconds_.begin() + at);
    return microseconds_[static_cast<size_t>(at)];
  }

  ProbeFigures Figures(int depth, double seconds) {
    const auto transfers = static_cast<int64_t>(microseconds_.size());
    const double per_second = static_cast<double>(transfers) / seconds;
    return {.queue_depth = depth,
            .transfer_bytes = bytes_,
            .transfers = transfers,
            .seconds = seconds,
            .bytes_per_second = per_second * static_cast<double>(bytes_),
            .transfers_per_second = per_second,
            .median_us = Quantile(0.5),
            .p99_us = Quantile(0.99)};
  }

  IoQueue queue_;
  int file_;
  const ProbeOptions& options_;
  std::span<std::byte> memory_;
  std::mt19937_64 random_;
  IoOp op_ = IoOp::kRead;
  int64_t bytes_ = 0;
  bool random_places_ = false;
  int64_t next_ = 0;
  std::vector<uint64_t> ids_;              // of the transfer at each place
  std::vector<Clock::time_point> starts_;  // of these
  std::vector<double> microseconds_;       // of all that ended
};

// Bytes no disk can compress or share away.
void FillRandom(std::span<std::byte> out, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
}

// The file has its real bytes on the disk: room that was never written is not read from there.
Status Prepare(IoBackend* io, int file, const ProbeOptions& options, std::span<std::byte> memory) {
  HGA_RETURN_IF_ERROR(io->Allocate(file, options.file_bytes));
  IoQueue queue(io);
  for (int64_t at = 0; at < options.file_bytes; at += kLarge) {
    queue.Add(IoOp::kWrite, file, at, memory.first(kLarge));
  }
  IoDone done;
  while (queue.Wait({&done, 1}, 1) == 1) {
    if (done.error != 0) return FileError("the probe's file", "writing", done.error);
  }
  return io->Sync(file);
}

Status Measure(IoBackend* io, int file, const ProbeOptions& options, DiskProbe* probe) {
  HGA_ASSIGN_OR_RETURN(const Pages pages, Pages::Reserve(kLargeDepth * kLarge));
  const std::span<std::byte> memory(pages.data(), pages.size());
  FillRandom(memory, options.seed);
  HGA_RETURN_IF_ERROR(Prepare(io, file, options, memory));
  const auto run = [&](IoOp op, int64_t bytes, int depth, bool random, ProbeFigures* figures) {
    Result<ProbeFigures> result =
        Run(io, file, options, memory).Measure(op, bytes, std::min(depth, io->depth()), random);
    if (result.ok()) *figures = *result;
    return result.status();
  };
  HGA_RETURN_IF_ERROR(run(IoOp::kRead, kIoAlignment, 1, true, &probe->random_reads_1));
  HGA_RETURN_IF_ERROR(run(IoOp::kRead, kIoAlignment, kMostDepth, true, &probe->random_reads_64));
  HGA_RETURN_IF_ERROR(run(IoOp::kRead, kLarge, kLargeDepth, false, &probe->reads));
  return run(IoOp::kWrite, kLarge, kLargeDepth, false, &probe->writes);
}

}  // namespace

Result<DiskProbe> ProbeDisk(IoBackend* io, const std::string& directory,
                            const ProbeOptions& options) {
  if (options.file_bytes < kLarge || options.file_bytes % kLarge != 0 || options.seconds <= 0 ||
      options.seconds > 600) {
    return InvalidArgument(fmt::format(
        "a probe of {} bytes for {} seconds: whole MiB and at most 600 seconds are possible",
        options.file_bytes, options.seconds));
  }
  DiskProbe probe;
  probe.backend = io->name();
  probe.file_bytes = options.file_bytes;
  HGA_ASSIGN_OR_RETURN(probe.file_system, FactsOf(directory));
  if (probe.file_system.free_bytes < options.file_bytes) {
    return ResourceExhausted(fmt::format("{}: {} bytes are free, the probe needs {}",
                                         Quoted(directory), probe.file_system.free_bytes,
                                         options.file_bytes));
  }
  HGA_ASSIGN_OR_RETURN(const int file, io->OpenFile(directory, OpenMode::kTemporary));
  probe.direct = io->direct(file);
  const Status status = Measure(io, file, options, &probe);
  io->CloseFile(file);
  if (!status.ok()) return status;
  return probe;
}

}  // namespace hga
