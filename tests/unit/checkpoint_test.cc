// SPDX-License-Identifier: Apache-2.0
// Checkpoint directories: single files, shards, links, and files that change while they are read.
#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "hga/engine.h"
#include "model/model_config.h"
#include "tests/unit/checkpoint_fixture.h"

namespace hga {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CheckpointTest : public TemporaryDirectory {
 protected:
  std::string ErrorOfOpen() {
    const auto checkpoint = Checkpoint::Open(directory_);
    return checkpoint.ok() ? "accepted" : checkpoint.status().message();
  }
  static std::string ReadAll(const Checkpoint& checkpoint, const std::string& name) {
    const TensorInfo* tensor = checkpoint.Find(name);
    if (tensor == nullptr) return "absent";
    std::string bytes(static_cast<size_t>(tensor->bytes), '?');
    const Status status = checkpoint.Read(*tensor, bytes.data());
    return status.ok() ? bytes : status.message();
  }
};

TEST_F(CheckpointTest, ReadsASingleFile) {
  Write("model.safetensors", Safetensors({{"a", "hello"}, {"b", ""}, {"c", "world!"}}));
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->shards(), 1);
  EXPECT_EQ(checkpoint->total_bytes(), 11);
  EXPECT_EQ(ReadAll(*checkpoint, "a"), "hello");
  EXPECT_EQ(ReadAll(*checkpoint, "b"), "");
  EXPECT_EQ(ReadAll(*checkpoint, "c"), "world!");
  EXPECT_EQ(checkpoint->Find("d"), nullptr);
  std::string part(3, '?');
  ASSERT_TRUE(checkpoint->ReadPart(*checkpoint->Find("c"), 2, 3, part.data()).ok());
  EXPECT_EQ(part, "rld");
}

TEST_F(CheckpointTest, ReadsShardsFromManyThreads) {
  std::string map;
  for (int shard = 0; shard < 3; ++shard) {
    std::vector<std::pair<std::string, std::string>> tensors;
    for (int i = 0; i < 20; ++i) {
      const std::string name = fmt::format("t{}.{}", shard, i);
      tensors.emplace_back(name, std::string(static_cast<size_t>(1000 + i), 'a' + shard));
      map += fmt::format(R"({}"{}":"s{}.safetensors")", map.empty() ? "" : ",", name, shard);
    }
    Write(fmt::format("s{}.safetensors", shard), Safetensors(tensors));
  }
  Write("model.safetensors.index.json", R"({"metadata":{},"weight_map":{)" + map + "}}");
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->shards(), 3);
  EXPECT_EQ(checkpoint->tensors().size(), 60u);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int shard = 0; shard < 3; ++shard) {
        for (int i = 0; i < 20; ++i) {
          EXPECT_EQ(ReadAll(*checkpoint, fmt::format("t{}.{}", shard, i)),
                    std::string(static_cast<size_t>(1000 + i), 'a' + shard));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(CheckpointTest, AFileCutWhileItIsReadIsAnError) {
  Write("model.safetensors", Safetensors({{"a", std::string(5000, 'x')}}));
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok());
  ASSERT_EQ(truncate((directory_ + "/model.safetensors").c_str(), 3000), 0);
  std::string bytes(5000, '?');
  const Status status = checkpoint->Read(*checkpoint->Find("a"), bytes.data());
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("ends at byte 3000"), HasSubstr("tensor \"a\"")));
}

TEST_F(CheckpointTest, AFileReplacedWhileItIsReadKeepsItsOldContents) {
  Write("model.safetensors", Safetensors({{"a", "old"}}));
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok());
  Write("new", Safetensors({{"a", "new"}}));
  std::filesystem::rename(directory_ + "/new", directory_ + "/model.safetensors");
  EXPECT_EQ(ReadAll(*checkpoint, "a"), "old");
}

TEST_F(CheckpointTest, PickleFilesAreNamedAndNotRead) {
  Write("pytorch_model.bin", "\x80\x02}q.");
  EXPECT_THAT(ErrorOfOpen(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("pickle")));
}

TEST_F(CheckpointTest, LinksInsideTheDirectoryAreFollowedOthersAreNot) {
  Write("data.safetensors", Safetensors({{"a", "x"}}));
  std::filesystem::create_symlink("data.safetensors", directory_ + "/model.safetensors");
  EXPECT_EQ(ErrorOfOpen(), "accepted");
  std::filesystem::remove(directory_ + "/model.safetensors");
  Write("elsewhere/data.safetensors", Safetensors({{"a", "x"}}));
  std::filesystem::create_symlink("elsewhere/data.safetensors", directory_ + "/model.safetensors");
  EXPECT_THAT(ErrorOfOpen(), HasSubstr("outside the model directory"));
}

TEST_F(CheckpointTest, APipeDoesNotBlock) {
  ASSERT_EQ(mkfifo((directory_ + "/model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(ErrorOfOpen(), HasSubstr("is a pipe"));
}

TEST(ShardIndexTest, NamesOutsideTheDirectoryAreRefused) {
  for (const char* name : {"../x.safetensors", "/x.safetensors", "a/../../b.safetensors", "x.bin",
                           "", ".safetensors", "x\\u0000.safetensors"}) {
    const auto index =
        ParseShardIndex(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name), "index");
    ASSERT_FALSE(index.ok()) << name;
    EXPECT_THAT(index.status().message(), HasSubstr("weight_map.\"a\"")) << name;
  }
}

TEST(ShardIndexTest, EntriesKeepTheirFiles) {
  const auto index = ParseShardIndex(
      R"({"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}})", "index");
  ASSERT_TRUE(index.ok()) << index.status().message();
  EXPECT_EQ(index->shard_names, (std::vector<std::string>{"a.safetensors", "b.safetensors"}));
  const std::vector<std::pair<std::string, int>> expected = {{"x", 1}, {"y", 0}, {"z", 1}};
  EXPECT_EQ(index->weight_map, expected);
}

template <typename T>
Status Check(StoredDtype dtype, const std::string& name, const std::vector<T>& values) {
  TensorInfo tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = {static_cast<int64_t>(values.size())};
  return CheckValues(tensor, "file", values.data(), static_cast<int64_t>(values.size() * sizeof(T)),
                     0);
}

TEST(CheckValuesTest, EveryEncodingOfNanAndInfinityIsFound) {
  for (uint32_t code = 0; code < 65536; ++code) {
    std::vector<uint16_t> values(3, 0);
    values[1] = static_cast<uint16_t>(code);
    const bool bf16_bad = (code & 0x7F80) == 0x7F80, f16_bad = (code & 0x7C00) == 0x7C00;
    ASSERT_EQ(Check(StoredDtype::kBf16, "w", values).ok(), !bf16_bad) << code;
    ASSERT_EQ(Check(StoredDtype::kF16, "w", values).ok(), !f16_bad) << code;
  }
  for (int code = 0; code < 256; ++code) {
    const std::vector<uint8_t> values = {0, static_cast<uint8_t>(code)};
    ASSERT_EQ(Check(StoredDtype::kF8E4m3, "w", values).ok(), (code & 127) != 127) << code;
  }
}

TEST(CheckValuesTest, NamesTheElementAcrossBlocks) {
  std::vector<float> values(10000, 1.f);
  values[9001] = -std::numeric_limits<float>::infinity();
  const Status status = Check(StoredDtype::kF32, "w", values);
  EXPECT_THAT(status.message(), HasSubstr("tensor \"w\", element 9001 of 10000 is -inf"));
}

TEST(CheckValuesTest, ScalesMustBeAboveZero) {
  for (const float bad : {0.f, -0.f, -1.f, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_FALSE(Check(StoredDtype::kF32, "w.weight_scale_inv", std::vector<float>{1.f, bad}).ok());
  }
  EXPECT_TRUE(Check(StoredDtype::kF32, "w.weight_scale_inv", std::vector<float>{1e-30f}).ok());
  EXPECT_TRUE(Check(StoredDtype::kF32, "w.weight", std::vector<float>{-1.f, 0.f}).ok());
}

TEST(EmbeddedModelTest, FactsAndValuesAreRight) {
  const std::string directory = std::string(HGA_SOURCE_DIR) + "/models/hga-mini";
  const auto info = ReadModelInfo(directory);
  ASSERT_TRUE(info.ok()) << info.status().message();
  EXPECT_EQ(info->family, "qwen3_moe");
  EXPECT_EQ(info->weight_format, "fp8-e4m3 128x128");
  EXPECT_EQ(info->layers, 8);
  EXPECT_EQ(info->experts, 16);
  EXPECT_EQ(info->parameters, 29942144);
  EXPECT_EQ(info->weight_bytes, 33152128);
  EXPECT_EQ(info->eos_ids, std::vector<int32_t>{8176});
  LoadProgress last;
  const Status status = CheckModel(directory, [&](const LoadProgress& p) { last = p; });
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(last.bytes_done, last.bytes_total);
  EXPECT_EQ(last.bytes_total, 33152128);
}

}  // namespace
}  // namespace hga
