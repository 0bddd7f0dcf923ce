// SPDX-License-Identifier: Apache-2.0
// Where ops compute: memory under one limit, streams and events. The CPU is a device too, whose
// memory is the host's and whose streams are done at once (backend/host_device.h).
#ifndef HGA_BACKEND_DEVICE_H_
#define HGA_BACKEND_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "hga/status.h"

namespace hga {

enum class MemoryKind {
  kDevice,  // read and written by ops; the host reaches it by copies only
  kPinned,  // host memory that copies of a stream may use while the host goes on
};

class Device;

// A piece of a device's memory, given back on destruction; must not outlive its device. Move-only.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::byte* data() const { return data_; }  // [size], aligned to 256; kDevice: not for the host
  int64_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  friend class Device;
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  MemoryKind kind_ = MemoryKind::kDevice;
};

class Event;

// A queue of copies and ops, done in the order they were queued in. Nothing waits unless it says
// so. Failures stick: the first one comes back from every later Wait.
class Stream {
 public:
  virtual ~Stream() = default;
  // Queues a copy between any two places of this device's memory, pinned or its own. Both must
  // stay as they are until the stream has come past it.
  virtual void Copy(void* to, const void* from, int64_t bytes) = 0;
  virtual void Fill(void* to, uint8_t value, int64_t bytes) = 0;
  // Later work of this stream starts after `event`.
  virtual void After(const Event& event) = 0;
  // Holds the calling thread until everything queued is done.
  virtual Status Wait() = 0;
};

// A mark in a stream. Until the first Record it counts as reached.
class Event {
 public:
  virtual ~Event() = default;
  virtual void Record(Stream& stream) = 0;
  virtual Result<bool> Reached() const = 0;
  virtual Status Wait() = 0;  // holds the calling thread
  // Device time between the two marks, both reached, in seconds.
  virtual Result<double> SecondsSince(const Event& earlier) const = 0;
};

// Not thread-safe. Outlives its memory, streams and events.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // "cpu", "cuda:0"
  // Whether kDevice memory is the host's own, so that any host pointer will do.
  virtual bool host_memory() const = 0;
  // Undefined contents. Meant for set-up, not for steps. kResourceExhausted names the limit.
  Result<DeviceMemory> Allocate(int64_t bytes, MemoryKind kind = MemoryKind::kDevice);
  // Bytes of kDevice memory in use, and their limit.
  int64_t used() const { return used_; }
  virtual int64_t limit() const = 0;
  virtual Result<std::unique_ptr<Stream>> NewStream() = 0;
  virtual Result<std::unique_ptr<Event>> NewEvent() = 0;

 protected:
  virtual Result<std::byte*> Get(int64_t bytes, MemoryKind kind) = 0;  // bytes > 0
  virtual void Free(std::byte* data, int64_t bytes, MemoryKind kind) = 0;

 private:
  friend class DeviceMemory;
  int64_t used_ = 0;
};

// A typed array in a device's memory, undefined at first. Move-only.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  static Result<DeviceArray> Make(Device& device, int64_t count,
                                  MemoryKind kind = MemoryKind::kDevice) {
    DeviceArray array;
    HGA_ASSIGN_OR_RETURN(array.memory_,
                         device.Allocate(count * static_cast<int64_t>(sizeof(T)), kind));
    return array;
  }
  T* data() const { return memory_.template as<T>(); }  // [size]
  int64_t size() const { return memory_.size() / static_cast<int64_t>(sizeof(T)); }

 private:
  DeviceMemory memory_;
};

// Copies ordinary host memory to a device and waits until it is there. For set-up.
Status Upload(Device& device, void* to, const void* from, int64_t bytes);

}  // namespace hga

#endif  // HGA_BACKEND_DEVICE_H_
