// SPDX-License-Identifier: Apache-2.0
// Hugging Face ids in a cache of the layout huggingface_hub writes.
#include "model/hf_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "hga/engine.h"
#include "tests/unit/checkpoint_fixture.h"

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr char kCommit[] = "0123456789abcdef0123456789abcdef01234567";

class HfCacheTest : public TemporaryDirectory {
 protected:
  void SetUp() override {
    TemporaryDirectory::SetUp();
    model_ = directory_ + "/models--org--model";
    Write("models--org--model/refs/main", kCommit);
    Write("models--org--model/blobs/abc", "blob text");
    std::filesystem::create_directories(Snapshot());
    std::filesystem::create_symlink("../../blobs/abc", Snapshot() + "/config.json");
  }
  std::string Snapshot() const { return model_ + "/snapshots/" + kCommit; }
  std::string model_;
};

TEST_F(HfCacheTest, FindsTheSnapshotOfABranchATagAndACommit) {
  Write("models--org--model/refs/v1.0", std::string(kCommit) + "\n");
  for (const char* revision : {"", "main", "v1.0", kCommit}) {
    const auto found = ResolveInCache(directory_, "org/model", revision);
    ASSERT_TRUE(found.ok()) << found.status().message();
    EXPECT_EQ(*found, Snapshot());
  }
}

TEST_F(HfCacheTest, LinksToTheBlobsOfTheSameModelAreRead) {
  const auto text = ReadSmallFile(Snapshot(), "config.json", 100);
  ASSERT_TRUE(text.ok()) << text.status().message();
  EXPECT_EQ(*text, "blob text");
  Write("models--org--other/blobs/abc", "other");
  std::filesystem::create_symlink("../../../models--org--other/blobs/abc", Snapshot() + "/other");
  EXPECT_THAT(ReadSmallFile(Snapshot(), "other", 100).status().message(),
              HasSubstr("outside the model directory"));
}

TEST_F(HfCacheTest, AnAbsentModelGivesTheLineThatFetchesIt) {
  const auto missing = ResolveInCache(directory_, "Qwen/Qwen3-0.6B", "");
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(missing.status().message().ends_with("run: hf download Qwen/Qwen3-0.6B"));
  const auto tag = ResolveInCache(directory_, "org/model", "v9");
  EXPECT_TRUE(tag.status().message().ends_with("run: hf download org/model --revision v9"));
}

TEST_F(HfCacheTest, RevisionsAndRefsCannotLeadElsewhere) {
  for (const char* revision : {"../main", "/etc/passwd", "a/../b", "a b", "a//b", "/", "."}) {
    EXPECT_EQ(ResolveInCache(directory_, "org/model", revision).status().code(),
              StatusCode::kInvalidArgument)
        << revision;
  }
  Write("models--org--model/refs/main", "../../../../etc");
  EXPECT_THAT(ResolveInCache(directory_, "org/model", "").status().message(),
              HasSubstr("40 hexadecimal digits"));
}

TEST_F(HfCacheTest, IdsAreRecognised) {
  for (const char* good : {"gpt2", "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "a_b/c.d"}) {
    EXPECT_TRUE(IsModelId(good)) << good;
  }
  for (const char* bad : {"", "/", "a/", "/b", "a/b/c", "../a", "a--b", "a/.b", "a b", "~/x"}) {
    EXPECT_FALSE(IsModelId(bad)) << bad;
  }
}

TEST_F(HfCacheTest, TheEnvironmentChoosesTheCache) {
  const auto with = [](const char* hub, const char* home, const char* xdg) {
    for (const auto& [name, value] : {std::pair("HF_HUB_CACHE", hub), std::pair("HF_HOME", home),
                                      std::pair("XDG_CACHE_HOME", xdg)}) {
      value ? setenv(name, value, 1) : unsetenv(name);
    }
    return HuggingFaceCacheDirectory();
  };
  setenv("HOME", "/home/user", 1);
  EXPECT_EQ(with("/hub", "/home2", "/xdg"), "/hub");
  EXPECT_EQ(with(nullptr, "~/hf", "/xdg"), "/home/user/hf/hub");
  EXPECT_EQ(with(nullptr, nullptr, "/xdg"), "/xdg/huggingface/hub");
  EXPECT_EQ(with(nullptr, nullptr, nullptr), "/home/user/.cache/huggingface/hub");
  with(directory_.c_str(), nullptr, nullptr);
  EXPECT_EQ(*ResolveModel("org/model", ""), Snapshot());
  EXPECT_EQ(*ResolveModel(directory_, ""), directory_);
  EXPECT_EQ(ResolveModel(directory_, "main").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ResolveModel("/no/such/place", "").status().code(), StatusCode::kNotFound);
  EXPECT_THAT(ResolveModel("org/other", "").status().message(), HasSubstr("hf download org/other"));
}

}  // namespace
}  // namespace hga
