// SPDX-License-Identifier: Apache-2.0
// The sessions of a directory, for programs that look at them without a model.
#include <fmt/format.h>

#include "base/file.h"
#include "hga/engine.h"
#include "store/catalog.h"

namespace hga {
namespace {

SessionInfo InfoOfEntry(const SessionEntry& entry) {
  SessionInfo info{entry.name,  entry.tokens, entry.bytes, entry.saved_at,
                   entry.model, "good",       entry.extra};
  if (entry.status == SessionStatus::kLocked) info.state = "in use";
  if (entry.status == SessionStatus::kDamaged) info.state = "damaged: " + entry.why;
  if (entry.status == SessionStatus::kUnreadable) info.state = "unreadable: " + entry.why;
  return info;
}

// Names the session where the catalog names the file that is not there.
Status About(const std::string& directory, const std::string& name, const Status& status) {
  if (status.code() != StatusCode::kNotFound) return status;
  return NotFound(fmt::format("{}: there is no session {}", Quoted(directory), Quoted(name)));
}

// A way to the disk for looking at sessions; speed is no matter.
Result<std::unique_ptr<IoBackend>> OpenPlainIo() { return OpenIo(IoChoice::kThreads, 32, nullptr); }

}  // namespace

Result<std::vector<SessionInfo>> ListSessions(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> io, OpenPlainIo());
  HGA_ASSIGN_OR_RETURN(const std::vector<SessionEntry> entries,
                       Catalog(io.get(), directory).List());
  std::vector<SessionInfo> sessions;
  for (const SessionEntry& entry : entries) sessions.push_back(InfoOfEntry(entry));
  return sessions;
}

Result<SessionInfo> FindSession(const std::string& directory, const std::string& name) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> io, OpenPlainIo());
  HGA_ASSIGN_OR_RETURN(const SessionEntry entry, Catalog(io.get(), directory).Find(name));
  return InfoOfEntry(entry);
}

Result<std::string> VerifySession(const std::string& directory, const std::string& name,
                                  const std::function<bool(int64_t, int64_t)>& progress) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> io, OpenPlainIo());
  const Result<VerifyReport> verified = Catalog(io.get(), directory).Verify(name, progress);
  if (!verified.ok()) return About(directory, name, verified.status());
  const VerifyReport& report = *verified;
  std::string text = fmt::format("{} records: {} good, {} damaged, {} missing", report.records,
                                 report.good, report.damaged, report.missing);
  if (report.tail_damaged) text += "; the unfinished chunk is damaged";
  if (!report.other_slot.empty()) text += "; the older manifest: " + report.other_slot;
  if (!report.ok()) return DataLoss(std::move(text));
  return text;
}

Status DeleteSession(const std::string& directory, const std::string& name) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> io, OpenPlainIo());
  return About(directory, name, Catalog(io.get(), directory).Delete(name));
}

Result<int64_t> CopySession(const std::string& directory, const std::string& from,
                            const std::string& to, int64_t quota) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> io, OpenPlainIo());
  const Catalog catalog(io.get(), directory);
  if (quota > 0) {
    const Result<SessionEntry> entry = catalog.Find(from);
    if (!entry.ok()) return About(directory, from, entry.status());
    HGA_ASSIGN_OR_RETURN(const int64_t used, catalog.Usage());
    if (used + entry->bytes > quota) {
      return ResourceExhausted(
          fmt::format("{}: its sessions have {} bytes, a copy of {} would exceed the quota of {}",
                      Quoted(directory), used, entry->bytes, quota));
    }
  }
  const Result<int64_t> tokens = catalog.Copy(from, to);
  if (!tokens.ok()) return About(directory, from, tokens.status());
  return tokens;
}

Result<std::vector<SessionInfo>> PruneSessions(const std::string& directory, int64_t quota) {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> io, OpenPlainIo());
  HGA_ASSIGN_OR_RETURN(const PruneReport report, Catalog(io.get(), directory).Prune(quota));
  std::vector<SessionInfo> removed;
  for (const SessionEntry& entry : report.removed) removed.push_back(InfoOfEntry(entry));
  return removed;
}

}  // namespace hga
