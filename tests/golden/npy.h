// SPDX-License-Identifier: Apache-2.0
// Reads the .npy files and manifests of the golden data.
#ifndef HGA_TESTS_GOLDEN_NPY_H_
#define HGA_TESTS_GOLDEN_NPY_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace hga::golden {

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << "cannot open " << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename T>
const char* NpyType();
template <>
inline const char* NpyType<float>() {
  return "'<f4'";
}
template <>
inline const char* NpyType<double>() {
  return "'<f8'";
}
template <>
inline const char* NpyType<int32_t>() {
  return "'<i4'";
}
template <>
inline const char* NpyType<uint16_t>() {
  return "'<u2'";
}

template <typename T>
struct Array {
  std::vector<int64_t> shape;
  std::vector<T> data;  // C order
};

// Version 1.0, C order, element type T; anything else fails the test and returns nothing.
template <typename T>
Array<T> ReadNpy(const std::string& path) {
  const std::string bytes = ReadAll(path);
  Array<T> array;
  if (bytes.size() < 10 || bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0) {
    ADD_FAILURE() << path << ": not an .npy file of version 1.0";
    return array;
  }
  const size_t length = static_cast<uint8_t>(bytes[8]) + 256u * static_cast<uint8_t>(bytes[9]);
  const std::string header = bytes.substr(10, length);
  const size_t open = header.find("'shape': (");
  if (header.find(NpyType<T>()) == std::string::npos || open == std::string::npos ||
      header.find("'fortran_order': False") == std::string::npos) {
    ADD_FAILURE() << path << ": unexpected header " << header;
    return array;
  }
  int64_t elements = 1;
  for (const char* at = header.c_str() + open + 10; *at != ')' && *at != '\0';) {
    char* end = nullptr;
    const int64_t extent = std::strtoll(at, &end, 10);
    if (end == at) break;
    array.shape.push_back(extent);
    elements *= extent;
    at = end + std::strspn(end, ", ");
  }
  if (bytes.size() != 10 + length + static_cast<size_t>(elements) * sizeof(T)) {
    ADD_FAILURE() << path << ": " << bytes.size() << " bytes do not hold " << elements
                  << " elements";
    return array;
  }
  array.data.resize(static_cast<size_t>(elements));
  std::memcpy(array.data.data(), bytes.data() + 10 + length, array.data.size() * sizeof(T));
  return array;
}

inline nlohmann::json ReadManifest(const std::string& folder) {
  nlohmann::json manifest =
      nlohmann::json::parse(ReadAll(folder + "/manifest.json"), nullptr, false);
  EXPECT_TRUE(manifest.is_object()) << folder << "/manifest.json";
  return manifest;
}

}  // namespace hga::golden

#endif  // HGA_TESTS_GOLDEN_NPY_H_
