// SPDX-License-Identifier: Apache-2.0
// The safetensors header reader: what it must accept, what it must refuse and how it says so.
#include "model/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr char kTwo[] =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
    R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";

Result<std::vector<TensorInfo>> Parse(const std::string& json, int64_t bytes) {
  return ParseSafetensorsHeader(json, bytes, "x.safetensors");
}

std::string ErrorOf(const std::string& json, int64_t bytes) {
  const auto parsed = Parse(json, bytes);
  return parsed.ok() ? "accepted" : parsed.status().message();
}

std::string OneTensor(const std::string& dtype, const std::string& shape, int64_t bytes) {
  return fmt::format(R"({{"t":{{"dtype":"{}","shape":{},"data_offsets":[0,{}]}}}})", dtype, shape,
                     bytes);
}

TEST(SafetensorsTest, ReadsTensorsInTheOrderOfTheirBytes) {
  const auto tensors = Parse(kTwo, 16);
  ASSERT_TRUE(tensors.ok()) << tensors.status().message();
  ASSERT_EQ(tensors->size(), 2u);
  const int64_t start = 8 + static_cast<int64_t>(std::strlen(kTwo));
  const TensorInfo &a = (*tensors)[0], &b = (*tensors)[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, StoredDtype::kF32);
  EXPECT_TRUE(a.shape.empty());
  EXPECT_EQ(a.elements(), 1);
  EXPECT_EQ(a.offset, start);
  EXPECT_EQ(a.bytes, 4);
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b.offset, start + 4);
  EXPECT_EQ(b.bytes, 12);
  EXPECT_EQ(b.elements(), 6);
}

TEST(SafetensorsTest, KnowsEveryDtypeOfTheFormat) {
  const std::vector<std::pair<std::string, int>> sizes = {
      {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"I16", 16},        {"U16", 16},
      {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"F64", 64},    {"I64", 64},    {"U64", 64},        {"C64", 64},        {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
      {"F6_E3M2", 6}, {"F4", 4}};
  for (const auto& [name, bits] : sizes) {
    const auto tensors = Parse(OneTensor(name, "[8]", bits), bits);
    ASSERT_TRUE(tensors.ok()) << tensors.status().message();
    EXPECT_EQ(DtypeName((*tensors)[0].dtype), name);
    EXPECT_EQ(DtypeBits((*tensors)[0].dtype), bits);
    EXPECT_THAT(ErrorOf(OneTensor(name, "[8]", bits - 1), bits - 1), HasSubstr("but shape [8]"));
  }
}

TEST(SafetensorsTest, EveryCutOfTheTextIsRefused) {
  const std::string whole = kTwo;
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    EXPECT_NE(ErrorOf(whole.substr(0, cut), 16), "accepted") << "cut at " << cut;
  }
  EXPECT_TRUE(Parse(whole, 16).ok());
}

TEST(SafetensorsTest, MessagesNameFileTensorFieldAndNumbers) {
  EXPECT_THAT(ErrorOf(OneTensor("BF16", "[3]", 4), 4),
              ::testing::AllOf(HasSubstr("\"x.safetensors\", byte "), HasSubstr("tensor \"t\""),
                               HasSubstr("hold 4 bytes"), HasSubstr("takes 6")));
  const std::string json = OneTensor("BF16", "[2]", 4);
  EXPECT_THAT(ErrorOf(json, 9),
              ::testing::AllOf(HasSubstr(fmt::format("end at byte {}", 8 + json.size() + 4)),
                               HasSubstr(fmt::format("has {} bytes", 8 + json.size() + 9))));
}

TEST(SafetensorsTest, SizesThatWrapAreRefused) {
  for (const char* shape :
       {"[4294967296,4294967296]", "[2,9223372036854775807]", "[0,9223372036854775808,2]",
        "[1099511627776,1099511627776,0]", "[281474976710657]", "[-1]", "[4.0]", "[1e1]", "[01]",
        "[1,1,1,1,1,1,1,1,1]"}) {
    EXPECT_NE(ErrorOf(OneTensor("U8", shape, 0), 0), "accepted") << shape;
  }
  EXPECT_EQ(ErrorOf(OneTensor("U8", "[281474976710656,0]", 0), 0), "accepted");
}

TEST(SafetensorsTest, RepeatedNamesAreRefusedHoweverTheyAreSpelt) {
  const std::string row = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_THAT(ErrorOf(R"({"a":)" + row + R"(,"\u0061":)" + row + "}", 0),
              HasSubstr("tensor \"a\" appears twice"));
}

TEST(SafetensorsTest, RandomEditsNeverPassTheRangeRules) {
  std::mt19937 random(20240607);
  const std::string whole = kTwo;
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = whole;
    const int edits = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < edits; ++i) {
      text[random() % text.size()] = "0123456789{}[],:\"\\ aFtB"[random() % 23];
    }
    const auto tensors = Parse(text, 16);
    if (!tensors.ok()) continue;
    ++accepted;
    int64_t at = 8 + static_cast<int64_t>(text.size());
    for (const TensorInfo& tensor : *tensors) {
      ASSERT_EQ(tensor.offset, at) << text;
      ASSERT_EQ(tensor.bytes * 8, tensor.elements() * DtypeBits(tensor.dtype)) << text;
      at += tensor.bytes;
    }
    ASSERT_EQ(at, 8 + static_cast<int64_t>(text.size()) + 16) << text;
  }
  EXPECT_GT(accepted, 0);  // edits of names and metadata leave a good header
}

TEST(NameTableTest, FindsEveryNameAndNoOther) {
  std::vector<TensorInfo> tensors(1000);
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].name = fmt::format("tensor {}", i * 7919);
  const NameTable table = BuildNameTable(tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(FindName(table, tensors, tensors[i].name), static_cast<int32_t>(i));
  }
  EXPECT_EQ(FindName(table, tensors, "tensor 1"), -1);
  EXPECT_EQ(FindName(table, tensors, ""), -1);
  EXPECT_EQ(FindDuplicate(table, tensors), (std::pair<int32_t, int32_t>(-1, -1)));
  tensors[17].name = tensors[900].name;
  EXPECT_EQ(FindDuplicate(BuildNameTable(tensors), tensors),
            (std::pair<int32_t, int32_t>(17, 900)));
}

}  // namespace
}  // namespace hga
