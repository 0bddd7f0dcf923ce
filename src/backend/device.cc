// SPDX-License-Identifier: Apache-2.0
// Accounting of device memory: the limit holds before the driver is asked.
#include "backend/device.h"

#include <fmt/format.h>

namespace hga {

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr) return;
  if (kind_ == MemoryKind::kDevice) device_->used_ -= size_;
  device_->Free(data_, size_, kind_);
}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(kind_, other.kind_);
  return *this;
}

Result<DeviceMemory> Device::Allocate(int64_t bytes, MemoryKind kind) {
  DeviceMemory memory;
  if (bytes < 0) return InvalidArgument(fmt::format("{}: {} bytes of memory", name(), bytes));
  if (bytes == 0) return memory;
  if (kind == MemoryKind::kDevice && bytes > limit() - used_) {
    return ResourceExhausted(fmt::format("{}: {} bytes of memory wanted, {} of {} are in use",
                                         name(), bytes, used_, limit()));
  }
  HGA_ASSIGN_OR_RETURN(memory.data_, Get(bytes, kind));
  memory.device_ = this;
  memory.size_ = bytes;
  memory.kind_ = kind;
  if (kind == MemoryKind::kDevice) used_ += bytes;
  return memory;
}

}  // namespace hga
