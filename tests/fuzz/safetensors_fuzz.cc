// SPDX-License-Identifier: Apache-2.0
// Fuzzes the safetensors header reader: no crash, and whatever it accepts obeys the range rules.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "model/safetensors.h"
#include "tests/fuzz/json_mutator.h"

namespace {

constexpr size_t kPrefix = 2;  // bytes of data that follow the header

void Require(bool condition) {
  if (!condition) std::abort();
}

void CheckAccepted(const std::vector<hga::TensorInfo>& tensors, int64_t header, int64_t bytes) {
  int64_t at = 8 + header;
  for (const hga::TensorInfo& tensor : tensors) {
    Require(tensor.offset == at && tensor.bytes >= 0);
    Require(tensor.shape.size() <= hga::kMaxRank && !tensor.name.empty());
    Require(tensor.elements() * hga::DtypeBits(tensor.dtype) == tensor.bytes * 8);
    at += tensor.bytes;
  }
  Require(at == 8 + header + bytes);
  Require(hga::FindDuplicate(hga::BuildNameTable(tensors), tensors).first < 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kPrefix) return 0;
  const int64_t bytes = data[0] | data[1] << 8;
  const std::string_view json(reinterpret_cast<const char*>(data) + kPrefix, size - kPrefix);
  const auto tensors = hga::ParseSafetensorsHeader(json, bytes, "fuzz");
  if (tensors.ok()) {
    CheckAccepted(*tensors, static_cast<int64_t>(json.size()), bytes);
  } else {
    Require(!tensors.status().message().empty());
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  static constexpr std::string_view kWords[] = {
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      "\"",
      "\\u0061",
      "\\ud800",
      "null",
      "true",
      "\"dtype\":\"F4\",",
      "\"shape\":[1],",
      "\"data_offsets\":[0,0],",
      "\"__metadata__\":{\"a\":\"b\"},",
      "\"BF16\"",
      "\"F8_E4M3\"",
      "\"I16\"",
      "\"x\":[[{\"y\":1}]],",
      "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"};
  static constexpr std::string_view kDocuments[] = {
      R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"dtype":"F4","shape":[8],"data_offsets":[0,4],"new":{"x":[1,2.5,"y"]}}})",
      R"({"e":{"dtype":"U8","shape":[0,5],"data_offsets":[0,0]},"f":{"dtype":"F8_E4M3",)"
      R"("shape":[2,2],"data_offsets":[0,4]}})"};
  return hga::MutateJson(data, size, max_size, seed, kPrefix, kWords, kDocuments);
}
