// SPDX-License-Identifier: Apache-2.0
// Read-only regular files of known size. No mmap: a file that shrinks while it is read gives an
// error, not a signal.
#ifndef HGA_BASE_FILE_H_
#define HGA_BASE_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

// Text fit for a message: control bytes and broken UTF-8 as \xNN, quotes escaped, cut at 120 bytes
// with the full length stated. File names and file contents reach messages only through this.
std::string Quoted(std::string_view text);

// An open file. Move-only; Read is thread-safe.
class File {
 public:
  // Opens `name` (a plain base name) inside `directory`. A symbolic link is followed only when it
  // leads to a file of the same directory, or from a snapshot of a Hugging Face cache
  // (models--X/snapshots/COMMIT) to models--X/blobs; anything else is kInvalidArgument.
  // kNotFound: no such file. kInvalidArgument: a bad name, or not a regular file. kIoError: the
  // operating system refused.
  static Result<File> OpenIn(const std::string& directory, std::string_view name);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }  // directory/name as given
  int64_t size() const { return size_; }             // bytes, when it was opened
  // Fills out [bytes] from `offset`. kDataLoss when the file ends before; kIoError with errno.
  Status Read(int64_t offset, void* out, int64_t bytes) const;

 private:
  File(int fd, int64_t size, std::string path) : fd_(fd), size_(size), path_(std::move(path)) {}
  int fd_ = -1;
  int64_t size_ = 0;
  std::string path_;
};

// kOk when `directory` can be listed; else kNotFound, kInvalidArgument (not a directory) or
// kIoError.
Status CheckDirectory(const std::string& directory);
// Names of the entries of a directory, sorted; empty when it can't be listed.
std::vector<std::string> ListDirectory(const std::string& directory);
// The whole of a small file; kInvalidArgument with both numbers beyond `max_bytes`.
Result<std::string> ReadSmallFile(const std::string& directory, std::string_view name,
                                  int64_t max_bytes);

}  // namespace hga

#endif  // HGA_BASE_FILE_H_
