// SPDX-License-Identifier: Apache-2.0
// Crash images are made by replaying the events that are durable or were chosen.
#include "store/rigs/sim_log.h"

#include <algorithm>
#include <utility>

namespace hga::rigs {
namespace {

void Write(std::span<const std::byte> data, int64_t offset, std::vector<std::byte>* bytes) {
  const auto first = static_cast<size_t>(offset);
  if (data.empty()) return;
  bytes->resize(std::max(bytes->size(), first + data.size()));
  std::ranges::copy(data, bytes->begin() + static_cast<ptrdiff_t>(offset));
}

// Only some pieces of the write arrive; at least one does not.
void WriteTorn(std::span<const std::byte> data, int64_t offset, int64_t tear,
               std::mt19937_64* random, std::vector<std::byte>* bytes) {
  const auto piece = static_cast<size_t>(tear);
  const size_t pieces = (data.size() + piece - 1) / piece;
  if (pieces == 0) return;
  const size_t missing = (*random)() % pieces;
  for (size_t i = 0; i < pieces; ++i) {
    const bool arrives = (*random)() % 2 == 0;
    if (i == missing || !arrives) continue;
    const size_t at = i * piece;
    Write(data.subspan(at, std::min(piece, data.size() - at)), offset + static_cast<int64_t>(at),
          bytes);
  }
}

// Names in directories that the power cut took are gone, and so are files without any name.
void DropOrphans(SimContent* content) {
  std::erase_if(content->names,
                [&](const auto& name) { return !DirectoryExists(*content, ParentOf(name.first)); });
  std::erase_if(content->files, [&](const auto& file) {
    return std::ranges::none_of(content->names,
                                [&](const auto& name) { return name.second == file.first; });
  });
}

}  // namespace

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? std::string() : path.substr(0, std::max<size_t>(slash, 1));
}

bool DirectoryExists(const SimContent& content, const std::string& path) {
  if (path.empty() || path == "/") return true;
  const auto found = content.names.find(path);
  return found != content.names.end() && found->second == SimContent::kDirectory;
}

void SimLog::Create(const std::string& path, uint64_t file) {
  Add({.kind = Kind::kCreate, .file = file, .path = path});
}
void SimLog::MakeDirectory(const std::string& path) {
  Add({.kind = Kind::kMakeDirectory, .path = path});
}
void SimLog::Remove(const std::string& path) { Add({.kind = Kind::kRemove, .path = path}); }
void SimLog::Rename(const std::string& from, const std::string& to, uint64_t file) {
  Add({.kind = Kind::kRename, .file = file, .path = from, .to = to});
}
void SimLog::SetSize(uint64_t file, int64_t bytes) {
  Add({.kind = Kind::kSetSize, .file = file, .offset = bytes});
}
void SimLog::Sync(uint64_t file) { Add({.kind = Kind::kSync, .file = file}); }
void SimLog::FailSync(uint64_t file) { Add({.kind = Kind::kFailSync, .file = file}); }
void SimLog::SyncDirectory(const std::string& path) {
  Add({.kind = Kind::kSyncDirectory, .path = path});
}
void SimLog::Replace(uint64_t file, std::span<const std::byte> bytes) {
  Add({.kind = Kind::kReplace, .file = file, .data = {bytes.begin(), bytes.end()}});
}

size_t SimLog::StartWrite(uint64_t file, int64_t offset, std::span<const std::byte> data) {
  if (!keep_) return 0;
  Add({.kind = Kind::kStartWrite,
       .file = file,
       .offset = offset,
       .data = {data.begin(), data.end()}});
  return events_.size() - 1;
}

void SimLog::EndWrite(size_t write, int64_t offset, std::span<const std::byte> data) {
  if (!keep_) return;
  Event& start = events_[write];
  start.offset = offset;
  start.data.assign(data.begin(), data.end());
  Add({.kind = Kind::kEndWrite, .file = start.file, .write = write});
}

std::vector<size_t> SimLog::PendingEvents(size_t event) const {
  std::vector<size_t> pending;
  std::vector<bool> durable(event, false);
  std::map<uint64_t, bool> synced;  // by file: whether the next sync after here worked
  std::map<std::string, bool> synced_directories;
  const auto is_synced = [&](uint64_t file) {
    const auto found = synced.find(file);
    return found != synced.end() && found->second;
  };
  for (size_t i = event; i-- > 0;) {
    const Event& e = events_[i];
    const auto name_pending = [&](const std::string& path) {
      return !synced_directories.contains(ParentOf(path));
    };
    switch (e.kind) {
      case Kind::kSync:
        synced[e.file] = true;
        break;
      case Kind::kFailSync:
        synced[e.file] = false;
        break;
      case Kind::kSyncDirectory:
        synced_directories[e.path] = true;
        break;
      case Kind::kEndWrite:
        durable[e.write] = is_synced(e.file);
        break;
      case Kind::kStartWrite:
        if (!durable[i]) pending.push_back(i);
        break;
      case Kind::kSetSize:
        if (!is_synced(e.file)) pending.push_back(i);
        break;
      case Kind::kCreate:
      case Kind::kMakeDirectory:
      case Kind::kRemove:
        if (name_pending(e.path)) pending.push_back(i);
        break;
      case Kind::kRename:
        if (name_pending(e.to)) pending.push_back(i);
        break;
      case Kind::kReplace:
        break;
    }
  }
  std::ranges::reverse(pending);
  return pending;
}

int SimLog::Pending(size_t event) const {
  return static_cast<int>(PendingEvents(std::min(event, events_.size())).size());
}

std::vector<bool> SimLog::Kept(size_t event, const CrashChoice& choice,
                               std::mt19937_64* random) const {
  std::vector<bool> kept(event, true);
  int number = 0;
  for (const size_t i : PendingEvents(event)) {
    switch (choice.keep) {
      case CrashKeep::kAll:
        break;
      case CrashKeep::kNone:
        kept[i] = false;
        break;
      case CrashKeep::kOne:
        kept[i] = number == choice.which;
        break;
      case CrashKeep::kAllBut:
        kept[i] = number != choice.which;
        break;
      case CrashKeep::kRandom:
        kept[i] = (*random)() % 2 == 0;
        break;
    }
    ++number;
  }
  return kept;
}

void SimLog::ApplyName(const Event& e, SimContent* content) {
  switch (e.kind) {
    case Kind::kCreate:
      content->names[e.path] = e.file;
      content->files[e.file];
      break;
    case Kind::kMakeDirectory:
      content->names[e.path] = SimContent::kDirectory;
      break;
    case Kind::kRemove:
      content->names.erase(e.path);
      break;
    case Kind::kRename:
      content->names[e.to] = e.file;
      if (const auto old = content->names.find(e.path);
          old != content->names.end() && old->second == e.file) {
        content->names.erase(old);
      }
      break;
    default:
      break;
  }
}

SimContent SimLog::Crash(size_t event, const CrashChoice& choice) const {
  event = std::min(event, events_.size());
  std::mt19937_64 random(choice.seed);
  const std::vector<bool> kept = Kept(event, choice, &random);
  // Writes take effect in the order of their ends; what was in flight comes last.
  std::vector<size_t> order, in_flight;
  std::vector<bool> ended(event, false);
  for (size_t i = 0; i < event; ++i) {
    if (events_[i].kind == Kind::kEndWrite) ended[events_[i].write] = true;
  }
  for (size_t i = 0; i < event; ++i) {
    const Event& e = events_[i];
    if (e.kind == Kind::kStartWrite) {
      if (!ended[i] && kept[i]) in_flight.push_back(i);
    } else if (e.kind == Kind::kEndWrite ? kept[e.write] : kept[i]) {
      order.push_back(e.kind == Kind::kEndWrite ? e.write : i);
    }
  }
  order.insert(order.end(), in_flight.begin(), in_flight.end());
  return Replay(order, TornWrite(event, kept, choice.tear), choice.tear, &random);
}

// The last write that was kept though no sync covers it; `event` when there is none.
size_t SimLog::TornWrite(size_t event, const std::vector<bool>& kept, int64_t tear) const {
  size_t last = event;
  if (tear == 0) return last;
  for (const size_t i : PendingEvents(event)) {
    if (events_[i].kind == Kind::kStartWrite && kept[i]) last = i;
  }
  return last;
}

SimContent SimLog::Replay(const std::vector<size_t>& order, size_t torn, int64_t tear,
                          std::mt19937_64* random) const {
  SimContent content = base_;
  for (const size_t i : order) {
    const Event& e = events_[i];
    if (e.kind == Kind::kStartWrite && i == torn) {
      WriteTorn(e.data, e.offset, tear, random, &content.files[e.file]);
    } else if (e.kind == Kind::kStartWrite) {
      Write(e.data, e.offset, &content.files[e.file]);
    } else if (e.kind == Kind::kSetSize) {
      std::vector<std::byte>& bytes = content.files[e.file];
      bytes.resize(std::max(bytes.size(), static_cast<size_t>(e.offset)));
    } else if (e.kind == Kind::kReplace) {
      content.files[e.file] = e.data;
    } else {
      ApplyName(e, &content);
    }
  }
  DropOrphans(&content);
  return content;
}

}  // namespace hga::rigs
