// SPDX-License-Identifier: Apache-2.0
// Temporary checkpoint directories for the unit tests of the model readers.
#ifndef HGA_TESTS_UNIT_CHECKPOINT_FIXTURE_H_
#define HGA_TESTS_UNIT_CHECKPOINT_FIXTURE_H_

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace hga {

// A fresh directory per test, removed afterwards.
class TemporaryDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "hga_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& bytes) {
    std::filesystem::create_directories(
        std::filesystem::path(directory_ + "/" + name).parent_path());
    std::ofstream out(directory_ + "/" + name, std::ios::binary);
    out << bytes;
    ASSERT_TRUE(out.good());
  }

  // A safetensors file of U8 tensors: (name, contents).
  static std::string Safetensors(const std::vector<std::pair<std::string, std::string>>& tensors) {
    std::string header = "{", data;
    for (const auto& [name, bytes] : tensors) {
      header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})",
                            header.size() > 1 ? "," : "", name, bytes.size(), data.size(),
                            data.size() + bytes.size());
      data += bytes;
    }
    header += "}";
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 255);
    return length + header + data;
  }

  std::string directory_;
};

}  // namespace hga

#endif  // HGA_TESTS_UNIT_CHECKPOINT_FIXTURE_H_
