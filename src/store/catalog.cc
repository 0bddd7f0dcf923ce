// SPDX-License-Identifier: Apache-2.0
// Walks over session directories.
#include "store/catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/memory.h"
#include "spec/layout.h"
#include "store/index_file.h"
#include "store/io_file.h"
#include "store/prefix.h"
#include "store/session_dir.h"

namespace hga {
namespace {

constexpr int64_t kReadAtOnce = 8 << 20;
constexpr size_t kModelDigits = 12;

// Session directories below `root`; none when there is no root.
Result<std::vector<std::string>> Directories(IoBackend* io, const std::string& root) {
  Result<std::vector<std::string>> names = io->List(root);
  if (names.status().code() == StatusCode::kNotFound) return std::vector<std::string>();
  if (!names.ok()) return names;
  std::erase_if(*names, [](const std::string& name) { return !IsSessionDirectoryName(name); });
  return names;
}

// Of the files of a session; those that go meanwhile count nothing.
Result<int64_t> DirectoryBytes(IoBackend* io, const std::string& directory) {
  const Result<std::vector<std::string>> names = io->List(directory);
  if (names.status().code() == StatusCode::kNotFound) return int64_t{0};
  if (!names.ok()) return names.status();
  int64_t bytes = 0;
  for (const std::string& name : *names) {
    const Result<IoFile> file = IoFile::Open(io, Joined(directory, name), OpenMode::kRead);
    if (file.status().code() == StatusCode::kNotFound) continue;
    if (!file.ok()) return file.status();
    HGA_ASSIGN_OR_RETURN(const int64_t size, file->Size());
    bytes += size;
  }
  return bytes;
}

// The newest manifest in `directory`, which must be where its name belongs.
Result<NewestManifest> ReadFrom(IoBackend* io, const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const auto slots, OpenSlots(io, directory));
  HGA_ASSIGN_OR_RETURN(NewestManifest newest, ReadNewest(slots));
  const std::string& name = newest.manifest.head.name;
  if (!directory.ends_with(SessionDirectoryName(name))) {
    return DataLoss(fmt::format("{} belongs to session {}, whose directory is another",
                                Quoted(directory), Quoted(name)));
  }
  return newest;
}

// Nothing that a session may be given up for.
bool MayBeGood(const Status& status) {
  return !status.ok() && status.code() != StatusCode::kDataLoss &&
         status.code() != StatusCode::kNotFound;
}

// `locked`: what LockSession said, and holds.
Result<SessionEntry> Judge(IoBackend* io, const std::string& root, const std::string& base,
                           const Result<IoFile>& locked) {
  const std::string directory = Joined(root, base);
  SessionEntry entry;
  entry.directory = base;
  HGA_ASSIGN_OR_RETURN(entry.bytes, DirectoryBytes(io, directory));
  const Result<NewestManifest> newest = ReadFrom(io, directory);
  if (newest.ok()) {
    const ManifestHead& head = newest->manifest.head;
    entry.name = head.name;
    entry.tokens = static_cast<int64_t>(newest->manifest.state.tokens.size());
    entry.saved_at = newest->manifest.state.saved_at;
    entry.extra = newest->manifest.state.extra;
    entry.model = Hex(IdentityDigest(head.identity)).substr(0, kModelDigits);
  }
  if (locked.status().code() == StatusCode::kResourceExhausted) {
    entry.status = SessionStatus::kLocked;
  } else if (!newest.ok() || !locked.ok()) {
    const Status& why = newest.ok() ? locked.status() : newest.status();
    entry.status = MayBeGood(why) ? SessionStatus::kUnreadable : SessionStatus::kDamaged;
    entry.why = why.message();
  }
  return entry;
}

// Under its lock: whoever holds that may be about to save.
Result<SessionEntry> Inspect(IoBackend* io, const std::string& root, const std::string& base) {
  const Result<IoFile> locked = LockSession(io, Joined(root, base));
  return Judge(io, root, base, locked);
}

// Removes a session unless it is in use, or no longer what it was when it was `judged` (if it was;
// both kResourceExhausted).
Status Remove(IoBackend* io, const std::string& root, const std::string& base,
              const SessionEntry* judged = nullptr) {
  HGA_ASSIGN_OR_RETURN(const IoFile lock, LockRoot(io, root));
  const std::string directory = Joined(root, base);
  const Result<IoFile> locked = LockSession(io, directory);
  // A session without records has nobody who could hold them.
  if (!locked.ok() && locked.status().code() != StatusCode::kDataLoss) return locked.status();
  if (judged != nullptr) {
    HGA_ASSIGN_OR_RETURN(const SessionEntry now, Judge(io, root, base, locked));
    if (now.status != judged->status || now.saved_at != judged->saved_at) {
      return ResourceExhausted("saved meanwhile");
    }
  }
  return RemoveSession(io, root, directory);
}

// Compares the records of one session with its index.
class Verifier {
 public:
  static Result<Verifier> Make(const IoFile* records, const IoFile* index,
                               const ManifestHead* head) {
    Verifier verifier(records, head);
    HGA_ASSIGN_OR_RETURN(verifier.entries_,
                         IndexReader::Make(index, head->identity.shape, verifier.chunks()));
    verifier.at_once_ =
        static_cast<int>(std::clamp(kReadAtOnce / RecordBytes(head->identity.shape), int64_t{1},
                                    static_cast<int64_t>(head->identity.shape.layers)));
    HGA_ASSIGN_OR_RETURN(
        verifier.buffer_,
        Pages::Reserve(static_cast<size_t>(verifier.at_once_ * RecordBytes(head->identity.shape))));
    return verifier;
  }

  int64_t chunks() const { return static_cast<int64_t>(head_->chunks.size()); }
  void VerifyChunk(int64_t chunk, VerifyReport* report) {
    const int layers = head_->identity.shape.layers;
    report->records += layers;
    DecodeIndexChunk(identity_, chunk, head_->generation,
                     head_->chunks[static_cast<size_t>(chunk)].records, entries_.Chunk(chunk), 0,
                     &table_);
    for (int layer = 0; layer < layers; layer += at_once_) {
      VerifyLayers(chunk, layer, std::min(layer + at_once_, layers), report);
    }
  }

 private:
  Verifier(const IoFile* records, const ManifestHead* head)
      : records_(records),
        head_(head),
        identity_{head->store_id, IdentityDigest(head->identity), head->identity.shape},
        table_(head->identity.shape) {
    table_.Resize(1);
  }

  void VerifyLayers(int64_t chunk, int first, int end, VerifyReport* report) {
    const HistoryShape& shape = head_->identity.shape;
    const size_t record = static_cast<size_t>(RecordBytes(shape));
    const std::span<std::byte> bytes(buffer_.data(), static_cast<size_t>(end - first) * record);
    records_->ReadWhatIsThere(RecordOffset(shape, chunk, first), bytes, std::byte{0xFF});
    for (int layer = first; layer < end; ++layer) {
      const auto data = bytes.subspan(static_cast<size_t>(layer - first) * record, record);
      if (table_.generation(0, layer) == 0) {
        ++report->missing;
      } else {
        ++(Matches(data, layer) ? report->good : report->damaged);
      }
    }
  }
  bool Matches(std::span<const std::byte> record, int layer) const {
    const size_t cell = static_cast<size_t>(CellBytes(head_->identity.shape));
    const std::span<const uint64_t> sums = std::as_const(table_).sums(0, layer);
    for (size_t i = 0; i < sums.size(); ++i) {
      if (CellSum(record.subspan(i * cell, cell)) != sums[i]) return false;
    }
    return true;
  }

  const IoFile* records_;
  const ManifestHead* head_;
  IndexIdentity identity_;
  RecordTable table_;  // of one chunk
  IndexReader entries_;
  Pages buffer_;
  int at_once_ = 1;  // records
};

}  // namespace

Catalog::Catalog(IoBackend* io, std::string root) : io_(io), root_(std::move(root)) {}

Result<std::vector<SessionEntry>> Catalog::List() const {
  HGA_ASSIGN_OR_RETURN(const std::vector<std::string> names, Directories(io_, root_));
  std::vector<SessionEntry> entries;
  for (const std::string& name : names) {
    HGA_ASSIGN_OR_RETURN(SessionEntry entry, Inspect(io_, root_, name));
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<SessionEntry> Catalog::Find(const std::string& name) const {
  HGA_RETURN_IF_ERROR(CheckSessionName(name));
  const std::string base = SessionDirectoryName(name);
  HGA_ASSIGN_OR_RETURN(const std::vector<std::string> names, Directories(io_, root_));
  if (!std::ranges::binary_search(names, base)) {
    return NotFound(fmt::format("{}: there is no session {}", Quoted(root_), Quoted(name)));
  }
  return Inspect(io_, root_, base);
}

Result<int64_t> Catalog::Usage() const {
  HGA_ASSIGN_OR_RETURN(const std::vector<std::string> names, Directories(io_, root_));
  int64_t bytes = 0;
  for (const std::string& name : names) {
    HGA_ASSIGN_OR_RETURN(const int64_t own, DirectoryBytes(io_, Joined(root_, name)));
    bytes += own;
  }
  return bytes;
}

Result<VerifyReport> Catalog::Verify(const std::string& name,
                                     const std::function<bool(int64_t, int64_t)>& progress) const {
  HGA_RETURN_IF_ERROR(CheckSessionName(name));
  const std::string directory = Joined(root_, SessionDirectoryName(name));
  HGA_ASSIGN_OR_RETURN(const IoFile records, EnterSession(io_, root_, directory));
  HGA_ASSIGN_OR_RETURN(const IoFile index, OpenInSession(io_, directory, kIndexName));
  HGA_ASSIGN_OR_RETURN(const auto slots, OpenSlots(io_, directory));
  HGA_ASSIGN_OR_RETURN(const NewestManifest newest, ReadFrom(io_, directory));
  VerifyReport report;
  report.other_slot = newest.other_slot;
  report.tail_damaged = !ReadTail(slots, newest.header).ok();
  const ManifestHead& head = newest.manifest.head;
  HGA_ASSIGN_OR_RETURN(Verifier verifier, Verifier::Make(&records, &index, &head));
  const int64_t chunk_bytes = RecordOffset(head.identity.shape, 1, 0);
  for (int64_t chunk = 0; chunk < verifier.chunks(); ++chunk) {
    verifier.VerifyChunk(chunk, &report);
    if (progress && !progress((chunk + 1) * chunk_bytes, verifier.chunks() * chunk_bytes)) {
      return Cancelled(fmt::format("{} of {} chunks verified", chunk + 1, verifier.chunks()));
    }
  }
  return report;
}

Status Catalog::Delete(const std::string& name) const {
  HGA_RETURN_IF_ERROR(CheckSessionName(name));
  return Remove(io_, root_, SessionDirectoryName(name));
}

Result<PruneReport> Catalog::Prune(int64_t quota) const {
  HGA_ASSIGN_OR_RETURN(std::vector<SessionEntry> entries, List());
  PruneReport report;
  for (const SessionEntry& entry : entries) report.bytes_left += entry.bytes;
  // Damaged ones have no time, which is before all others.
  std::ranges::stable_sort(entries, {}, &SessionEntry::saved_at);
  for (SessionEntry& entry : entries) {
    const bool damaged = entry.status == SessionStatus::kDamaged;
    if (!damaged && report.bytes_left <= quota) continue;
    const bool stays =
        entry.status == SessionStatus::kLocked || entry.status == SessionStatus::kUnreadable;
    const Status status = stays ? ResourceExhausted("in use or unreadable")
                                : Remove(io_, root_, entry.directory, &entry);
    if (status.code() == StatusCode::kResourceExhausted) {
      ++report.locked;
      continue;
    }
    if (!status.ok() && status.code() != StatusCode::kNotFound) return status;
    report.bytes_left -= entry.bytes;
    report.removed.push_back(std::move(entry));
  }
  return report;
}

Result<PrefixMatch> Catalog::FindLongestPrefix(const SessionIdentity& identity,
                                               std::span<const int32_t> tokens) const {
  const std::vector<Digest> chain = PrefixChain(IdentityDigest(identity), tokens);
  PrefixMatch best;
  HGA_ASSIGN_OR_RETURN(const std::vector<std::string> names, Directories(io_, root_));
  for (const std::string& name : names) {
    const Result<NewestManifest> newest = ReadFrom(io_, Joined(root_, name));
    if (!newest.ok()) continue;
    const ManifestHead& head = newest->manifest.head;
    // Keys speak for the identity and all tokens before; the tokens have to agree with them.
    const auto differs =
        std::ranges::mismatch(chain, head.chunks, {}, {}, &ChunkKey::chain).in1 - chain.begin();
    const int64_t common = CommonPrefix(newest->manifest.state.tokens, tokens);
    if (differs == 0 || common / spec::kChunk != differs || common <= best.tokens) continue;
    best = {head.name, common};
  }
  return best;
}

}  // namespace hga
