// SPDX-License-Identifier: Apache-2.0
// Memory, streams and events of the CPU.
#include "backend/host_device.h"

#include <chrono>
#include <cstring>

namespace hga {
namespace {

class HostEvent final : public Event {
 public:
  void Record(Stream&) override { at_ = std::chrono::steady_clock::now(); }
  Result<bool> Reached() const override { return true; }
  Status Wait() override { return OkStatus(); }
  Result<double> SecondsSince(const Event& earlier) const override {
    const auto& other = static_cast<const HostEvent&>(earlier);
    return std::chrono::duration<double>(at_ - other.at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_{};
};

}  // namespace

void HostStream::Copy(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memmove(to, from, static_cast<size_t>(bytes));
}

void HostStream::Fill(void* to, uint8_t value, int64_t bytes) {
  if (bytes > 0) std::memset(to, value, static_cast<size_t>(bytes));
}

Result<std::unique_ptr<Stream>> HostDevice::NewStream() {
  return std::unique_ptr<Stream>(std::make_unique<HostStream>());
}

Result<std::unique_ptr<Event>> HostDevice::NewEvent() {
  return std::unique_ptr<Event>(std::make_unique<HostEvent>());
}

Result<std::byte*> HostDevice::Get(int64_t bytes, MemoryKind) {
  HGA_ASSIGN_OR_RETURN(Pages pages, Pages::Reserve(static_cast<size_t>(bytes)));
  std::byte* data = pages.data();
  pages_.emplace(data, std::move(pages));
  return data;
}

void HostDevice::Free(std::byte* data, int64_t, MemoryKind) { pages_.erase(data); }

}  // namespace hga
