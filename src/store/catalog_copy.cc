// SPDX-License-Identifier: Apache-2.0
// A session once more under another name: records are compared with their checksums on the way.
#include <fmt/format.h>

#include <algorithm>

#include "base/memory.h"
#include "spec/layout.h"
#include "store/catalog.h"
#include "store/io_file.h"
#include "store/session.h"
#include "store/session_dir.h"

namespace hga {
namespace {

// Copies the records of one chunk. A record that is not what its checksums say is not there in the
// copy (generation 0) and is computed again by whoever opens it.
Status CopyChunk(const IoFile& from, const IoFile& to, int64_t chunk, uint64_t generation,
                 std::span<std::byte> buffer, RecordTable* table) {
  const HistoryShape& shape = table->shape();
  const auto record = static_cast<size_t>(RecordBytes(shape));
  const auto cell = static_cast<size_t>(CellBytes(shape));
  const int64_t offset = RecordOffset(shape, chunk, 0);
  from.ReadWhatIsThere(offset, buffer, std::byte{0xFF});
  for (int layer = 0; layer < shape.layers; ++layer) {
    if (table->generation(chunk, layer) == 0) continue;
    const auto bytes = buffer.subspan(static_cast<size_t>(layer) * record, record);
    const std::span<const uint64_t> sums = table->sums(chunk, layer);
    bool good = true;
    for (size_t i = 0; i < sums.size(); ++i) {
      good = good && CellSum(bytes.subspan(i * cell, cell)) == sums[i];
    }
    table->generation(chunk, layer) = good ? generation : 0;
  }
  return to.Write(offset, buffer);
}

Status CopyRecords(IoBackend* io, const SessionFiles& from, const SessionFiles& to,
                   RecordTable* table) {
  HGA_ASSIGN_OR_RETURN(const IoFile in,
                       IoFile::Open(io, Joined(from.directory(), kRecordsName), OpenMode::kRead));
  HGA_ASSIGN_OR_RETURN(const IoFile out, IoFile::Open(io, Joined(to.directory(), kRecordsName),
                                                      OpenMode::kReadWrite));
  HGA_ASSIGN_OR_RETURN(
      const Array<std::byte> buffer,
      Array<std::byte>::Make(static_cast<size_t>(RecordOffset(table->shape(), 1, 0))));
  for (int64_t chunk = 0; chunk < table->chunks(); ++chunk) {
    HGA_RETURN_IF_ERROR(
        CopyChunk(in, out, chunk, to.next_generation(), {buffer.data(), buffer.size()}, table));
  }
  return out.Sync();
}

}  // namespace

Result<int64_t> Catalog::Copy(const std::string& from, const std::string& to) const {
  HGA_RETURN_IF_ERROR(CheckSessionName(from));
  HGA_RETURN_IF_ERROR(CheckSessionName(to));
  if (from == to) return InvalidArgument(fmt::format("{} can't be copied to itself", from));
  HGA_ASSIGN_OR_RETURN(const auto slots, OpenSlots(io_, Joined(root_, SessionDirectoryName(from))));
  HGA_ASSIGN_OR_RETURN(const NewestManifest newest, ReadNewest(slots));
  const SessionIdentity identity = newest.manifest.head.identity;
  HGA_ASSIGN_OR_RETURN(OpenedSession source, SessionFiles::Open(io_, root_, from, identity));
  const Status deleted = Delete(to);
  if (!deleted.ok() && deleted.code() != StatusCode::kNotFound) return deleted;
  HGA_ASSIGN_OR_RETURN(SessionFiles copy,
                       SessionFiles::Create(io_, root_, to, identity, RandomStoreId()));
  Status status = CopyRecords(io_, source.files, copy, &source.table);
  if (status.ok()) {
    status = copy.Checkpoint(source.state, source.table, 0, source.table.chunks());
  }
  if (status.ok()) return static_cast<int64_t>(source.state.tokens.size());
  // What is there of it says nothing; the next copy or prune removes it if this can't.
  { const SessionFiles closed = std::move(copy); }
  static_cast<void>(Delete(to));
  return status;
}

}  // namespace hga
