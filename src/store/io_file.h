// SPDX-License-Identifier: Apache-2.0
// One open file of a back end, read and written in whole and waited for: for the small files of a
// session, not for the records attention waits for.
#ifndef HGA_STORE_IO_FILE_H_
#define HGA_STORE_IO_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "hga/status.h"
#include "store/io.h"

namespace hga {

// Move-only; closes the file. The back end has nothing else in flight during a call. Offsets are
// multiples of kIoAlignment.
class IoFile {
 public:
  static Result<IoFile> Open(IoBackend* io, const std::string& path, OpenMode mode);
  ~IoFile();
  IoFile(IoFile&& other) noexcept;
  IoFile& operator=(IoFile&& other) noexcept;

  int id() const { return id_; }
  const std::string& path() const { return path_; }
  Result<int64_t> Size() const { return io_->FileSize(id_); }
  Status Sync() const { return io_->Sync(id_); }
  Status Lock() const { return io_->Lock(id_); }

  // Fills `out`, aligned as transfers must be. On failure its content is undefined.
  Status Read(int64_t offset, std::span<std::byte> out) const;
  // The same, sector by sector where it must be: those that can't be read, or lie beyond the end
  // of the file, are filled with `filler`. Returns their number.
  int64_t ReadWhatIsThere(int64_t offset, std::span<std::byte> out, std::byte filler) const;
  // `bytes` is a multiple of kIoAlignment long and may lie anywhere.
  Status Write(int64_t offset, std::span<const std::byte> bytes) const;

 private:
  IoFile(IoBackend* io, int id, std::string path) : io_(io), id_(id), path_(std::move(path)) {}
  Status Transfer(IoOp op, int64_t offset, std::span<std::byte> bytes) const;

  IoBackend* io_ = nullptr;
  int id_ = -1;
  std::string path_;
};

}  // namespace hga

#endif  // HGA_STORE_IO_FILE_H_
