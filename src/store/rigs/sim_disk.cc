// SPDX-License-Identifier: Apache-2.0
// Files as vectors of bytes; every change of them also goes into the log.
#include "store/rigs/sim_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "store/io_files.h"

namespace hga::rigs {
namespace {

// What the buffer of a read holds until the read completes.
constexpr std::byte kPoison{0xA5};

void FlipOneBit(std::span<std::byte> bytes, uint64_t random) {
  if (bytes.empty()) return;
  bytes[random / 8 % bytes.size()] ^= static_cast<std::byte>(1u << random % 8);
}

}  // namespace

SimDisk::SimDisk(const SimOptions& options) : SimDisk(options, {}) {}

SimDisk::SimDisk(const SimOptions& options, SimContent content)
    : options_(options),
      random_(options.seed),
      now_(std::move(content)),
      log_(options.log ? now_ : SimContent(), options.log) {
  if (!now_.files.empty()) last_file_ = now_.files.rbegin()->first;
}

std::unique_ptr<SimDisk> SimDisk::CrashImage(size_t event, const CrashChoice& choice) const {
  HGA_CHECK(options_.log);
  return std::unique_ptr<SimDisk>(new SimDisk(options_, log_.Crash(event, choice)));
}

SimDisk::Handle& SimDisk::Get(int file) {
  const auto found = handles_.find(file);
  HGA_CHECK(found != handles_.end());
  return found->second;
}

bool SimDisk::Chance(double probability) {
  if (probability <= 0) return false;
  const bool happens = std::uniform_real_distribution<double>(0, 1)(random_) < probability;
  faults_made_ += happens ? 1 : 0;
  return happens;
}

int64_t SimDisk::used_bytes() const {
  int64_t used = 0;
  for (const auto& [number, bytes] : now_.files) used += static_cast<int64_t>(bytes.size());
  return used;
}

Result<int> SimDisk::OpenFile(const std::string& path, OpenMode mode) {
  if (mode != OpenMode::kTemporary) HGA_RETURN_IF_ERROR(CheckPath(path));
  const auto named = now_.names.find(path);
  const bool exists = named != now_.names.end();
  Handle handle{.path = path, .writable = mode != OpenMode::kRead};
  if (mode == OpenMode::kTemporary) {
    if (!DirectoryExists(now_, path)) return FileError(path, "creating a temporary file", ENOENT);
    handle.file = ++last_file_;
    now_.files[handle.file];
  } else if (mode == OpenMode::kCreate) {
    if (exists) return FileError(path, "creating", EEXIST);
    if (path.empty() || !DirectoryExists(now_, ParentOf(path))) {
      return FileError(path, "creating", ENOENT);
    }
    handle.file = ++last_file_;
    now_.files[handle.file];
    now_.names[path] = handle.file;
    log_.Create(path, handle.file);
  } else {
    if (!exists) return FileError(path, "opening", ENOENT);
    if (named->second == SimContent::kDirectory) return FileError(path, "opening", EISDIR);
    handle.file = named->second;
  }
  handles_.emplace(next_handle_, std::move(handle));
  return next_handle_++;
}

// A file without names goes when nobody has it open.
void SimDisk::DropUnused(uint64_t file) {
  const auto is_it = [&](const auto& entry) { return entry.second == file; };
  const auto has_it = [&](const auto& entry) { return entry.second.file == file; };
  if (std::ranges::any_of(now_.names, is_it) || std::ranges::any_of(handles_, has_it)) return;
  now_.files.erase(file);
}

void SimDisk::CloseFile(int file) {
  HGA_CHECK(Get(file).in_flight == 0);
  const uint64_t number = Get(file).file;
  handles_.erase(file);
  DropUnused(number);
}

Result<int64_t> SimDisk::FileSize(int file) {
  return static_cast<int64_t>(now_.files[Get(file).file].size());
}

Status SimDisk::Allocate(int file, int64_t bytes) {
  std::vector<std::byte>& content = now_.files[Get(file).file];
  const int64_t more = bytes - static_cast<int64_t>(content.size());
  if (more <= 0) return OkStatus();
  const int64_t free = options_.capacity - used_bytes();
  if (more > free) {
    return FileError(Get(file).path,
                     fmt::format("making room for {} bytes, {} are free", bytes, free), ENOSPC);
  }
  content.resize(static_cast<size_t>(bytes));
  log_.SetSize(Get(file).file, bytes);
  return OkStatus();
}

Status SimDisk::Sync(int file) {
  const Handle& handle = Get(file);
  if (failing_syncs_ > 0) {
    --failing_syncs_;
    log_.FailSync(handle.file);
    return FileError(handle.path, "writing it to the disk", EIO);
  }
  log_.Sync(handle.file);
  return OkStatus();
}

Status SimDisk::Lock(int file) {
  Handle& handle = Get(file);
  for (const auto& [number, other] : handles_) {
    if (number != file && other.file == handle.file && other.locked) {
      return ResourceExhausted(fmt::format("{}: is locked", Quoted(handle.path)));
    }
  }
  handle.locked = true;
  return OkStatus();
}

Status SimDisk::MakeDirectory(const std::string& path) {
  if (DirectoryExists(now_, path)) return OkStatus();
  if (now_.names.contains(path)) return FileError(path, "making the directory", EEXIST);
  if (!DirectoryExists(now_, ParentOf(path)))
    return FileError(path, "making the directory", ENOENT);
  now_.names[path] = SimContent::kDirectory;
  log_.MakeDirectory(path);
  return OkStatus();
}

Status SimDisk::SyncDirectory(const std::string& path) {
  if (!DirectoryExists(now_, path)) return FileError(path, "opening the directory", ENOENT);
  log_.SyncDirectory(path);
  return OkStatus();
}

Status SimDisk::RemoveFile(const std::string& path) {
  const auto named = now_.names.find(path);
  if (named == now_.names.end()) return FileError(path, "removing", ENOENT);
  if (named->second == SimContent::kDirectory) return FileError(path, "removing", EISDIR);
  const uint64_t file = named->second;
  now_.names.erase(named);
  log_.Remove(path);
  DropUnused(file);
  return OkStatus();
}

Status SimDisk::RemoveDirectory(const std::string& path) {
  const auto named = now_.names.find(path);
  if (named == now_.names.end()) return FileError(path, "removing the directory", ENOENT);
  if (named->second != SimContent::kDirectory) {
    return FileError(path, "removing the directory", ENOTDIR);
  }
  HGA_ASSIGN_OR_RETURN(const std::vector<std::string> names, List(path));
  if (!names.empty()) return FileError(path, "removing the directory", ENOTEMPTY);
  now_.names.erase(named);
  log_.Remove(path);
  return OkStatus();
}

Status SimDisk::Rename(const std::string& from, const std::string& to) {
  const auto named = now_.names.find(from);
  if (named == now_.names.end() || !DirectoryExists(now_, ParentOf(to))) {
    return FileError(from, "renaming", ENOENT);
  }
  if (named->second == SimContent::kDirectory) {
    return Unsupported(fmt::format("{}: a simulated directory keeps its name", Quoted(from)));
  }
  if (DirectoryExists(now_, to)) return FileError(to, "renaming", EISDIR);
  const uint64_t file = named->second;
  now_.names.erase(named);
  const uint64_t old = std::exchange(now_.names[to], file);
  log_.Rename(from, to, file);
  DropUnused(old);
  return OkStatus();
}

Result<std::vector<std::string>> SimDisk::List(const std::string& path) {
  if (!DirectoryExists(now_, path)) return FileError(path, "listing", ENOENT);
  std::vector<std::string> names;
  for (const auto& [name, file] : now_.names) {
    if (ParentOf(name) == path) names.push_back(name.substr(name.rfind('/') + 1));
  }
  std::ranges::sort(names);
  return names;
}

int SimDisk::Submit(std::span<const IoRequest> requests) {
  const size_t room = static_cast<size_t>(options_.depth) - in_flight_.size();
  const size_t taken = std::min(requests.size(), room);
  for (const IoRequest& request : requests.first(taken)) {
    Flight flight{.request = request};
    const auto handle = handles_.find(request.file);
    flight.delay = static_cast<int>(random_() % static_cast<uint64_t>(options_.most_delay + 1));
    flight.refused = handle == handles_.end() ? EBADF : RefusalOf(request);
    if (flight.refused == 0 && request.op == IoOp::kWrite && !handle->second.writable) {
      flight.refused = EBADF;
    }
    if (flight.refused == 0) {
      ++handle->second.in_flight;
      const std::span<std::byte> data(request.data, static_cast<size_t>(request.bytes));
      if (request.op == IoOp::kRead) {
        std::ranges::fill(data, kPoison);
      } else {
        flight.write = log_.StartWrite(handle->second.file, request.offset, data);
      }
    }
    in_flight_.push_back(flight);
  }
  return static_cast<int>(taken);
}

int SimDisk::Reap(std::span<IoCompletion> out, int least) {
  for (Flight& flight : in_flight_) flight.delay = std::max(0, flight.delay - 1);
  size_t count = 0;
  while (count < out.size() && !in_flight_.empty()) {
    std::vector<size_t> ready;
    for (size_t i = 0; i < in_flight_.size(); ++i) {
      if (in_flight_[i].delay == 0) ready.push_back(i);
    }
    if (ready.empty() && static_cast<int>(count) >= least) break;
    const size_t next =
        ready.empty() ? random_() % in_flight_.size() : ready[random_() % ready.size()];
    const Flight flight = in_flight_[next];
    in_flight_.erase(in_flight_.begin() + static_cast<ptrdiff_t>(next));
    out[count++] = {flight.request.tag, Complete(flight)};
  }
  return static_cast<int>(count);
}

int64_t SimDisk::Complete(const Flight& flight) {
  if (flight.refused != 0) return -flight.refused;
  --Get(flight.request.file).in_flight;
  return flight.request.op == IoOp::kRead ? Read(flight.request) : Write(flight);
}

// Another place of the file with as many bytes, or the same one where there is no other.
int64_t SimDisk::ElsewhereIn(const std::vector<std::byte>& bytes, const IoRequest& request) {
  const int64_t places = (static_cast<int64_t>(bytes.size()) - request.bytes) / kIoAlignment + 1;
  if (places < 2) return request.offset;
  const int64_t place = static_cast<int64_t>(random_() % static_cast<uint64_t>(places));
  const int64_t offset = place * kIoAlignment;
  return offset != request.offset ? offset : (place + 1) % places * kIoAlignment;
}

int64_t SimDisk::Read(const IoRequest& request) {
  const std::vector<std::byte>& bytes = now_.files[Get(request.file).file];
  if (Chance(options_.faults.failed_read)) return -EIO;
  int64_t offset = request.offset;
  if (Chance(options_.faults.misdirected_read)) offset = ElsewhereIn(bytes, request);
  const int64_t moved =
      std::clamp<int64_t>(static_cast<int64_t>(bytes.size()) - offset, 0, request.bytes);
  if (moved > 0) std::memcpy(request.data, bytes.data() + offset, static_cast<size_t>(moved));
  if (Chance(options_.faults.flipped_read)) {
    FlipOneBit({request.data, static_cast<size_t>(moved)}, random_());
  }
  return moved;
}

int64_t SimDisk::Write(const Flight& flight) {
  const IoRequest& request = flight.request;
  std::vector<std::byte>& bytes = now_.files[Get(request.file).file];
  const auto size = static_cast<int64_t>(bytes.size());
  const int64_t fits = size + options_.capacity - used_bytes() - request.offset;
  const int64_t moved = std::clamp<int64_t>(fits / kIoAlignment * kIoAlignment, 0, request.bytes);
  if (moved == 0 || Chance(options_.faults.failed_write)) {
    log_.EndWrite(flight.write, request.offset, {});
    return moved == 0 ? -ENOSPC : -EIO;
  }
  std::vector<std::byte> data(request.data, request.data + moved);
  if (Chance(options_.faults.flipped_write)) FlipOneBit(data, random_());
  int64_t offset = request.offset;
  if (Chance(options_.faults.misdirected_write)) offset = ElsewhereIn(bytes, request);
  if (Chance(options_.faults.lost_write)) data.clear();
  if (!data.empty()) {
    bytes.resize(static_cast<size_t>(std::max(size, offset + moved)));
    std::ranges::copy(data, bytes.begin() + static_cast<ptrdiff_t>(offset));
  }
  log_.EndWrite(flight.write, offset, data);
  return moved;
}

const std::vector<std::byte>& SimDisk::BytesOf(const std::string& path) const {
  const auto named = now_.names.find(path);
  HGA_CHECK(named != now_.names.end() && named->second != SimContent::kDirectory);
  return now_.files.at(named->second);
}

std::vector<std::byte> SimDisk::Content(const std::string& path) const { return BytesOf(path); }

void SimDisk::SetContent(const std::string& path, std::span<const std::byte> bytes) {
  BytesOf(path);
  const uint64_t file = now_.names.at(path);
  now_.files[file].assign(bytes.begin(), bytes.end());
  log_.Replace(file, bytes);
}

void SimDisk::FlipBit(const std::string& path, int64_t offset, int bit) {
  std::vector<std::byte> bytes = Content(path);
  bytes.at(static_cast<size_t>(offset)) ^= static_cast<std::byte>(1 << bit);
  SetContent(path, bytes);
}

void SimDisk::SwapRanges(const std::string& path, int64_t first, int64_t second, int64_t bytes) {
  std::vector<std::byte> content = Content(path);
  const std::span<std::byte> all(content);
  const auto size = static_cast<size_t>(bytes);
  std::ranges::swap_ranges(all.subspan(static_cast<size_t>(first), size),
                           all.subspan(static_cast<size_t>(second), size));
  SetContent(path, content);
}

void SimDisk::Truncate(const std::string& path, int64_t bytes) {
  std::vector<std::byte> content = Content(path);
  content.resize(static_cast<size_t>(bytes));
  SetContent(path, content);
}

std::vector<std::string> SimDisk::Files() const {
  std::vector<std::string> files;
  for (const auto& [name, file] : now_.names) {
    if (file != SimContent::kDirectory) files.push_back(name);
  }
  return files;
}

}  // namespace hga::rigs
