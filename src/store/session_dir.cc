// SPDX-License-Identifier: Apache-2.0
// Enters session directories.
#include "store/session_dir.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/memory.h"
#include "spec/layout.h"
#include "store/digest.h"

namespace hga {
namespace {

constexpr size_t kNameBytes = 16;  // of the digest
constexpr std::string_view kRootLockName = "lock";
constexpr int kRootLockTries = 10;  // each waits as long as the back end's Lock does

int64_t RoundUp(int64_t bytes) { return spec::CeilDiv(bytes, kIoAlignment) * kIoAlignment; }

Result<IoFile> OpenOrCreate(IoBackend* io, const std::string& path) {
  Result<IoFile> file = IoFile::Open(io, path, OpenMode::kReadWrite);
  if (file.ok() || file.status().code() != StatusCode::kNotFound) return file;
  file = IoFile::Open(io, path, OpenMode::kCreate);
  // Somebody else may have been faster.
  return file.ok() ? std::move(file) : IoFile::Open(io, path, OpenMode::kReadWrite);
}

struct Slot {
  ManifestHeader header;
  Manifest manifest;
};

// kNotFound: never written.
Result<Slot> ReadSlot(const IoFile& file, size_t slot) {
  HGA_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  if (size == 0) return NotFound("it was never written");
  if (size < kIoAlignment) return DataLoss(fmt::format("it has only {} bytes", size));
  HGA_ASSIGN_OR_RETURN(const Pages first, Pages::Reserve(kIoAlignment));
  HGA_RETURN_IF_ERROR(file.Read(0, {first.data(), first.size()}));
  HGA_ASSIGN_OR_RETURN(const ManifestHeader header,
                       ParseManifestHeader({first.data(), first.size()}, size));
  if (SlotOf(header.generation) != slot) {
    return DataLoss(fmt::format("generation {} does not belong into it", header.generation));
  }
  HGA_ASSIGN_OR_RETURN(const Pages all, Pages::Reserve(static_cast<size_t>(header.TailOffset())));
  HGA_RETURN_IF_ERROR(file.Read(0, {all.data(), all.size()}));
  const std::span<const std::byte> payload(all.data() + kManifestHeaderBytes,
                                           static_cast<size_t>(header.payload_bytes));
  HGA_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(header, payload));
  return Slot{header, std::move(manifest)};
}

// Whether a slot is of no use, as opposed to something that could be cured: another program's
// format, memory to read it.
bool IsBroken(const Status& status) {
  return status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kIoError ||
         status.code() == StatusCode::kNotFound;
}

// Checkpoints alternate, so the other slot holds exactly the generation before.
std::string OtherSlotProblem(const Result<Slot>& other, uint64_t newest) {
  if (other.ok()) {
    const uint64_t found = other->header.generation;
    if (found + 1 == newest) return "";
    return fmt::format("holds generation {}, expected {}", found, newest - 1);
  }
  if (newest == 1 && other.status().code() == StatusCode::kNotFound) return "";
  return other.status().message();
}

}  // namespace

std::string SessionDirectoryName(std::string_view session) {
  const Digest digest = Sha256(session);
  return Hex(std::span(digest).first(kNameBytes));
}

bool IsSessionDirectoryName(std::string_view name) {
  return name.size() == 2 * kNameBytes && std::ranges::all_of(name, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string Joined(std::string_view directory, std::string_view name) {
  return fmt::format("{}/{}", directory, name);
}

Status CheckSessionName(std::string_view session) {
  if (!session.empty() && static_cast<int64_t>(session.size()) <= kMaxSessionName) {
    return OkStatus();
  }
  return InvalidArgument(fmt::format("a session's name has 1 to {} bytes, this one has {}",
                                     kMaxSessionName, session.size()));
}

Result<IoFile> LockRoot(IoBackend* io, const std::string& root) {
  HGA_ASSIGN_OR_RETURN(IoFile file, OpenOrCreate(io, Joined(root, kRootLockName)));
  Status status;
  for (int i = 0; i < kRootLockTries; ++i) {
    status = file.Lock();
    if (status.code() != StatusCode::kResourceExhausted) break;
  }
  if (!status.ok()) return status;
  return file;
}

Result<IoFile> OpenInSession(IoBackend* io, const std::string& directory, std::string_view name) {
  Result<IoFile> file = IoFile::Open(io, Joined(directory, name), OpenMode::kReadWrite);
  if (file.ok() || file.status().code() != StatusCode::kNotFound) return file;
  if (const auto names = io->List(directory); !names.ok()) return names.status();
  return DataLoss(fmt::format("{}: the file is missing", Quoted(Joined(directory, name))));
}

Result<IoFile> LockSession(IoBackend* io, const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(IoFile file, OpenInSession(io, directory, kRecordsName));
  HGA_RETURN_IF_ERROR(file.Lock());
  return file;
}

Result<IoFile> EnterSession(IoBackend* io, const std::string& root, const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const IoFile lock, LockRoot(io, root));
  return LockSession(io, directory);
}

Status RemoveSession(IoBackend* io, const std::string& root, const std::string& directory) {
  const auto remove = [&](std::string_view name) {
    Status status = io->RemoveFile(Joined(directory, name));
    return status.code() == StatusCode::kNotFound ? OkStatus() : status;
  };
  for (const std::string_view name : kSlotNames) HGA_RETURN_IF_ERROR(remove(name));
  // Without manifests it is no session any more, whatever else a crash leaves.
  HGA_RETURN_IF_ERROR(io->SyncDirectory(directory));
  HGA_RETURN_IF_ERROR(remove(kIndexName));
  HGA_RETURN_IF_ERROR(remove(kRecordsName));
  HGA_RETURN_IF_ERROR(io->RemoveDirectory(directory));
  return io->SyncDirectory(root);
}

Result<std::array<IoFile, 2>> OpenSlots(IoBackend* io, const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(IoFile first, OpenInSession(io, directory, kSlotNames[0]));
  HGA_ASSIGN_OR_RETURN(IoFile second, OpenInSession(io, directory, kSlotNames[1]));
  return std::array<IoFile, 2>{std::move(first), std::move(second)};
}

Result<NewestManifest> ReadNewest(const std::array<IoFile, 2>& slots) {
  std::array<Result<Slot>, 2> read = {ReadSlot(slots[0], 0), ReadSlot(slots[1], 1)};
  for (const Result<Slot>& slot : read) {
    if (!slot.ok() && !IsBroken(slot.status())) return slot.status();
  }
  if (!read[0].ok() && !read[1].ok()) {
    // One that could not be read may be good.
    const bool unread = read[0].status().code() == StatusCode::kIoError ||
                        read[1].status().code() == StatusCode::kIoError;
    const StatusCode code = unread ? StatusCode::kIoError : StatusCode::kDataLoss;
    return Status(code,
                  fmt::format("{}: {}; {}: {}", Quoted(slots[0].path()), read[0].status().message(),
                              Quoted(slots[1].path()), read[1].status().message()));
  }
  const bool second =
      !read[0].ok() || (read[1].ok() && read[1]->header.generation > read[0]->header.generation);
  Slot& newest = *read[second ? 1 : 0];
  std::string problem = OtherSlotProblem(read[second ? 0 : 1], newest.header.generation);
  if (!problem.empty()) problem = Quoted(slots[second ? 0 : 1].path()) + ": " + problem;
  return NewestManifest{newest.header, std::move(newest.manifest), std::move(problem)};
}

bool HasCheckpoint(const std::array<IoFile, 2>& slots) {
  constexpr size_t kFirst = SlotOf(1), kSecond = SlotOf(2);
  if (ReadSlot(slots[kSecond], kSecond).status().code() != StatusCode::kNotFound) return true;
  const StatusCode first = ReadSlot(slots[kFirst], kFirst).status().code();
  // Read, and not a manifest; one that can't be read now may be good.
  return first != StatusCode::kNotFound && first != StatusCode::kDataLoss;
}

Result<std::vector<std::byte>> ReadTail(const std::array<IoFile, 2>& slots,
                                        const ManifestHeader& header) {
  if (header.tail_bytes == 0) return std::vector<std::byte>();
  HGA_ASSIGN_OR_RETURN(const Pages pages,
                       Pages::Reserve(static_cast<size_t>(RoundUp(header.tail_bytes))));
  const IoFile& file = slots[SlotOf(header.generation)];
  HGA_RETURN_IF_ERROR(file.Read(header.TailOffset(), {pages.data(), pages.size()}));
  const std::span<const std::byte> tail(pages.data(), static_cast<size_t>(header.tail_bytes));
  if (!TailMatches(header, tail)) {
    return DataLoss(
        fmt::format("{}: K/V of the unfinished chunk: its checksum is wrong", Quoted(file.path())));
  }
  return std::vector<std::byte>(tail.begin(), tail.end());
}

Status RewriteSlot(const IoFile& slot, const ManifestHeader& header) {
  HGA_ASSIGN_OR_RETURN(const Pages all, Pages::Reserve(static_cast<size_t>(header.FileBytes())));
  const std::span<std::byte> bytes(all.data(), all.size());
  HGA_RETURN_IF_ERROR(slot.Read(0, bytes));
  const auto payload =
      bytes.subspan(kManifestHeaderBytes, static_cast<size_t>(header.payload_bytes));
  HGA_RETURN_IF_ERROR(ParseManifest(header, payload).status());
  return slot.Write(0, bytes);
}

}  // namespace hga
