// SPDX-License-Identifier: Apache-2.0
// Disks for rigs.
#include "tests/fault/rig_disk.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

namespace hga::rigs {
namespace {

constexpr int kDepth = 32;

// A disk that others work with too may take its time for a sync: a test's alarm waits.
class Unwatched {
 public:
  ~Unwatched() {
    if (left_ > 0) alarm(left_);
  }

 private:
  unsigned left_ = alarm(0);
};

// What a space owns in place of the back end, which stays.
class LentIo final : public IoBackend {
 public:
  explicit LentIo(IoBackend* io) : io_(io) {}
  std::string name() const override { return io_->name(); }
  int depth() const override { return io_->depth(); }
  Result<int> OpenFile(const std::string& path, OpenMode mode) override {
    return io_->OpenFile(path, mode);
  }
  bool direct(int file) const override { return io_->direct(file); }
  void CloseFile(int file) override { io_->CloseFile(file); }
  Result<int64_t> FileSize(int file) override { return io_->FileSize(file); }
  Status Allocate(int file, int64_t bytes) override { return io_->Allocate(file, bytes); }
  Status Sync(int file) override {
    const Unwatched unwatched;
    return io_->Sync(file);
  }
  Status Lock(int file) override { return io_->Lock(file); }
  Status MakeDirectory(const std::string& path) override { return io_->MakeDirectory(path); }
  Status SyncDirectory(const std::string& path) override {
    const Unwatched unwatched;
    return io_->SyncDirectory(path);
  }
  Status RemoveFile(const std::string& path) override { return io_->RemoveFile(path); }
  Status RemoveDirectory(const std::string& path) override { return io_->RemoveDirectory(path); }
  Status Rename(const std::string& from, const std::string& to) override {
    return io_->Rename(from, to);
  }
  Result<std::vector<std::string>> List(const std::string& path) override {
    return io_->List(path);
  }
  Status RegisterMemory(std::span<std::byte> memory) override {
    return io_->RegisterMemory(memory);
  }
  int Submit(std::span<const IoRequest> requests) override { return io_->Submit(requests); }
  int Reap(std::span<IoCompletion> out, int least) override { return io_->Reap(out, least); }
  int in_flight() const override { return io_->in_flight(); }

 private:
  IoBackend* io_;
};

}  // namespace

const char* NameOf(DiskKind kind) {
  switch (kind) {
    case DiskKind::kSimulated:
      return "simulated";
    case DiskKind::kThreads:
      return "threads";
    case DiskKind::kUring:
      return "io_uring";
  }
  return "?";
}

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : atoll(text);
}

RigDisk::RigDisk(std::unique_ptr<SimDisk> disk)
    : kind_(DiskKind::kSimulated), root_("/store"), sim_(std::move(disk)) {
  faults_ = std::make_unique<FaultIo>(sim_.get(), Fault{});
}

RigDisk::RigDisk(DiskKind kind, std::string directory)
    : kind_(kind), directory_(std::move(directory)), root_(directory_ + "/store") {}

Result<std::unique_ptr<RigDisk>> RigDisk::Open(DiskKind kind, const SimOptions& options) {
  if (kind == DiskKind::kSimulated) {
    return std::make_unique<RigDisk>(std::make_unique<SimDisk>(options));
  }
  const char* parent = getenv("TEST_TMPDIR");
  std::string pattern = std::string(parent == nullptr ? "/tmp" : parent) + "/hga-rig-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) return IoError("no directory for the rig");
  std::unique_ptr<RigDisk> disk(new RigDisk(kind, pattern));
  HGA_RETURN_IF_ERROR(disk->Start().status());
  return disk;
}

RigDisk::~RigDisk() {
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

Result<std::unique_ptr<IoBackend>> RigDisk::Start() {
  IoBackend* io = sim_.get();
  if (io == nullptr) {
    const IoChoice choice = kind_ == DiskKind::kUring ? IoChoice::kUring : IoChoice::kThreads;
    HGA_ASSIGN_OR_RETURN(std::unique_ptr<IoBackend> next, OpenIo(choice, kDepth, nullptr));
    io = next.get();
    // The old one goes after the layer above has let go of it.
    if (faults_ != nullptr) faults_->MoveTo(io);
    real_ = std::move(next);
  } else {
    faults_->MoveTo(io);
  }
  if (faults_ == nullptr) faults_ = std::make_unique<FaultIo>(io, Fault{});
  return std::unique_ptr<IoBackend>(std::make_unique<LentIo>(faults_.get()));
}

std::vector<std::string> RigDisk::Leftovers() {
  std::vector<std::string> names;
  if (sim_ != nullptr) {
    for (const std::string& file : sim_->Files()) names.push_back(file.substr(root_.size() + 1));
  } else if (std::filesystem::exists(root_)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
      names.push_back(entry.path().string().substr(root_.size() + 1));
    }
  }
  std::erase(names, "lock");
  return names;
}

int64_t RigDisk::UsedBytes() {
  if (sim_ != nullptr) return sim_->used_bytes();
  int64_t bytes = 0;
  if (!std::filesystem::exists(root_)) return bytes;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

}  // namespace hga::rigs
