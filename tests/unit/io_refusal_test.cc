// SPDX-License-Identifier: Apache-2.0
// Machines that refuse: no io_uring, none any more, no memory to pin, signals in every wait, a disk
// without room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <thread>

#include "store/io_queue.h"
#include "store/io_uring.h"
#include "tests/unit/io_fixture.h"

namespace hga {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kUnit = kIoAlignment;

// Filters, privileges and namespaces belong to a thread; what is done to one ends with it.
void InThread(const std::function<void()>& body) { std::thread(body).join(); }

// From now on this system call of the calling thread fails with `error`.
bool Forbid(uint32_t call, uint32_t error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = 4, .filter = filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool UringWorksHere() { return OpenIo(IoChoice::kUring, 4, nullptr).ok(); }

// A temporary file of `units` patterned units.
int MakeFile(IoBackend* io, const std::string& directory, int64_t units) {
  const Result<int> file = io->OpenFile(directory, OpenMode::kTemporary);
  EXPECT_TRUE(file.ok()) << file.status().message();
  EXPECT_TRUE(io->Allocate(*file, units * kUnit).ok());
  IoMemory memory(units * kUnit);
  FillPattern(memory.all(), 0, 1);
  IoQueue queue(io);
  queue.Add(IoOp::kWrite, *file, 0, memory.all());
  IoDone done;
  EXPECT_EQ(queue.Wait({&done, 1}, 1), 1);
  EXPECT_EQ(done.error, 0);
  return *file;
}

// Reads every unit in a deep queue and compares.
void ReadAll(IoBackend* io, int file, std::span<std::byte> memory) {
  IoQueue queue(io);
  const auto units = static_cast<int64_t>(memory.size()) / kUnit;
  for (int64_t unit = 0; unit < units; ++unit) {
    queue.Add(IoOp::kRead, file, unit * kUnit,
              memory.subspan(static_cast<size_t>(unit * kUnit), kUnit));
  }
  std::vector<IoDone> done(static_cast<size_t>(units));
  ASSERT_EQ(queue.Wait(done, static_cast<int>(units)), units);
  for (const IoDone& end : done) ASSERT_EQ(end.error, 0);
  EXPECT_TRUE(HasPattern(memory, 0, 1));
}

TEST(IoRefusalTest, WithoutIoUringTheThreadsServeAndTheReasonIsTold) {
  const ScratchDirectory scratch;
  struct {
    uint32_t call, error;
    const char* reason;
  } cases[] = {{__NR_io_uring_setup, EPERM, "not permitted (a container's seccomp filter"},
               {__NR_io_uring_setup, ENOSYS, "not implemented (the kernel has none)"},
               {__NR_io_uring_setup, ENOMEM, "RLIMIT_MEMLOCK"},
               {__NR_io_uring_enter, EPERM, "not permitted (a container's seccomp filter"},
               {__NR_io_uring_register, EPERM, "io_uring refused"}};
  for (const auto& refused : cases) {
    InThread([&] {
      ASSERT_TRUE(Forbid(refused.call, refused.error));
      const auto uring = OpenIo(IoChoice::kUring, 8, nullptr);
      EXPECT_EQ(uring.status().code(), StatusCode::kUnsupported);
      EXPECT_THAT(uring.status().message(), HasSubstr("io_uring refused"));
      std::string why;
      const auto io = OpenIo(IoChoice::kAuto, 8, &why);
      ASSERT_TRUE(io.ok()) << io.status().message();
      EXPECT_EQ((*io)->name(), "threads");
      if (refused.call == __NR_io_uring_setup) {
        EXPECT_THAT(why, HasSubstr(refused.reason));
      }
      EXPECT_THAT(why, HasSubstr("io_uring refused"));
      const IoMemory memory(64 * kUnit);
      ReadAll(io->get(), MakeFile(io->get(), scratch.path(), 64), memory.all());
    });
  }
}

TEST(IoRefusalTest, TheBestBackEndIsChosenWithoutAReason) {
  std::string why = "left over";
  const auto io = OpenIo(IoChoice::kAuto, 8, &why);
  ASSERT_TRUE(io.ok());
  EXPECT_EQ((*io)->name(), UringWorksHere() ? "io_uring" : "threads");
  EXPECT_EQ(why.empty(), UringWorksHere());
}

TEST(IoRefusalTest, ARingThatDiesFailsItsTransfersAndDoesNotHang) {
  if (!UringWorksHere()) GTEST_SKIP() << "skipped: io_uring refused";
  const ScratchDirectory scratch;
  InThread([&] {
    auto io = OpenIo(IoChoice::kUring, 8, nullptr);
    ASSERT_TRUE(io.ok());
    const int file = MakeFile(io->get(), scratch.path(), 64);
    ASSERT_TRUE(Forbid(__NR_io_uring_enter, EPERM));
    const IoMemory memory(64 * kUnit);
    IoQueue queue(io->get());
    for (int64_t unit = 0; unit < 64; ++unit) {
      queue.Add(IoOp::kRead, file, unit * kUnit, memory.part(unit * kUnit, kUnit));
    }
    IoDone done[64];
    ASSERT_EQ(queue.Wait(done, 64), 64);
    for (const IoDone& end : done) EXPECT_EQ(end.error, EPERM);
    EXPECT_EQ((*io)->in_flight(), 0);
    (*io)->CloseFile(file);  // nothing counts as in flight of it
  });
}

// Without CAP_IPC_LOCK, RLIMIT_MEMLOCK counts for the superuser as well.
bool DropMemoryLockPrivilege() {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) != 0) return false;
  data[0].effective &= ~(1u << CAP_IPC_LOCK);
  data[0].permitted &= ~(1u << CAP_IPC_LOCK);
  return syscall(SYS_capset, &header, data) == 0;
}

TEST(IoRefusalTest, MemoryThatMayNotBePinnedServesAllTheSame) {
  if (!UringWorksHere()) GTEST_SKIP() << "skipped: io_uring refused";
  const ScratchDirectory scratch;
  const IoMemory memory(256 * kUnit);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
  for (const bool allowed : {true, false}) {
    if (allowed && before.rlim_cur < memory.all().size()) continue;
    InThread([&] {
      const rlimit limit = {.rlim_cur = allowed ? before.rlim_cur : 64 * 1024,
                            .rlim_max = before.rlim_max};
      ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
      ASSERT_TRUE(allowed || DropMemoryLockPrivilege());
      auto io = UringIo::Open(8);
      ASSERT_TRUE(io.ok()) << io.status().message();
      EXPECT_TRUE((*io)->RegisterMemory(memory.all()).ok());
      EXPECT_EQ((*io)->registered(), allowed);
      ReadAll(io->get(), MakeFile(io->get(), scratch.path(), 256), memory.all());
    });
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &before), 0);
  }
}

TEST(IoRefusalTest, SignalsInEveryWaitLoseNothing) {
  struct sigaction quiet = {}, before;
  quiet.sa_handler = [](int) {};  // no SA_RESTART: every waiting call returns EINTR
  ASSERT_EQ(sigaction(SIGUSR1, &quiet, &before), 0);
  const ScratchDirectory scratch;
  for (const IoChoice choice : {IoChoice::kUring, IoChoice::kThreads}) {
    auto io = OpenIo(choice, 8, nullptr);
    if (!io.ok()) continue;
    const int file = MakeFile(io->get(), scratch.path(), 256);
    const IoMemory memory(256 * kUnit);
    std::atomic<bool> stop = false;
    std::atomic<int> sent = 0;
    std::thread sender([&, reader = pthread_self()] {
      while (!stop.load()) {
        pthread_kill(reader, SIGUSR1);
        ++sent;
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    });
    for (int round = 0; round < 50 || sent.load() < 500; ++round) {
      ReadAll(io->get(), file, memory.all());
      EXPECT_TRUE((*io)->Allocate(file, 256 * kUnit).ok());
      EXPECT_TRUE(round % 10 != 0 || (*io)->Sync(file).ok());
    }
    stop.store(true);
    sender.join();
  }
  sigaction(SIGUSR1, &before, nullptr);
}

TEST(IoRefusalTest, AFullFileSystemIsSaidAndGivenBack) {
  const ScratchDirectory scratch;
  for (const IoChoice choice : {IoChoice::kUring, IoChoice::kThreads}) {
    bool mounted = false;
    InThread([&] {
      mounted = unshare(CLONE_NEWNS) == 0 &&
                mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                mount("small", scratch.path().c_str(), "tmpfs", 0, "size=64k") == 0;
      if (!mounted) return;
      auto io = OpenIo(choice, 8, nullptr);
      if (!io.ok()) return;
      const Result<int> file = (*io)->OpenFile(scratch.path() + "/a", OpenMode::kCreate);
      ASSERT_TRUE(file.ok()) << file.status().message();
      ASSERT_TRUE((*io)->Allocate(*file, 8 * kUnit).ok());
      const Status full = (*io)->Allocate(*file, 100 * kUnit);
      EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
      EXPECT_THAT(full.message(), HasSubstr("409600 bytes, 32768 of which it has and 32768"));
      EXPECT_EQ(*(*io)->FileSize(*file), 8 * kUnit);
      EXPECT_EQ(FactsOf(scratch.path())->free_bytes, 8 * kUnit);
      const IoMemory memory(32 * kUnit);
      IoQueue queue(io->get());
      queue.Add(IoOp::kWrite, *file, 0, memory.all());
      IoDone done;
      ASSERT_EQ(queue.Wait({&done, 1}, 1), 1);
      EXPECT_EQ(done.error, ENOSPC);
    });
    if (!mounted) GTEST_SKIP() << "skipped: no file system can be mounted here";
  }
}

}  // namespace
}  // namespace hga
