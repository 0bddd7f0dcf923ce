// SPDX-License-Identifier: Apache-2.0
// Transfers through io_uring: one system call starts and collects many of them.
#ifndef HGA_STORE_IO_URING_H_
#define HGA_STORE_IO_URING_H_

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "store/fifo.h"
#include "store/io_files.h"

namespace hga {

class UringIo final : public FileIo {
 public:
  // kUnsupported with the reason where the kernel refuses rings, or takes one but runs nothing.
  static Result<std::unique_ptr<UringIo>> Open(int depth);
  // Waits for everything in flight: the kernel must not write into memory that was given back.
  ~UringIo() override;

  std::string name() const override { return "io_uring"; }
  int depth() const override { return depth_; }
  // Where the kernel refuses to pin the memory (RLIMIT_MEMLOCK), transfers go without.
  Status RegisterMemory(std::span<std::byte> memory) override;
  bool registered() const { return registered_; }
  int Submit(std::span<const IoRequest> requests) override;
  int Reap(std::span<IoCompletion> out, int least) override;
  int in_flight() const override { return in_flight_; }

 private:
  struct Slot {
    uint64_t tag = 0;
    int file = -1;
  };

  explicit UringIo(int depth);
  Status Start();
  void Prepare(const IoRequest& request, int fd);
  // The registered piece that holds all of the transfer's memory, or -1.
  int PieceOf(const IoRequest& request) const;
  int Collect(std::span<IoCompletion> out);
  // Hands prepared entries to the kernel and waits for `least` completions, or for some event.
  void Enter(int least);
  void Break(int error);
  int TellRefused(std::span<IoCompletion> out);

  int depth_;
  bool started_ = false;
  bool registered_ = false;
  int error_ = 0;  // of a ring that the kernel does not serve any more
  int in_flight_ = 0;
  io_uring ring_ = {};
  std::span<std::byte> memory_;  // registered, in pieces
  std::vector<Slot> slots_;      // [depth]
  std::vector<uint32_t> free_;   // slots
  Fifo<IoCompletion> refused_;   // never reached the kernel
};

}  // namespace hga

#endif  // HGA_STORE_IO_URING_H_
