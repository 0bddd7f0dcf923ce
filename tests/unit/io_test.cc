// SPDX-License-Identifier: Apache-2.0
// One suite for every back end: what IoBackend promises, on a disk and on a file system in memory.
#include "store/io.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <optional>
#include <set>

#include "store/rigs/sim_disk.h"
#include "tests/unit/io_fixture.h"

namespace hga {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kUnit = kIoAlignment;
constexpr int kDepth = 16;

struct Row {
  const char* name;
  std::optional<IoChoice> choice;  // none: the simulated disk
  const char* parent;              // of the directory worked in; null: where tests put their files
};
void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class IoTest : public testing::TestWithParam<Row> {
 protected:
  void SetUp() override {
    if (!real()) {
      io_ = std::make_unique<rigs::SimDisk>(rigs::SimOptions{.seed = 11, .depth = kDepth});
      directory_ = "scratch";
      ASSERT_TRUE(io_->MakeDirectory(directory_).ok());
      return;
    }
    if (GetParam().parent != nullptr && access(GetParam().parent, W_OK) != 0) {
      GTEST_SKIP() << GetParam().parent << " is not writable";
    }
    Result<std::unique_ptr<IoBackend>> io = OpenIo(*GetParam().choice, kDepth, nullptr);
    if (!io.ok() && io.status().code() == StatusCode::kUnsupported) {
      GTEST_SKIP() << "skipped: " << io.status().message();
    }
    ASSERT_TRUE(io.ok()) << io.status().message();
    io_ = std::move(*io);
    scratch_ = GetParam().parent == nullptr ? std::make_unique<ScratchDirectory>()
                                            : std::make_unique<ScratchDirectory>(GetParam().parent);
    directory_ = scratch_->path();
  }
  void TearDown() override { io_.reset(); }

  static bool real() { return GetParam().choice.has_value(); }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  int Open(const std::string& path, OpenMode mode) {
    Result<int> file = io_->OpenFile(path, mode);
    EXPECT_TRUE(file.ok()) << file.status().message();
    return file.ok() ? *file : -1;
  }
  int Make(const std::string& name, int64_t bytes) {
    const int file = Open(Path(name), OpenMode::kCreate);
    const Status status = io_->Allocate(file, bytes);
    EXPECT_TRUE(status.ok()) << status.message();
    return file;
  }
  // One transfer's raw result.
  int64_t Run(const IoRequest& request) {
    EXPECT_EQ(io_->Submit({&request, 1}), 1);
    IoCompletion completion;
    EXPECT_EQ(io_->Reap({&completion, 1}, 1), 1);
    EXPECT_EQ(completion.tag, request.tag);
    return completion.result;
  }
  int64_t Read(int file, int64_t offset, std::span<std::byte> data) {
    return Run({IoOp::kRead, file, offset, data.data(), static_cast<int64_t>(data.size()), 77});
  }
  int64_t Write(int file, int64_t offset, std::span<std::byte> data) {
    return Run({IoOp::kWrite, file, offset, data.data(), static_cast<int64_t>(data.size()), 78});
  }
  // Ends everything in flight; true when each tag of [first, first + count) came once with
  // `result`.
  bool ReapAll(uint64_t first, int count, int64_t result) {
    std::set<uint64_t> seen;
    IoCompletion out[5];
    while (io_->in_flight() > 0) {
      const int got = io_->Reap(out, 3);
      for (int i = 0; i < got; ++i) {
        EXPECT_EQ(out[i].result, result) << "tag " << out[i].tag;
        EXPECT_TRUE(seen.insert(out[i].tag).second) << "tag " << out[i].tag << " came twice";
      }
    }
    return static_cast<int>(seen.size()) == count && *seen.begin() == first &&
           *seen.rbegin() == first + static_cast<uint64_t>(count) - 1;
  }

  std::unique_ptr<IoBackend> io_;
  std::unique_ptr<ScratchDirectory> scratch_;
  std::string directory_;
};

// What only a real file system can show.
class RealIoTest : public IoTest {};

TEST_P(RealIoTest, SaysWhatItIs) {
  const Result<FileSystemFacts> facts = FactsOf(directory_);
  ASSERT_TRUE(facts.ok()) << facts.status().message();
  const int file = Make("a", kUnit);
  std::printf("back end %s on %s, %s, %.1f of %.1f GB free\n", io_->name().c_str(),
              facts->name.c_str(), io_->direct(file) ? "direct" : "through the page cache",
              static_cast<double>(facts->free_bytes) / 1e9,
              static_cast<double>(facts->total_bytes) / 1e9);
  EXPECT_EQ(io_->name(), GetParam().choice == IoChoice::kUring ? "io_uring" : "threads");
  EXPECT_EQ(io_->depth(), kDepth);
  EXPECT_GT(facts->free_bytes, 0);
  EXPECT_GE(facts->total_bytes, facts->free_bytes);
}

TEST_P(IoTest, ReadsBackWhatWasWrittenAtRandomPlaces) {
  constexpr int64_t kUnits = 1024;
  const int file = Make("a", kUnits * kUnit);
  IoMemory memory(64 * kUnit);
  std::vector<uint64_t> seed_of(kUnits, 0);  // 0: never written
  std::mt19937_64 random(20260501);
  for (uint64_t round = 1; round <= 300; ++round) {
    const int64_t units = 1 + static_cast<int64_t>(random() % 64);
    const int64_t first = static_cast<int64_t>(random() % (kUnits - units));
    const auto data = memory.part(0, units * kUnit);
    if (random() % 2 == 0) {
      FillPattern(data, first * kUnit, round);
      ASSERT_EQ(Write(file, first * kUnit, data), units * kUnit);
      std::fill_n(seed_of.begin() + first, units, round);
      continue;
    }
    ASSERT_EQ(Read(file, first * kUnit, data), units * kUnit);
    for (int64_t i = 0; i < units; ++i) {
      const auto unit = memory.part(i * kUnit, kUnit);
      const uint64_t seed = seed_of[first + i];
      ASSERT_TRUE(seed != 0
                      ? HasPattern(unit, (first + i) * kUnit, seed)
                      : std::ranges::all_of(unit, [](std::byte b) { return b == std::byte{0}; }))
          << "round " << round << ", unit " << first + i << ", seed " << seed;
    }
  }
  EXPECT_TRUE(io_->Sync(file).ok());
}

TEST_P(IoTest, TakesDepthAndNoMoreAndTellsEachTagOnce) {
  constexpr int kRequests = kDepth + 10;
  const int file = Make("a", kRequests * kUnit);
  IoMemory memory(kRequests * kUnit);
  FillPattern(memory.all(), 0, 5);
  std::vector<IoRequest> requests;
  for (int i = 0; i < kRequests; ++i) {
    requests.push_back({IoOp::kWrite, file, i * kUnit, memory.data() + i * kUnit, kUnit,
                        1000 + static_cast<uint64_t>(i)});
  }
  EXPECT_EQ(io_->Submit(requests), kDepth);
  EXPECT_EQ(io_->in_flight(), kDepth);
  EXPECT_EQ(io_->Submit(std::span(requests).subspan(kDepth)), 0);
  EXPECT_TRUE(ReapAll(1000, kDepth, kUnit));
  EXPECT_EQ(io_->in_flight(), 0);
  EXPECT_EQ(io_->Submit(std::span(requests).subspan(kDepth)), 10);
  EXPECT_TRUE(ReapAll(1000 + kDepth, 10, kUnit));
  IoMemory back(kRequests * kUnit);
  ASSERT_EQ(Read(file, 0, back.all()), kRequests * kUnit);
  EXPECT_TRUE(HasPattern(back.all(), 0, 5));
}

TEST_P(IoTest, ADeepQueueOfReadsFillsEachItsOwnBuffer) {
  constexpr int64_t kUnits = 512;
  const int file = Make("a", kUnits * kUnit);
  IoMemory content(kUnits * kUnit), memory(kDepth * kUnit);
  FillPattern(content.all(), 0, 9);
  ASSERT_EQ(Write(file, 0, content.all()), kUnits * kUnit);
  std::mt19937_64 random(7);
  for (int round = 0; round < 60; ++round) {
    int64_t units[kDepth];
    std::vector<IoRequest> requests;
    for (int i = 0; i < kDepth; ++i) {
      units[i] = static_cast<int64_t>(random() % kUnits);
      requests.push_back({IoOp::kRead, file, units[i] * kUnit, memory.data() + i * kUnit, kUnit,
                          static_cast<uint64_t>(i)});
    }
    ASSERT_EQ(io_->Submit(requests), kDepth);
    ASSERT_TRUE(ReapAll(0, kDepth, kUnit));
    for (int i = 0; i < kDepth; ++i) {
      ASSERT_TRUE(HasPattern(memory.part(i * kUnit, kUnit), units[i] * kUnit, 9));
    }
  }
}

TEST_P(IoTest, ReapWaitsForNoMoreThanIsInFlight) {
  const int file = Make("a", 4 * kUnit);
  IoMemory memory(4 * kUnit);
  IoCompletion out[8];
  EXPECT_EQ(io_->Reap(out, 8), 0);
  std::vector<IoRequest> requests;
  for (int i = 0; i < 3; ++i) {
    requests.push_back({IoOp::kRead, file, i * kUnit, memory.data() + i * kUnit, kUnit, 1});
  }
  ASSERT_EQ(io_->Submit(requests), 3);
  EXPECT_EQ(io_->Reap(std::span(out).first(0), 5), 0);
  EXPECT_EQ(io_->Reap(std::span(out).first(2), 100), 2);
  EXPECT_EQ(io_->Reap(out, 100), 1);
  EXPECT_EQ(io_->Reap(out, 0), 0);
  EXPECT_EQ(io_->Submit({}), 0);
}

TEST_P(IoTest, RefusedRequestsCompleteWithAnErrnoBesideGoodOnes) {
  const int file = Make("a", 4 * kUnit);
  const int closed = Make("b", kUnit);
  io_->CloseFile(closed);
  IoMemory memory(4 * kUnit);
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / kUnit * kUnit;
  std::byte* data = memory.data();
  const IoRequest requests[] = {
      {IoOp::kRead, -1, 0, data, kUnit, 0},           {IoOp::kRead, closed, 0, data, kUnit, 1},
      {IoOp::kRead, file, 512, data, kUnit, 2},       {IoOp::kRead, file, 0, data, 512, 3},
      {IoOp::kRead, file, 0, data + 8, kUnit, 4},     {IoOp::kWrite, file, 0, data, 0, 5},
      {IoOp::kWrite, file, -kUnit, data, kUnit, 6},   {IoOp::kWrite, file, 0, data, -kUnit, 7},
      {IoOp::kRead, file, 0, nullptr, kUnit, 8},      {IoOp::kRead, file, kFar, data, 2 * kUnit, 9},
      {IoOp::kRead, file, kUnit, data, 2 * kUnit, 10}};
  ASSERT_EQ(io_->Submit(requests), 11);
  int64_t results[11] = {};
  IoCompletion out[11];
  ASSERT_EQ(io_->Reap(out, 11), 11);
  for (const IoCompletion& completion : out) results[completion.tag] = completion.result;
  EXPECT_THAT(results, ElementsAre(-EBADF, -EBADF, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL,
                                   -EINVAL, -EINVAL, -EINVAL, 2 * kUnit));
}

TEST_P(IoTest, AFileThatEndsEarlyGivesShortReads) {
  const int file = Make("a", 3 * kUnit);
  IoMemory memory(4 * kUnit);
  EXPECT_EQ(Read(file, kUnit, memory.all()), 2 * kUnit);
  EXPECT_EQ(Read(file, 3 * kUnit, memory.all()), 0);
  EXPECT_EQ(Read(file, 300 * kUnit, memory.all()), 0);
}

TEST_P(IoTest, AllocatedRoomReadsAsZerosAndNeverShrinks) {
  const int file = Make("a", 8 * kUnit);
  EXPECT_EQ(*io_->FileSize(file), 8 * kUnit);
  IoMemory memory(8 * kUnit);
  FillPattern(memory.all(), 0, 1);
  ASSERT_EQ(Read(file, 0, memory.all()), 8 * kUnit);
  EXPECT_TRUE(std::ranges::all_of(memory.all(), [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_TRUE(io_->Allocate(file, 2 * kUnit).ok());
  EXPECT_TRUE(io_->Allocate(file, 0).ok());
  EXPECT_EQ(*io_->FileSize(file), 8 * kUnit);
  EXPECT_TRUE(io_->Allocate(file, 16 * kUnit).ok());
  EXPECT_EQ(*io_->FileSize(file), 16 * kUnit);
}

TEST_P(IoTest, FilesAreMadeOnceAndFoundOrNot) {
  io_->CloseFile(Make("a", kUnit));
  const Result<int> again = io_->OpenFile(Path("a"), OpenMode::kCreate);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.status().code(), StatusCode::kIoError);
  EXPECT_THAT(again.status().message(), HasSubstr("exists"));
  EXPECT_THAT(again.status().message(), HasSubstr(Path("a")));
  for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
    const Result<int> absent = io_->OpenFile(Path("absent"), mode);
    ASSERT_FALSE(absent.ok());
    EXPECT_EQ(absent.status().code(), StatusCode::kNotFound) << absent.status().message();
  }
  EXPECT_EQ(io_->OpenFile("", OpenMode::kRead).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(io_->OpenFile(std::string("a\0b", 3), OpenMode::kRead).status().code(),
            StatusCode::kInvalidArgument);
  const int reader = Open(Path("a"), OpenMode::kRead);
  IoMemory memory(kUnit);
  EXPECT_EQ(Write(reader, 0, memory.all()), -EBADF);
  EXPECT_EQ(Read(reader, 0, memory.all()), kUnit);
}

TEST_P(IoTest, ANumberIsNotGivenToTheNextFile) {
  const int first = Make("a", kUnit);
  io_->CloseFile(first);
  EXPECT_NE(Make("b", kUnit), first);
  EXPECT_FALSE(io_->direct(first));
}

TEST_P(RealIoTest, OnlyPlainFilesOfItsOwnAreOpened) {
  io_->CloseFile(Make("a", kUnit));
  ASSERT_EQ(symlink(Path("a").c_str(), Path("link").c_str()), 0);
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const char* name : {"link", "pipe", "."}) {
    for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
      const Result<int> file = io_->OpenFile(Path(name), mode);
      EXPECT_EQ(file.status().code(), StatusCode::kIoError) << name << file.status().message();
    }
  }
  EXPECT_FALSE(io_->OpenFile(Path("link"), OpenMode::kCreate).ok());
  struct stat info;
  ASSERT_EQ(stat(Path("a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
}

TEST_P(IoTest, ALockKeepsOthersOutUntilItsFileIsClosed) {
  const int first = Make("a", kUnit);
  const int second = Open(Path("a"), OpenMode::kReadWrite);
  EXPECT_TRUE(io_->Lock(first).ok());
  const Status refused = io_->Lock(second);
  EXPECT_EQ(refused.code(), StatusCode::kResourceExhausted) << refused.message();
  EXPECT_THAT(refused.message(), HasSubstr(Path("a")));
  io_->CloseFile(first);
  EXPECT_TRUE(io_->Lock(second).ok());
}

TEST_P(IoTest, TemporaryFilesHaveNoName) {
  const int file = Open(directory_, OpenMode::kTemporary);
  EXPECT_TRUE(io_->Allocate(file, 4 * kUnit).ok());
  IoMemory memory(4 * kUnit), back(4 * kUnit);
  FillPattern(memory.all(), 0, 3);
  EXPECT_EQ(Write(file, 0, memory.all()), 4 * kUnit);
  EXPECT_EQ(Read(file, 0, back.all()), 4 * kUnit);
  EXPECT_TRUE(HasPattern(back.all(), 0, 3));
  EXPECT_THAT(*io_->List(directory_), IsEmpty());
  EXPECT_EQ(io_->OpenFile(Path("absent"), OpenMode::kTemporary).status().code(),
            StatusCode::kNotFound);
}

// Pages of the file that the page cache holds.
int64_t CachedPages(const std::string& path, int64_t bytes) {
  const int fd = open(path.c_str(), O_RDONLY);
  void* map = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ, MAP_SHARED, fd, 0);
  std::vector<unsigned char> pages(static_cast<size_t>(bytes / kUnit));
  EXPECT_EQ(mincore(map, static_cast<size_t>(bytes), pages.data()), 0);
  munmap(map, static_cast<size_t>(bytes));
  close(fd);
  return std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; });
}

TEST_P(RealIoTest, DirectTransfersLeaveNothingInThePageCache) {
  constexpr int64_t kBytes = 64 * kUnit;
  const int file = Make("a", kBytes);
  IoMemory memory(kBytes);
  FillPattern(memory.all(), 0, 4);
  ASSERT_EQ(Write(file, 0, memory.all()), kBytes);
  ASSERT_TRUE(io_->Sync(file).ok());
  ASSERT_EQ(Read(file, 0, memory.all()), kBytes);
  EXPECT_EQ(CachedPages(Path("a"), kBytes), io_->direct(file) ? 0 : kBytes / kUnit);
  EXPECT_TRUE(!io_->direct(file) || !FactsOf(directory_)->in_memory);
}

TEST_P(IoTest, DirectoriesAreMadeListedAndRemoved) {
  const std::string inner = Path("inner");
  EXPECT_TRUE(io_->MakeDirectory(inner).ok());
  EXPECT_TRUE(io_->MakeDirectory(inner).ok());
  EXPECT_EQ(io_->MakeDirectory(Path("x/y")).code(), StatusCode::kNotFound);
  for (const char* name : {"inner/c", "inner/a", "inner/b"}) io_->CloseFile(Make(name, kUnit));
  EXPECT_EQ(io_->MakeDirectory(inner + "/a").code(), StatusCode::kIoError);
  EXPECT_THAT(*io_->List(inner), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(io_->SyncDirectory(inner).ok());
  EXPECT_TRUE(io_->Rename(inner + "/a", inner + "/b").ok());
  EXPECT_EQ(io_->Rename(inner + "/a", inner + "/b").code(), StatusCode::kNotFound);
  EXPECT_EQ(io_->RemoveDirectory(inner).code(), StatusCode::kIoError);
  EXPECT_THAT(*io_->List(inner), ElementsAre("b", "c"));
  EXPECT_TRUE(io_->RemoveFile(inner + "/b").ok());
  EXPECT_TRUE(io_->RemoveFile(inner + "/c").ok());
  EXPECT_EQ(io_->RemoveFile(inner + "/c").code(), StatusCode::kNotFound);
  EXPECT_TRUE(io_->RemoveDirectory(inner).ok());
  EXPECT_EQ(io_->RemoveDirectory(inner).code(), StatusCode::kNotFound);
  EXPECT_EQ(io_->List(inner).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(io_->SyncDirectory(inner).code(), StatusCode::kNotFound);
}

TEST_P(IoTest, RegisteredMemoryServesTransfersInsideAcrossAndOutside) {
  IoMemory memory(24 * kUnit), other(8 * kUnit);
  ASSERT_TRUE(io_->RegisterMemory(memory.part(8 * kUnit, 8 * kUnit)).ok());
  const int file = Make("a", 24 * kUnit);
  FillPattern(memory.all(), 0, 6);
  // Before, over the first edge, inside, at its end, over the last edge, behind.
  for (const int64_t first : {0, 6, 9, 12, 14, 20}) {
    ASSERT_EQ(Write(file, first * kUnit, memory.part(first * kUnit, 4 * kUnit)), 4 * kUnit);
    ASSERT_EQ(Read(file, first * kUnit, other.part(0, 4 * kUnit)), 4 * kUnit);
    EXPECT_TRUE(HasPattern(other.part(0, 4 * kUnit), first * kUnit, 6)) << first;
    std::ranges::fill(memory.part(first * kUnit, 4 * kUnit), std::byte{0});
    ASSERT_EQ(Read(file, first * kUnit, memory.part(first * kUnit, 4 * kUnit)), 4 * kUnit);
    EXPECT_TRUE(HasPattern(memory.part(first * kUnit, 4 * kUnit), first * kUnit, 6)) << first;
  }
}

TEST_P(IoTest, ItMayEndWithTransfersInFlight) {
  const int file = Make("a", kDepth * kUnit);
  {
    IoMemory memory(kDepth * kUnit);
    std::vector<IoRequest> requests;
    for (int i = 0; i < kDepth; ++i) {
      requests.push_back({IoOp::kRead, file, i * kUnit, memory.data() + i * kUnit, kUnit, 0});
    }
    ASSERT_EQ(io_->Submit(requests), kDepth);
    io_.reset();
  }
}

constexpr Row kRows[] = {{"Uring", IoChoice::kUring, nullptr},
                         {"Threads", IoChoice::kThreads, nullptr},
                         {"UringInMemory", IoChoice::kUring, "/dev/shm"},
                         {"ThreadsInMemory", IoChoice::kThreads, "/dev/shm"},
                         {"Simulated", std::nullopt, nullptr}};
std::string NameOfRow(const testing::TestParamInfo<Row>& row) { return row.param.name; }

INSTANTIATE_TEST_SUITE_P(All, IoTest, testing::ValuesIn(kRows), NameOfRow);
INSTANTIATE_TEST_SUITE_P(All, RealIoTest, testing::ValuesIn(std::span(kRows).first(4)), NameOfRow);

TEST(OpenIoTest, DepthHasBounds) {
  for (const IoChoice choice : {IoChoice::kAuto, IoChoice::kUring, IoChoice::kThreads}) {
    for (const int depth : {-1, 0, 4097}) {
      EXPECT_EQ(OpenIo(choice, depth, nullptr).status().code(), StatusCode::kInvalidArgument);
    }
  }
  for (const int depth : {1, 4096}) {
    const Result<std::unique_ptr<IoBackend>> io = OpenIo(IoChoice::kAuto, depth, nullptr);
    ASSERT_TRUE(io.ok()) << io.status().message();
    EXPECT_EQ((*io)->depth(), depth);
  }
}

TEST(FactsOfTest, NamesTheFileSystem) {
  EXPECT_EQ(FactsOf("/nowhere/at all").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(FactsOf("").status().code(), StatusCode::kInvalidArgument);
  const Result<FileSystemFacts> proc = FactsOf("/proc");
  ASSERT_TRUE(proc.ok());
  EXPECT_EQ(proc->name, "0x9fa0");
  EXPECT_FALSE(proc->in_memory);
  if (access("/dev/shm", W_OK) == 0) {
    EXPECT_EQ(FactsOf("/dev/shm")->name, "tmpfs");
    EXPECT_TRUE(FactsOf("/dev/shm")->in_memory);
  }
}

}  // namespace
}  // namespace hga
