// SPDX-License-Identifier: Apache-2.0
// Anonymous mappings and the machine's free memory.
#include "base/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

namespace hga {

Result<Pages> Pages::Reserve(size_t bytes, bool huge_pages) {
  Pages pages;
  if (bytes == 0) return pages;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return ResourceExhausted(
        fmt::format("cannot reserve {} bytes of memory: {}", bytes, std::strerror(errno)));
  }
  // Large pages cut address translation for streams over the whole history; only a wish.
  madvise(data, bytes, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  pages.data_ = static_cast<std::byte*>(data);
  pages.size_ = bytes;
  return pages;
}

Pages::~Pages() {
  if (data_ != nullptr) munmap(data_, size_);
}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void Pages::Release(size_t offset) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = (offset + page - 1) / page * page;
  if (first < size_) madvise(data_ + first, size_ - first, MADV_DONTNEED);
}

void Pages::Discard(size_t offset, size_t bytes) { madvise(data_ + offset, bytes, MADV_DONTNEED); }

namespace {

// The number after `key` in a file of "key number" lines, or -1.
int64_t NumberIn(const char* path, const std::string& key) {
  std::ifstream in(path);
  std::string word;
  while (in >> word) {
    if (word != key) continue;
    int64_t value = -1;
    return in >> value ? value : -1;
  }
  return -1;
}

int64_t NumberIn(const char* path) {
  std::ifstream in(path);
  int64_t value = -1;
  return in >> value ? value : -1;  // "max" leaves -1
}

}  // namespace

int64_t AvailableMemory() {
  const int64_t free_kb = NumberIn("/proc/meminfo", "MemAvailable:");
  int64_t bytes = free_kb > 0 ? free_kb * 1024 : 0;
  const int64_t limit = NumberIn("/sys/fs/cgroup/memory.max");
  const int64_t used = NumberIn("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) {
    bytes = std::min(bytes > 0 ? bytes : std::numeric_limits<int64_t>::max(),
                     std::max<int64_t>(0, limit - used));
  }
  return bytes;
}

int64_t ResidentMemory() {
  std::ifstream in("/proc/self/statm");
  int64_t size = 0, resident = 0;
  return in >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace hga
