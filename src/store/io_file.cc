// SPDX-License-Identifier: Apache-2.0
// Blocking transfers on the asynchronous seam, in pieces so that a disk sees several at once.
#include "store/io_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/memory.h"
#include "store/io_files.h"
#include "store/io_queue.h"

namespace hga {
namespace {

constexpr size_t kPiece = 1 << 20;

}  // namespace

Result<IoFile> IoFile::Open(IoBackend* io, const std::string& path, OpenMode mode) {
  HGA_ASSIGN_OR_RETURN(const int id, io->OpenFile(path, mode));
  return IoFile(io, id, path);
}

IoFile::~IoFile() {
  if (id_ >= 0) io_->CloseFile(id_);
}

IoFile::IoFile(IoFile&& other) noexcept
    : io_(other.io_), id_(std::exchange(other.id_, -1)), path_(std::move(other.path_)) {}

IoFile& IoFile::operator=(IoFile&& other) noexcept {
  std::swap(io_, other.io_);
  std::swap(id_, other.id_);
  std::swap(path_, other.path_);
  return *this;
}

Status IoFile::Transfer(IoOp op, int64_t offset, std::span<std::byte> bytes) const {
  IoQueue queue(io_);
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    queue.Add(op, id_, offset + static_cast<int64_t>(at),
              bytes.subspan(at, std::min(kPiece, bytes.size() - at)));
  }
  int error = 0;
  std::array<IoDone, 64> done;
  while (queue.pending() > 0) {
    const int count = queue.Wait(done, 1);
    for (int i = 0; i < count; ++i) error = error != 0 ? error : done[static_cast<size_t>(i)].error;
  }
  if (error == 0) return OkStatus();
  const char* doing = op == IoOp::kRead ? "reading" : "writing";
  return FileError(path_, fmt::format("{} {} bytes at {}", doing, bytes.size(), offset), error);
}

Status IoFile::Read(int64_t offset, std::span<std::byte> out) const {
  return Transfer(IoOp::kRead, offset, out);
}

int64_t IoFile::ReadWhatIsThere(int64_t offset, std::span<std::byte> out, std::byte filler) const {
  constexpr size_t kSector = kIoAlignment;
  const Result<int64_t> size = Size();
  const int64_t sectors = size.ok() ? std::max(int64_t{0}, *size - offset) / kIoAlignment : 0;
  const auto there = out.first(std::min(out.size(), static_cast<size_t>(sectors) * kSector));
  std::ranges::fill(out.subspan(there.size()), filler);
  int64_t unreadable = static_cast<int64_t>((out.size() - there.size()) / kSector);
  for (size_t at = 0; at < there.size(); at += kPiece) {
    const auto piece = there.subspan(at, std::min(kPiece, there.size() - at));
    if (Read(offset + static_cast<int64_t>(at), piece).ok()) continue;
    for (size_t i = 0; i < piece.size(); i += kSector) {
      const auto sector = piece.subspan(i, kSector);
      if (Read(offset + static_cast<int64_t>(at + i), sector).ok()) continue;
      std::ranges::fill(sector, filler);
      ++unreadable;
    }
  }
  return unreadable;
}

Status IoFile::Write(int64_t offset, std::span<const std::byte> bytes) const {
  if (bytes.empty()) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const Pages aligned, Pages::Reserve(bytes.size()));
  std::memcpy(aligned.data(), bytes.data(), bytes.size());
  return Transfer(IoOp::kWrite, offset, {aligned.data(), bytes.size()});
}

}  // namespace hga
