// SPDX-License-Identifier: Apache-2.0
// What tests of the disk side share: back ends by name, directories that vanish, aligned memory,
// and bytes that say where they belong.
#ifndef HGA_TESTS_UNIT_IO_FIXTURE_H_
#define HGA_TESTS_UNIT_IO_FIXTURE_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/memory.h"
#include "store/io.h"

namespace hga {

// Page-aligned memory.
class IoMemory {
 public:
  explicit IoMemory(int64_t bytes) {
    Result<Pages> pages = Pages::Reserve(static_cast<size_t>(bytes));
    if (pages.ok()) pages_ = std::move(*pages);
    EXPECT_NE(pages_.data(), nullptr);
  }
  std::byte* data() const { return pages_.data(); }
  std::span<std::byte> all() const { return {pages_.data(), pages_.size()}; }
  std::span<std::byte> part(int64_t offset, int64_t bytes) const {
    return all().subspan(static_cast<size_t>(offset), static_cast<size_t>(bytes));
  }

 private:
  Pages pages_;
};

// Words that name their place in a file and a seed: a misplaced or stale one shows.
inline void FillPattern(std::span<std::byte> out, int64_t offset, uint64_t seed) {
  for (size_t i = 0; i < out.size(); i += 8) {
    uint64_t word = (static_cast<uint64_t>(offset) + i + 1) * 0x9E3779B97F4A7C15 ^ seed << 40;
    std::memcpy(out.data() + i, &word, 8);
  }
}
inline bool HasPattern(std::span<const std::byte> bytes, int64_t offset, uint64_t seed) {
  std::vector<std::byte> expected(bytes.size());
  FillPattern(expected, offset, seed);
  return std::memcmp(expected.data(), bytes.data(), bytes.size()) == 0;
}

// A directory of a real file system, removed with everything in it.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(std::string parent = testing::TempDir()) {
    std::string name = parent + "/hga-io-XXXXXX";
    if (mkdtemp(name.data()) != nullptr) path_ = name;
    EXPECT_FALSE(path_.empty()) << "no directory can be made in " << parent;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace hga

#endif  // HGA_TESTS_UNIT_IO_FIXTURE_H_
