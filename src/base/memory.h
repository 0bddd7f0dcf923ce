// SPDX-License-Identifier: Apache-2.0
// Owned memory: aligned buffers, and reserved address space that costs nothing until it is touched.
#ifndef HGA_BASE_MEMORY_H_
#define HGA_BASE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "hga/status.h"

namespace hga {

inline constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

// Bytes from the operating system, zero at first, page-aligned, returned on destruction. Pages
// take memory only once they are touched. Move-only.
class Pages {
 public:
  Pages() = default;
  // kResourceExhausted when the address space or the overcommit limit refuses `bytes`.
  // `huge_pages` asks for large ones, which suit streams; without, Discard gives memory back.
  static Result<Pages> Reserve(size_t bytes, bool huge_pages = true);
  ~Pages();
  Pages(Pages&& other) noexcept { *this = std::move(other); }
  Pages& operator=(Pages&& other) noexcept;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() const { return data_; }  // [size]
  size_t size() const { return size_; }
  // Gives touched pages of [offset, size) back; they read as zeros afterwards.
  void Release(size_t offset);
  // The same for [offset, offset + bytes), whole pages of 4 KiB.
  void Discard(size_t offset, size_t bytes);

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A typed array in Pages. Elements start as zero bits.
template <typename T>
class Array {
 public:
  Array() = default;
  static Result<Array> Make(size_t count, bool huge_pages = true) {
    HGA_ASSIGN_OR_RETURN(Pages pages, Pages::Reserve(count * sizeof(T), huge_pages));
    Array array;
    array.pages_ = std::move(pages);
    array.count_ = count;
    return array;
  }
  T* data() const { return reinterpret_cast<T*>(pages_.data()); }  // [size]
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return data()[i]; }
  void Release(size_t first) { pages_.Release(first * sizeof(T)); }
  void Discard(size_t first, size_t count) { pages_.Discard(first * sizeof(T), count * sizeof(T)); }

 private:
  Pages pages_;
  size_t count_ = 0;
};

// Bytes of memory the machine could give now (MemAvailable and the cgroup's limit), 0 if unknown.
int64_t AvailableMemory();
// Bytes of memory this process has now, programs and libraries included; 0 if unknown.
int64_t ResidentMemory();

}  // namespace hga

#endif  // HGA_BASE_MEMORY_H_
