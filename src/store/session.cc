// SPDX-License-Identifier: Apache-2.0
// The order in which things reach the disk.
#include "store/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/file.h"
#include "base/kill_point.h"
#include "spec/layout.h"
#include "store/index_file.h"
#include "store/io_file.h"
#include "store/prefix.h"
#include "store/session_dir.h"

namespace hga {

struct SessionFiles::Impl {
  std::string directory;
  IoFile records;
  IoFile index;
  std::array<IoFile, 2> slots;
  IndexIdentity identity;
  ManifestHead head;   // of the last acknowledged manifest; generation 0 before the first
  int64_t length = 0;  // its tokens
  bool failed = false;

  // Once the kernel has told of a failed fsync it may call the same pages clean: no second try.
  Status Sync(const IoFile& file) {
    Status status = file.Sync();
    if (!status.ok()) failed = true;
    return status;
  }
  Status CheckRange(const RecordTable& table, int64_t closed, int64_t first, int64_t end) const;
  Status CheckChain(std::span<const Digest> chain) const;
  Status WriteRecordsIndex(const RecordTable& table, int64_t first, int64_t end,
                           ManifestHead* next);
};

namespace {

IndexIdentity MakeIndexIdentity(const StoreId& store_id, const SessionIdentity& identity) {
  return {store_id, IdentityDigest(identity), identity.shape};
}

std::string Parent(const std::string& path) {
  const size_t slash = path.find_last_of('/', path.find_last_not_of('/'));
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Whoever made a root that exists may not have come to making it durable.
Status MakeRoot(IoBackend* io, const std::string& root) {
  HGA_RETURN_IF_ERROR(io->MakeDirectory(root));
  return io->SyncDirectory(Parent(root));
}

// Removes what an interrupted creation, first checkpoint or deletion left; kInvalidArgument when
// there is a session.
Status RemoveLeftover(IoBackend* io, const std::string& root, const std::string& directory,
                      const std::string& name) {
  const Result<std::vector<std::string>> names = io->List(directory);
  if (names.status().code() == StatusCode::kNotFound) return OkStatus();
  if (!names.ok()) return names.status();
  if (std::ranges::find(*names, kRecordsName) != names->end()) {
    // Only to see that nobody is creating it at this moment.
    HGA_ASSIGN_OR_RETURN(const IoFile records, LockSession(io, directory));
  }
  const bool both = std::ranges::all_of(kSlotNames, [&](std::string_view slot) {
    return std::ranges::find(*names, slot) != names->end();
  });
  if (both) {
    HGA_ASSIGN_OR_RETURN(const auto slots, OpenSlots(io, directory));
    if (HasCheckpoint(slots)) {
      return InvalidArgument(fmt::format("session {} exists: {}", Quoted(name), Quoted(directory)));
    }
  }
  return RemoveSession(io, root, directory);
}

Status CheckCreatable(const std::string& name, const SessionIdentity& identity) {
  HGA_RETURN_IF_ERROR(CheckSessionName(name));
  HGA_RETURN_IF_ERROR(CheckStoredShape(identity.shape));
  if (identity.dtype == kStoredDtype && identity.format == kStoreFormat) return OkStatus();
  return InvalidArgument(fmt::format("dtype {} in format version {}: this build stores {} in {}",
                                     Quoted(identity.dtype), identity.format, kStoredDtype,
                                     kStoreFormat));
}

// A manifest that is read may be in memory only: its writer died, or its fsync failed, before it
// reached the disk. Whoever goes on from it, cuts records it no longer speaks of, or writes the
// slot beside it, relies on it: so it is written again.
Status Settle(const IoFile& slot, const ManifestHeader& header) {
  HGA_RETURN_IF_ERROR(RewriteSlot(slot, header));
  return slot.Sync();
}

// Says which session an error is about.
Status About(const std::string& name, const Status& status) {
  return {status.code(), fmt::format("session {}: {}", Quoted(name), status.message())};
}

}  // namespace

SessionFiles::SessionFiles(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SessionFiles::~SessionFiles() = default;
SessionFiles::SessionFiles(SessionFiles&&) noexcept = default;
SessionFiles& SessionFiles::operator=(SessionFiles&&) noexcept = default;

int SessionFiles::data_file() const { return impl_->records.id(); }
const std::string& SessionFiles::directory() const { return impl_->directory; }
const HistoryShape& SessionFiles::shape() const { return impl_->identity.shape; }
uint64_t SessionFiles::generation() const { return impl_->head.generation; }
int64_t SessionFiles::acknowledged_length() const { return impl_->length; }
bool SessionFiles::failed() const { return impl_->failed; }

Result<SessionFiles> SessionFiles::Create(IoBackend* io, const std::string& root,
                                          const std::string& name, const SessionIdentity& identity,
                                          const StoreId& store_id) {
  HGA_RETURN_IF_ERROR(CheckCreatable(name, identity));
  HGA_RETURN_IF_ERROR(MakeRoot(io, root));
  const std::string directory = Joined(root, SessionDirectoryName(name));
  HGA_ASSIGN_OR_RETURN(const IoFile lock, LockRoot(io, root));
  HGA_RETURN_IF_ERROR(RemoveLeftover(io, root, directory, name));
  HGA_RETURN_IF_ERROR(io->MakeDirectory(directory));
  KillPoint("create.directory_made");
  const auto create = [&](std::string_view file) {
    return IoFile::Open(io, Joined(directory, file), OpenMode::kCreate);
  };
  HGA_ASSIGN_OR_RETURN(IoFile records, create(kRecordsName));
  HGA_RETURN_IF_ERROR(records.Lock());
  HGA_ASSIGN_OR_RETURN(IoFile index, create(kIndexName));
  HGA_ASSIGN_OR_RETURN(IoFile first, create(kSlotNames[0]));
  HGA_ASSIGN_OR_RETURN(IoFile second, create(kSlotNames[1]));
  for (const IoFile* file : {&records, &index, &first, &second}) {
    HGA_RETURN_IF_ERROR(file->Sync());
  }
  KillPoint("create.files_synced");
  HGA_RETURN_IF_ERROR(io->SyncDirectory(directory));
  HGA_RETURN_IF_ERROR(io->SyncDirectory(root));
  ManifestHead head;
  head.store_id = store_id;
  head.name = name;
  head.identity = identity;
  return SessionFiles(std::make_unique<Impl>(Impl{.directory = directory,
                                                  .records = std::move(records),
                                                  .index = std::move(index),
                                                  .slots = {std::move(first), std::move(second)},
                                                  .identity = MakeIndexIdentity(store_id, identity),
                                                  .head = std::move(head)}));
}

Result<OpenedSession> SessionFiles::Open(IoBackend* io, const std::string& root,
                                         const std::string& name, const SessionIdentity& identity) {
  HGA_RETURN_IF_ERROR(CheckSessionName(name));
  const std::string directory = Joined(root, SessionDirectoryName(name));
  Result<IoFile> records = EnterSession(io, root, directory);
  if (!records.ok()) return About(name, records.status());
  Result<IoFile> index = OpenInSession(io, directory, kIndexName);
  if (!index.ok()) return About(name, index.status());
  Result<std::array<IoFile, 2>> slots = OpenSlots(io, directory);
  if (!slots.ok()) return About(name, slots.status());
  Result<NewestManifest> newest = ReadNewest(*slots);
  if (!newest.ok()) return About(name, newest.status());
  ManifestHead& head = newest->manifest.head;
  if (head.name != name) {
    return InvalidArgument(fmt::format("session {}: {} belongs to session {}", Quoted(name),
                                       Quoted(directory), Quoted(head.name)));
  }
  HGA_RETURN_IF_ERROR(CompareIdentity(head.identity, identity, name));
  HGA_RETURN_IF_ERROR(Settle((*slots)[SlotOf(head.generation)], newest->header));

  SessionState& state = newest->manifest.state;
  OpenReport report;
  report.other_slot = std::move(newest->other_slot);
  Result<std::vector<std::byte>> tail = ReadTail(*slots, newest->header);
  if (tail.status().code() == StatusCode::kResourceExhausted) return tail.status();
  report.tail_damaged = !tail.ok();
  if (tail.ok()) state.tail = std::move(*tail);

  const IndexIdentity index_identity = MakeIndexIdentity(head.store_id, head.identity);
  RecordTable table(identity.shape);
  HGA_ASSIGN_OR_RETURN(const IndexReport loaded, LoadIndex(*index, index_identity, head, &table));
  report.damaged_entries = loaded.damaged_entries;
  report.stale_chunks = loaded.stale_chunks;
  auto impl = std::make_unique<Impl>(Impl{.directory = directory,
                                          .records = std::move(*records),
                                          .index = std::move(*index),
                                          .slots = std::move(*slots),
                                          .identity = index_identity,
                                          .head = std::move(head),
                                          .length = static_cast<int64_t>(state.tokens.size())});
  return OpenedSession{SessionFiles(std::move(impl)), std::move(state), std::move(table),
                       std::move(report)};
}

Status SessionFiles::Impl::CheckRange(const RecordTable& table, int64_t closed, int64_t first,
                                      int64_t end) const {
  const int64_t acknowledged = static_cast<int64_t>(head.chunks.size());
  const bool nothing = first == end;
  const bool covers = closed <= acknowledged || (first <= acknowledged && end == closed);
  if (table.shape() != identity.shape || table.chunks() < closed || first < 0 || first > end ||
      end > closed || !covers) {
    return InvalidArgument(
        fmt::format("chunks [{}, {}) of a table of {} for a state of {} closed chunks after {}",
                    first, end, table.chunks(), closed, acknowledged));
  }
  if (closed < acknowledged && !nothing) {
    return InvalidArgument(
        fmt::format("a state cut from {} closed chunks to {} is published before records are "
                    "written again",
                    acknowledged, closed));
  }
  for (int64_t chunk = first; chunk < end; ++chunk) {
    for (int layer = 0; layer < identity.shape.layers; ++layer) {
      if (table.generation(chunk, layer) <= head.generation + 1) continue;
      return InvalidArgument(fmt::format("a record of generation {} before checkpoint {}",
                                         table.generation(chunk, layer), head.generation + 1));
    }
  }
  return OkStatus();
}

Status SessionFiles::Impl::CheckChain(std::span<const Digest> chain) const {
  const size_t common = std::min(chain.size(), head.chunks.size());
  for (size_t chunk = 0; chunk < common; ++chunk) {
    if (chain[chunk] == head.chunks[chunk].chain) continue;
    return InvalidArgument(fmt::format(
        "chunk {} holds other tokens than acknowledged; a shorter state comes first", chunk));
  }
  return OkStatus();
}

Status SessionFiles::Impl::WriteRecordsIndex(const RecordTable& table, int64_t first, int64_t end,
                                             ManifestHead* next) {
  if (first == end) return OkStatus();
  std::vector<uint64_t> sums;
  HGA_RETURN_IF_ERROR(WriteIndex(index, identity, table, first, end, &sums));
  KillPoint("checkpoint.index_written");
  HGA_RETURN_IF_ERROR(Sync(records));
  KillPoint("checkpoint.records_synced");
  HGA_RETURN_IF_ERROR(Sync(index));
  KillPoint("checkpoint.index_synced");
  for (int64_t chunk = first; chunk < end; ++chunk) {
    next->chunks[static_cast<size_t>(chunk)].records = sums[static_cast<size_t>(chunk - first)];
  }
  return OkStatus();
}

Status SessionFiles::Checkpoint(const SessionState& state, const RecordTable& table,
                                int64_t first_chunk, int64_t end_chunk) {
  Impl& impl = *impl_;
  if (impl.failed) {
    return IoError(fmt::format("{}: an earlier write did not reach the disk; open the session anew",
                               Quoted(impl.directory)));
  }
  HGA_RETURN_IF_ERROR(CheckState(state, impl.identity.shape));
  const int64_t length = static_cast<int64_t>(state.tokens.size());
  HGA_RETURN_IF_ERROR(impl.CheckRange(table, length / spec::kChunk, first_chunk, end_chunk));
  const std::vector<Digest> chain = PrefixChain(impl.identity.model, state.tokens);
  HGA_RETURN_IF_ERROR(impl.CheckChain(chain));

  ManifestHead next = impl.head;
  ++next.generation;
  next.chunks.resize(chain.size());
  for (size_t i = 0; i < chain.size(); ++i) next.chunks[i].chain = chain[i];
  HGA_RETURN_IF_ERROR(impl.WriteRecordsIndex(table, first_chunk, end_chunk, &next));
  const IoFile& slot = impl.slots[SlotOf(next.generation)];
  HGA_RETURN_IF_ERROR(slot.Write(0, EncodeManifest(next, state)));
  KillPoint("checkpoint.manifest_written");
  HGA_RETURN_IF_ERROR(impl.Sync(slot));
  KillPoint("checkpoint.manifest_synced");
  impl.head = std::move(next);
  impl.length = length;
  return OkStatus();
}

}  // namespace hga
