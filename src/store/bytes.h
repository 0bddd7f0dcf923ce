// SPDX-License-Identifier: Apache-2.0
// Little-endian fields into and out of byte strings, every length checked.
#ifndef HGA_STORE_BYTES_H_
#define HGA_STORE_BYTES_H_

#include <fmt/format.h>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "hga/status.h"

namespace hga {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

class ByteWriter {
 public:
  template <std::integral T>
  void Put(T value) {
    PutBytes(std::as_bytes(std::span(&value, 1)));
  }
  void PutBytes(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes), size_(bytes.size()) {}

  // The next field; kDataLoss with its name and offset when the bytes end before it does.
  template <std::integral T>
  Status Take(const char* field, T* out) {
    std::span<const std::byte> bytes;
    HGA_RETURN_IF_ERROR(TakeBytes(field, sizeof(T), &bytes));
    std::memcpy(out, bytes.data(), sizeof(T));
    return OkStatus();
  }
  // The next `count` bytes, in place.
  Status TakeBytes(const char* field, uint64_t count, std::span<const std::byte>* out) {
    if (count > rest_.size()) {
      return DataLoss(fmt::format("'{}' at byte {} takes {} bytes, {} are left", field,
                                  size_ - rest_.size(), count, rest_.size()));
    }
    *out = rest_.first(count);
    rest_ = rest_.subspan(count);
    return OkStatus();
  }
  // A count from outside: at most `limit`, and `unit` bytes for each of them are there. Nothing
  // was taken of those yet.
  template <std::unsigned_integral T>
  Status TakeCount(const char* field, int64_t limit, size_t unit, int64_t* out) {
    T count = 0;
    HGA_RETURN_IF_ERROR(Take(field, &count));
    if (count > static_cast<uint64_t>(limit) || count > rest_.size() / unit) {
      return DataLoss(fmt::format("{} '{}': the limit is {}, and {} bytes are left", count, field,
                                  limit, rest_.size()));
    }
    *out = static_cast<int64_t>(count);
    return OkStatus();
  }
  size_t left() const { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
  size_t size_;
};

}  // namespace hga

#endif  // HGA_STORE_BYTES_H_
