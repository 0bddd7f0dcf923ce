// SPDX-License-Identifier: Apache-2.0
// Opens and reads files below a directory with every result checked.
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace hga {
namespace {

// One pread takes at most this: a round number below the kernel's own limit of 2^31 - 4096.
constexpr int64_t kMaxPiece = int64_t{1} << 30;

std::string ErrnoText(int error) {
  char buffer[128];
  return strerror_r(error, buffer, sizeof(buffer));  // GNU variant: returns the text
}

Status OpenError(const std::string& path, int error) {
  std::string text = fmt::format("{}: {}", Quoted(path), ErrnoText(error));
  return error == ENOENT ? NotFound(std::move(text)) : IoError(std::move(text));
}

// Length of the UTF-8 character at text[0], 0 if there is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length == 0 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F) ||
      (lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) {
    return 0;
  }
  return length;
}

bool IsPlainName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 &&
         name.find('/') == name.npos && name.find('\0') == name.npos;
}

// realpath; empty when it fails.
std::string RealPath(const std::string& path) {
  std::unique_ptr<char, decltype(&free)> resolved(realpath(path.c_str(), nullptr), &free);
  return resolved ? std::string(resolved.get()) : std::string();
}

std::string_view Parent(std::string_view path) { return path.substr(0, path.rfind('/')); }
std::string_view Base(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// The blobs folder a snapshot's links may lead to, "" when `directory` (resolved) is no snapshot.
std::string BlobsOf(std::string_view directory) {
  const std::string_view snapshots = Parent(directory), model = Parent(snapshots);
  if (Base(snapshots) != "snapshots" || !Base(model).starts_with("models--")) return "";
  return std::string(model) + "/blobs";
}

// Where the symbolic link `path` of `directory` leads, if it may lead there.
Result<std::string> FollowLink(const std::string& directory, const std::string& path) {
  const std::string target = RealPath(path);
  if (target.empty()) return OpenError(path, errno);
  const std::string home = RealPath(directory);
  if (Parent(target) == home || Parent(target) == BlobsOf(home)) return target;
  return InvalidArgument(
      fmt::format("{}: a symbolic link to {}, outside the model directory (allowed: the directory "
                  "itself, or the blobs folder of the same model in a Hugging Face cache)",
                  Quoted(path), Quoted(target)));
}

// O_NONBLOCK: opening a FIFO must not wait for a writer. It changes nothing for regular files.
int OpenNoFollow(const std::string& path) {
  return open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

}  // namespace

std::string Quoted(std::string_view text) {
  constexpr size_t kMost = 120;
  std::string out = "\"";
  size_t i = 0;
  while (i < text.size() && i < kMost) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const size_t length = Utf8Length(text.substr(i));
    // U+0080..U+009F are control characters too (some terminals obey them).
    const bool c1 = length == 2 && c == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (length == 0 || c < 0x20 || c == 0x7F || c1) {
      out += fmt::format("\\x{:02X}", c);
      ++i;
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += text.substr(i, length);
    i += length;
  }
  out += '"';
  if (i < text.size()) out += fmt::format("... ({} bytes)", text.size());
  return out;
}

Result<File> File::OpenIn(const std::string& directory, std::string_view name) {
  if (!IsPlainName(name)) {
    return InvalidArgument(
        fmt::format("{}: {} is not a plain file name", Quoted(directory), Quoted(name)));
  }
  std::string path = directory + "/" + std::string(name);
  int fd = OpenNoFollow(path);
  if (fd < 0 && errno == ELOOP) {
    HGA_ASSIGN_OR_RETURN(const std::string target, FollowLink(directory, path));
    fd = OpenNoFollow(target);
  }
  if (fd < 0) return OpenError(path, errno);
  File file(fd, 0, std::move(path));
  struct stat info;
  if (fstat(fd, &info) != 0) return OpenError(file.path_, errno);
  if (!S_ISREG(info.st_mode)) {
    const char* kind = S_ISDIR(info.st_mode)    ? "a directory"
                       : S_ISFIFO(info.st_mode) ? "a pipe"
                                                : "a special file";
    return InvalidArgument(
        fmt::format("{}: is {}, a regular file is needed", Quoted(file.path_), kind));
  }
  file.size_ = info.st_size;
  return file;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

File::File(File&& other) noexcept { *this = std::move(other); }

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    size_ = std::exchange(other.size_, 0);
    path_ = std::move(other.path_);
  }
  return *this;
}

Status File::Read(int64_t offset, void* out, int64_t bytes) const {
  int64_t done = 0;
  while (done < bytes) {
    const auto piece = static_cast<size_t>(std::min(bytes - done, kMaxPiece));
    const ssize_t got = pread(fd_, static_cast<char*>(out) + done, piece, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return IoError(fmt::format("{}: reading {} bytes at offset {}: {}", Quoted(path_), bytes,
                                 offset, ErrnoText(errno)));
    }
    if (got == 0) {
      return DataLoss(fmt::format(
          "{}: ends at byte {}, but {} bytes from offset {} are needed (it had {} bytes "
          "when it was opened)",
          Quoted(path_), offset + done, bytes, offset, size_));
    }
    done += got;
  }
  return OkStatus();
}

Status CheckDirectory(const std::string& directory) {
  struct stat info;
  if (directory.empty() || directory.find('\0') != directory.npos) {
    return InvalidArgument(fmt::format("{} is not a directory name", Quoted(directory)));
  }
  if (stat(directory.c_str(), &info) != 0) return OpenError(directory, errno);
  if (!S_ISDIR(info.st_mode)) {
    return InvalidArgument(
        fmt::format("{}: is a file; name the directory that holds the model", Quoted(directory)));
  }
  return OkStatus();
}

std::vector<std::string> ListDirectory(const std::string& directory) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(directory.c_str()), &closedir);
  if (!handle) return names;
  while (const dirent* entry = readdir(handle.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::string> ReadSmallFile(const std::string& directory, std::string_view name,
                                  int64_t max_bytes) {
  HGA_ASSIGN_OR_RETURN(const File file, File::OpenIn(directory, name));
  if (file.size() > max_bytes) {
    return InvalidArgument(fmt::format("{}: has {} bytes, at most {} are read", Quoted(file.path()),
                                       file.size(), max_bytes));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  HGA_RETURN_IF_ERROR(file.Read(0, text.data(), file.size()));
  return text;
}

}  // namespace hga
