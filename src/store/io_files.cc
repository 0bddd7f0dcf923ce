// SPDX-License-Identifier: Apache-2.0
// File operations with every result checked.
#include "store/io_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <limits>
#include <memory>

#include "base/check.h"
#include "base/file.h"

namespace hga {
namespace {

constexpr mode_t kFileMode = 0600, kDirectoryMode = 0700;
// A ring that is torn down after a process was killed may hold the file a moment longer; on a busy
// machine that was more than a quarter of a second.
constexpr int kLockTries = 21;
constexpr useconds_t kLockPause = 50'000;

template <typename Call>
auto Uninterrupted(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

// The numbers of file systems that have no name in <linux/magic.h> stand here as they are in the
// kernel's sources.
constexpr struct {
  uint32_t magic;
  const char* name;
  bool in_memory;
} kFileSystems[] = {
    {EXT4_SUPER_MAGIC, "ext4", false},
    {XFS_SUPER_MAGIC, "xfs", false},
    {BTRFS_SUPER_MAGIC, "btrfs", false},
    {F2FS_SUPER_MAGIC, "f2fs", false},
    {0x2FC12FC1, "zfs", false},
    {0xCA451A4E, "bcachefs", false},
    {TMPFS_MAGIC, "tmpfs", true},
    {RAMFS_MAGIC, "ramfs", true},
    {HUGETLBFS_MAGIC, "hugetlbfs", true},
    {OVERLAYFS_SUPER_MAGIC, "overlayfs", false},
    {NFS_SUPER_MAGIC, "nfs", false},
    {FUSE_SUPER_MAGIC, "fuse", false},
    {V9FS_MAGIC, "9p", false},
    {CEPH_SUPER_MAGIC, "ceph", false},
    {0xFF534D42, "cifs", false},
    {0xFE534D42, "smb", false},
    {0x0BD00BD0, "lustre", false},
    {0x47504653, "gpfs", false},
};

void Identify(const struct statfs& info, FileSystemFacts* facts) {
  const auto magic = static_cast<uint32_t>(info.f_type);
  facts->name = fmt::format("0x{:x}", magic);
  for (const auto& known : kFileSystems) {
    if (known.magic != magic) continue;
    facts->name = known.name;
    facts->in_memory = known.in_memory;
  }
}

int64_t Bytes(uint64_t units, uint64_t unit_bytes) {
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (unit_bytes != 0 && units > kMost / unit_bytes) return std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(units * unit_bytes);
}

// Whether the file system lets transfers of kIoAlignment go past the page cache; switches the
// descriptor to that. Files of file systems in memory are themselves page cache. O_DIRECT is set
// afterwards, not with open: some file systems create the file and only then refuse the flag.
bool MakeDirect(int fd) {
  struct statfs info;
  FileSystemFacts facts;
  if (Uninterrupted([&] { return fstatfs(fd, &info); }) != 0) return false;
  Identify(info, &facts);
  if (facts.in_memory) return false;
#ifdef STATX_DIOALIGN
  struct statx alignment;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &alignment) == 0 &&
      (alignment.stx_mask & STATX_DIOALIGN) != 0 &&
      (alignment.stx_dio_offset_align == 0 || alignment.stx_dio_offset_align > kIoAlignment ||
       alignment.stx_dio_mem_align > kIoAlignment)) {
    return false;
  }
#endif
  return fcntl(fd, F_SETFL, O_DIRECT) == 0;
}

int Open(const std::string& path, int flags) {
  return Uninterrupted(
      [&] { return open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, kFileMode); });
}

// For file systems without O_TMPFILE: a name nobody guesses, removed at once.
int OpenUnlinked(const std::string& directory) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) return -1;
  const std::string path = fmt::format("{}/.hga-temporary-{:016x}", directory, random);
  const int fd = Open(path, O_RDWR | O_CREAT | O_EXCL);
  if (fd < 0 || unlink(path.c_str()) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int OpenTemporary(const std::string& directory) {
  const int fd = Uninterrupted(
      [&] { return open(directory.c_str(), O_RDWR | O_TMPFILE | O_EXCL | O_CLOEXEC, kFileMode); });
  // What file systems and kernels without O_TMPFILE answer.
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  return OpenUnlinked(directory);
}

int OpenAs(const std::string& path, OpenMode mode) {
  switch (mode) {
    // O_NONBLOCK: a pipe of that name must not hang the open. Setting the flags later drops it.
    case OpenMode::kRead:
      return Open(path, O_RDONLY | O_NONBLOCK);
    case OpenMode::kReadWrite:
      return Open(path, O_RDWR | O_NONBLOCK);
    case OpenMode::kCreate:
      return Open(path, O_RDWR | O_CREAT | O_EXCL);
    case OpenMode::kTemporary:
      return OpenTemporary(path);
  }
  errno = EINVAL;
  return -1;
}

const char* Doing(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead:
      return "opening for reading";
    case OpenMode::kReadWrite:
      return "opening for reading and writing";
    case OpenMode::kCreate:
      return "creating";
    case OpenMode::kTemporary:
      return "creating a temporary file";
  }
  return "opening";
}

int64_t FreeBytes(int fd) {
  struct statfs info;
  if (Uninterrupted([&] { return fstatfs(fd, &info); }) != 0) return 0;
  return Bytes(info.f_bavail, static_cast<uint64_t>(info.f_frsize));
}

}  // namespace

std::string ErrnoText(int error) {
  char buffer[128];
  return strerror_r(error, buffer, sizeof(buffer));  // GNU variant: returns the text
}

Status FileError(std::string_view path, std::string_view what, int error) {
  std::string text = fmt::format("{}: {}: {}", Quoted(path), what, ErrnoText(error));
  switch (error) {
    case ENOENT:
      return NotFound(std::move(text));
    case ENOSPC:
    case EDQUOT:
      return ResourceExhausted(std::move(text));
    default:
      return IoError(std::move(text));
  }
}

Status CheckPath(const std::string& path) {
  if (!path.empty() && path.find('\0') == path.npos) return OkStatus();
  return InvalidArgument(fmt::format("{}: is no file name", Quoted(path)));
}

int RefusalOf(const IoRequest& request) {
  const bool aligned = request.offset % kIoAlignment == 0 && request.bytes % kIoAlignment == 0 &&
                       reinterpret_cast<uintptr_t>(request.data) % kIoAlignment == 0;
  if (!aligned || request.data == nullptr || request.bytes <= 0 || request.offset < 0) {
    return EINVAL;
  }
  return request.offset > std::numeric_limits<int64_t>::max() - request.bytes ? EINVAL : 0;
}

FileIo::~FileIo() {
  for (const auto& [number, file] : files_) close(file.fd);
}

FileIo::OpenedFile& FileIo::Get(int file) {
  const auto found = files_.find(file);
  HGA_CHECK(found != files_.end());
  return found->second;
}

Result<int> FileIo::OpenFile(const std::string& path, OpenMode mode) {
  HGA_RETURN_IF_ERROR(CheckPath(path));
  const int fd = OpenAs(path, mode);
  if (fd < 0) return FileError(path, Doing(mode), errno);
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return IoError(fmt::format("{}: is no regular file", Quoted(path)));
  }
  const bool direct = MakeDirect(fd);
  if (!direct && fcntl(fd, F_SETFL, 0) != 0) {
    const int error = errno;
    close(fd);
    return FileError(path, "setting its flags", error);
  }
  while (files_.contains(next_)) next_ = next_ == INT_MAX ? 0 : next_ + 1;
  const int file = next_;
  next_ = next_ == INT_MAX ? 0 : next_ + 1;
  files_.emplace(file, OpenedFile{.fd = fd, .direct = direct, .in_flight = 0, .path = path});
  return file;
}

bool FileIo::direct(int file) const {
  const auto found = files_.find(file);
  return found != files_.end() && found->second.direct;
}

void FileIo::CloseFile(int file) {
  // A transfer that started later would meet whatever file gets the same descriptor next.
  HGA_CHECK(Get(file).in_flight == 0);
  close(Get(file).fd);
  files_.erase(file);
}

Result<int64_t> FileIo::FileSize(int file) {
  struct stat info;
  if (fstat(Get(file).fd, &info) != 0) return FileError(Get(file).path, "its size", errno);
  return static_cast<int64_t>(info.st_size);
}

Status FileIo::Allocate(int file, int64_t bytes) {
  const OpenedFile& opened = Get(file);
  if (bytes <= 0) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const int64_t before, FileSize(file));
  if (Uninterrupted([&] { return fallocate(opened.fd, 0, 0, bytes); }) == 0) return OkStatus();
  int error = errno;
  if (error == EOPNOTSUPP) {
    if (bytes <= before) return OkStatus();
    if (Uninterrupted([&] { return ftruncate(opened.fd, bytes); }) == 0) return OkStatus();
    error = errno;
  }
  const std::string what =
      fmt::format("making room for {} bytes, {} of which it has and {} are free on its disk", bytes,
                  before, FreeBytes(opened.fd));
  // What was got before the end of the disk must not stay taken.
  const int undone = Uninterrupted([&] { return ftruncate(opened.fd, before); });
  if (undone != 0) return FileError(opened.path, what + ", and giving back", errno);
  return FileError(opened.path, what, error);
}

Status FileIo::Sync(int file) {
  const OpenedFile& opened = Get(file);
  if (Uninterrupted([&] { return fdatasync(opened.fd); }) == 0) return OkStatus();
  return FileError(opened.path, "writing it to the disk", errno);
}

Status FileIo::Lock(int file) {
  const OpenedFile& opened = Get(file);
  for (int i = 0; i < kLockTries; ++i) {
    if (i > 0) usleep(kLockPause);
    if (Uninterrupted([&] { return flock(opened.fd, LOCK_EX | LOCK_NB); }) == 0) return OkStatus();
    if (errno != EWOULDBLOCK) return FileError(opened.path, "locking", errno);
  }
  return ResourceExhausted(
      fmt::format("{}: is locked; another process works with it", Quoted(opened.path)));
}

Status FileIo::MakeDirectory(const std::string& path) {
  HGA_RETURN_IF_ERROR(CheckPath(path));
  if (mkdir(path.c_str(), kDirectoryMode) == 0) return OkStatus();
  const int error = errno;
  struct stat info;
  if (error == EEXIST && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return OkStatus();
  }
  return FileError(path, "making the directory", error);
}

Status FileIo::SyncDirectory(const std::string& path) {
  HGA_RETURN_IF_ERROR(CheckPath(path));
  const int fd = Uninterrupted(
      [&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, kFileMode); });
  if (fd < 0) return FileError(path, "opening the directory", errno);
  const int result = Uninterrupted([&] { return fsync(fd); });
  const int error = errno;
  close(fd);
  if (result != 0) return FileError(path, "writing the directory to the disk", error);
  return OkStatus();
}

Status FileIo::RemoveFile(const std::string& path) {
  HGA_RETURN_IF_ERROR(CheckPath(path));
  if (unlink(path.c_str()) == 0) return OkStatus();
  return FileError(path, "removing", errno);
}

Status FileIo::RemoveDirectory(const std::string& path) {
  HGA_RETURN_IF_ERROR(CheckPath(path));
  if (rmdir(path.c_str()) == 0) return OkStatus();
  return FileError(path, "removing the directory", errno);
}

Status FileIo::Rename(const std::string& from, const std::string& to) {
  HGA_RETURN_IF_ERROR(CheckPath(from));
  HGA_RETURN_IF_ERROR(CheckPath(to));
  if (rename(from.c_str(), to.c_str()) == 0) return OkStatus();
  const int error = errno;
  return FileError(from, fmt::format("renaming to {}", Quoted(to)), error);
}

Result<std::vector<std::string>> FileIo::List(const std::string& path) {
  HGA_RETURN_IF_ERROR(CheckPath(path));
  std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(path.c_str()), &closedir);
  if (!handle) return FileError(path, "listing", errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(handle.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return FileError(path, "listing", errno);
  std::sort(names.begin(), names.end());
  return names;
}

int FileIo::Begin(const IoRequest& request) {
  const auto found = files_.find(request.file);
  if (found == files_.end()) return -EBADF;
  if (const int error = RefusalOf(request); error != 0) return -error;
  ++found->second.in_flight;
  return found->second.fd;
}

void FileIo::End(int file) { --Get(file).in_flight; }

Result<FileSystemFacts> FactsOf(const std::string& directory) {
  HGA_RETURN_IF_ERROR(CheckPath(directory));
  struct statfs info;
  if (Uninterrupted([&] { return statfs(directory.c_str(), &info); }) != 0) {
    return FileError(directory, "asking for its file system", errno);
  }
  FileSystemFacts facts;
  Identify(info, &facts);
  const auto unit = static_cast<uint64_t>(info.f_frsize);
  facts.free_bytes = Bytes(info.f_bavail, unit);
  facts.total_bytes = Bytes(info.f_blocks, unit);
  return facts;
}

}  // namespace hga
