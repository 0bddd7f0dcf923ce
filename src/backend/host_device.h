// SPDX-License-Identifier: Apache-2.0
// The CPU as a device: its memory is the host's, and a stream has done its work when the call
// returns.
#ifndef HGA_BACKEND_HOST_DEVICE_H_
#define HGA_BACKEND_HOST_DEVICE_H_

#include <limits>
#include <map>
#include <memory>
#include <string>

#include "backend/device.h"
#include "base/memory.h"

namespace hga {

class HostStream final : public Stream {
 public:
  void Copy(void* to, const void* from, int64_t bytes) override;
  void Fill(void* to, uint8_t value, int64_t bytes) override;
  void After(const Event&) override {}
  Status Wait() override { return OkStatus(); }
};

// Its memory is zero at first and taken from the machine only where it is touched.
class HostDevice final : public Device {
 public:
  std::string name() const override { return "cpu"; }
  bool host_memory() const override { return true; }
  int64_t limit() const override { return std::numeric_limits<int64_t>::max(); }
  Result<std::unique_ptr<Stream>> NewStream() override;
  Result<std::unique_ptr<Event>> NewEvent() override;

 protected:
  Result<std::byte*> Get(int64_t bytes, MemoryKind kind) override;
  void Free(std::byte* data, int64_t bytes, MemoryKind kind) override;

 private:
  std::map<std::byte*, Pages> pages_;
};

}  // namespace hga

#endif  // HGA_BACKEND_HOST_DEVICE_H_
