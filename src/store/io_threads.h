// SPDX-License-Identifier: Apache-2.0
// Transfers by a pool of threads that block in pread and pwrite: works everywhere.
#ifndef HGA_STORE_IO_THREADS_H_
#define HGA_STORE_IO_THREADS_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "store/fifo.h"
#include "store/io_files.h"

namespace hga {

class ThreadIo final : public FileIo {
 public:
  // kResourceExhausted when the system gives no thread.
  static Result<std::unique_ptr<ThreadIo>> Open(int depth);
  // Ends what was started.
  ~ThreadIo() override;

  std::string name() const override { return "threads"; }
  int depth() const override { return depth_; }
  Status RegisterMemory(std::span<std::byte>) override { return OkStatus(); }
  int Submit(std::span<const IoRequest> requests) override;
  int Reap(std::span<IoCompletion> out, int least) override;
  int in_flight() const override { return in_flight_; }

 private:
  struct Job {
    IoRequest request;
    int fd = -1;
  };
  struct Ended {
    IoCompletion completion;
    int file = -1;  // -1: refused, never counted
  };

  explicit ThreadIo(int depth);
  void Work();

  int depth_;
  int in_flight_ = 0;  // of the caller's thread
  std::mutex mutex_;
  std::condition_variable work_;  // jobs_ or stop_ changed
  std::condition_variable done_;  // there are wanted_ in ended_
  bool stop_ = false;
  size_t wanted_ = 0;  // completions the caller waits for
  Fifo<Job> jobs_;
  Fifo<Ended> ended_;
  std::vector<std::thread> threads_;
};

}  // namespace hga

#endif  // HGA_STORE_IO_THREADS_H_
