// SPDX-License-Identifier: Apache-2.0
// Accounting of device memory: the limit holds before the driver is asked.
#include "backend/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hga {
namespace {

constexpr int64_t kUploadPiece = int64_t{16} << 20;

}  // namespace

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

Status Upload(Device& device, void* to, const void* from, int64_t bytes) {
  HGA_ASSIGN_OR_RETURN(const DeviceMemory piece,
                       device.Allocate(std::min(bytes, kUploadPiece), MemoryKind::kPinned));
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device.NewStream());
  for (int64_t done = 0; done < bytes;) {
    const int64_t n = std::min(piece.size(), bytes - done);
    std::memcpy(piece.data(), static_cast<const std::byte*>(from) + done, static_cast<size_t>(n));
    stream->Copy(static_cast<std::byte*>(to) + done, piece.data(), n);
    HGA_RETURN_IF_ERROR(stream->Wait());
    done += n;
  }
  return OkStatus();
}

}  // namespace hga
