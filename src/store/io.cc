// SPDX-License-Identifier: Apache-2.0
// The choice between the back ends.
#include "store/io.h"

#include <fmt/format.h>

#include "store/io_threads.h"
#include "store/io_uring.h"

namespace hga {
namespace {

constexpr int kMostDepth = 4096;

template <typename Io>
Result<std::unique_ptr<IoBackend>> AsBackend(Result<std::unique_ptr<Io>> io) {
  if (!io.ok()) return io.status();
  return std::unique_ptr<IoBackend>(std::move(*io));
}

}  // namespace

Result<std::unique_ptr<IoBackend>> OpenIo(IoChoice choice, int depth, std::string* why) {
  if (why != nullptr) why->clear();
  if (depth < 1 || depth > kMostDepth) {
    return InvalidArgument(
        fmt::format("a queue of {} disk transfers: 1 to {} are possible", depth, kMostDepth));
  }
  if (choice == IoChoice::kThreads) return AsBackend(ThreadIo::Open(depth));
  Result<std::unique_ptr<UringIo>> uring = UringIo::Open(depth);
  if (choice == IoChoice::kUring || uring.ok()) return AsBackend(std::move(uring));
  if (why != nullptr) *why = uring.status().message();
  return AsBackend(ThreadIo::Open(depth));
}

}  // namespace hga
