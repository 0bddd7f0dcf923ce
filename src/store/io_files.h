// SPDX-License-Identifier: Apache-2.0
// Files of a real file system: what the io_uring back end and the pool of threads share. Only the
// transfers differ between them.
#ifndef HGA_STORE_IO_FILES_H_
#define HGA_STORE_IO_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "store/io.h"

namespace hga {

// The operating system's words for an errno.
std::string ErrnoText(int error);
// The Status of a file operation that failed: "path: doing what: why".
Status FileError(std::string_view path, std::string_view what, int error);
// kInvalidArgument for a path that is empty or has a zero byte.
Status CheckPath(const std::string& path);

// 0, or the errno a back end refuses a request with before it reaches any file: EINVAL for a
// transfer that is empty, not aligned or beyond the largest offset.
int RefusalOf(const IoRequest& request);

// Most bytes one attempt moves, below the kernel's own limit of 2^31 - 4096; longer requests come
// back short.
inline constexpr int64_t kMostTransferBytes = int64_t{1} << 30;

class FileIo : public IoBackend {
 public:
  // Closes the files that are open.
  ~FileIo() override;

  Result<int> OpenFile(const std::string& path, OpenMode mode) override;
  bool direct(int file) const override;
  void CloseFile(int file) override;
  Result<int64_t> FileSize(int file) override;
  Status Allocate(int file, int64_t bytes) override;
  Status Sync(int file) override;
  Status Lock(int file) override;

  Status MakeDirectory(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Status RemoveFile(const std::string& path) override;
  Status RemoveDirectory(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Result<std::vector<std::string>> List(const std::string& path) override;

 protected:
  // The descriptor for a request, which then counts as a transfer of its file until End; or
  // -errno: refused.
  int Begin(const IoRequest& request);
  void End(int file);

 private:
  struct OpenedFile {
    int fd = -1;
    bool direct = false;
    int in_flight = 0;
    std::string path;
  };
  OpenedFile& Get(int file);

  // A number is not used again before all others were: a stale one finds no file of another owner.
  std::unordered_map<int, OpenedFile> files_;
  int next_ = 0;
};

}  // namespace hga

#endif  // HGA_STORE_IO_FILES_H_
