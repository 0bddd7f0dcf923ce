// SPDX-License-Identifier: Apache-2.0
// Jobs go to the threads and completions come back under one mutex, which also orders the bytes of
// the buffers between them.
#include "store/io_threads.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/check.h"

namespace hga {
namespace {

// More blocked threads than this gain little on a disk and cost a context switch each.
constexpr int kMostThreads = 16;

int64_t Transfer(const IoRequest& request, int fd) {
  const auto bytes = static_cast<size_t>(std::min(request.bytes, kMostTransferBytes));
  const ssize_t result = request.op == IoOp::kRead
                             ? pread(fd, request.data, bytes, request.offset)
                             : pwrite(fd, request.data, bytes, request.offset);
  return result < 0 ? -errno : result;
}

}  // namespace

ThreadIo::ThreadIo(int depth)
    : depth_(depth), jobs_(static_cast<size_t>(depth)), ended_(static_cast<size_t>(depth)) {}

Result<std::unique_ptr<ThreadIo>> ThreadIo::Open(int depth) {
  HGA_CHECK(depth > 0);
  std::unique_ptr<ThreadIo> io(new ThreadIo(depth));
  const int threads = std::min(depth, kMostThreads);
  for (int i = 0; i < threads; ++i) {
    try {
      io->threads_.emplace_back([self = io.get()] { self->Work(); });
    } catch (const std::system_error& error) {
      if (!io->threads_.empty()) break;  // fewer are slower, not wrong
      return ResourceExhausted(
          fmt::format("no thread for disk transfers can be started: {}", error.what()));
    }
  }
  return io;
}

ThreadIo::~ThreadIo() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadIo::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = jobs_.pop();
    lock.unlock();
    const int64_t result = Transfer(job.request, job.fd);
    lock.lock();
    ended_.push({{job.request.tag, result}, job.request.file});
    if (wanted_ > 0 && ended_.size() >= wanted_) done_.notify_one();
  }
}

int ThreadIo::Submit(std::span<const IoRequest> requests) {
  const size_t taken = std::min(requests.size(), static_cast<size_t>(depth_ - in_flight_));
  size_t jobs = 0;
  {
    std::lock_guard lock(mutex_);
    for (const IoRequest& request : requests.first(taken)) {
      const int fd = Begin(request);
      if (fd < 0) {
        ended_.push({{request.tag, fd}, -1});
      } else {
        jobs_.push({request, fd});
        ++jobs;
      }
    }
  }
  for (size_t i = std::min(jobs, threads_.size()); i > 0; --i) work_.notify_one();
  in_flight_ += static_cast<int>(taken);
  return static_cast<int>(taken);
}

int ThreadIo::Reap(std::span<IoCompletion> out, int least) {
  least = std::min({least, static_cast<int>(out.size()), in_flight_});
  int count = 0;
  {
    std::unique_lock lock(mutex_);
    wanted_ = static_cast<size_t>(std::max(least, 0));
    done_.wait(lock, [this] { return ended_.size() >= wanted_; });
    wanted_ = 0;
    while (!ended_.empty() && count < static_cast<int>(out.size())) {
      const Ended ended = ended_.pop();
      out[static_cast<size_t>(count++)] = ended.completion;
      if (ended.file >= 0) End(ended.file);
    }
  }
  in_flight_ -= count;
  return count;
}

}  // namespace hga
