// SPDX-License-Identifier: Apache-2.0
// All sessions below one directory: listed, verified, deleted, kept under a quota, searched by
// prefix.
#ifndef HGA_STORE_CATALOG_H_
#define HGA_STORE_CATALOG_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "hga/status.h"
#include "store/identity.h"
#include "store/io.h"

namespace hga {

enum class SessionStatus {
  kGood,
  kDamaged,     // no usable manifest: left by a crash during creation, or both slots are broken
  kLocked,      // in use
  kUnreadable,  // perhaps good: another program's format, or it could not be read now
};

struct SessionEntry {
  std::string directory;  // base name, 32 hexadecimal digits
  std::string name;       // as given by its owner, unprintable bytes and all; empty if damaged
  int64_t tokens = 0;
  int64_t bytes = 0;     // of its files
  int64_t saved_at = 0;  // unix seconds, 0 if damaged
  std::string model;     // first 12 hexadecimal digits of the identity's digest
  std::string extra;     // SessionState::extra
  SessionStatus status = SessionStatus::kGood;
  std::string why;  // of kDamaged and kUnreadable
};

struct VerifyReport {
  int64_t records = 0;  // of closed chunks, all layers: the sum of the next three
  int64_t good = 0;
  int64_t damaged = 0;  // data unreadable or not what the checksums say
  int64_t missing = 0;  // no usable index entry
  bool tail_damaged = false;
  std::string other_slot;  // what is wrong with the older manifest; empty if nothing
  bool ok() const { return good == records && !tail_damaged && other_slot.empty(); }
};

struct PrefixMatch {
  std::string name;    // empty: no session begins with any closed chunk of the tokens
  int64_t tokens = 0;  // in common; may end inside a chunk
};

struct PruneReport {
  std::vector<SessionEntry> removed;
  int64_t bytes_left = 0;
  int64_t locked = 0;  // sessions that were in use and stayed
};

// The back end must outlive it and must have nothing in flight during a call. A root that does not
// exist is an empty catalog.
class Catalog {
 public:
  Catalog(IoBackend* io, std::string root);

  // By directory name. Locks each session for a moment to see whether somebody else does.
  Result<std::vector<SessionEntry>> List() const;
  // One of them. kNotFound.
  Result<SessionEntry> Find(const std::string& name) const;
  // Bytes of all sessions.
  Result<int64_t> Usage() const;
  // Reads every record and compares its checksums; `progress` (bytes done, bytes in all; may be
  // empty) stops it by returning false (kCancelled). kNotFound, kDataLoss (no usable manifest),
  // kResourceExhausted (in use).
  Result<VerifyReport> Verify(const std::string& name,
                              const std::function<bool(int64_t, int64_t)>& progress) const;
  // The session `from` once more as `to`, which replaces what had that name. Returns its tokens.
  // kNotFound, kDataLoss (no usable manifest), kResourceExhausted (one of them is in use, the disk
  // is full). A crash leaves `to` old, new or damaged, `from` as it was.
  Result<int64_t> Copy(const std::string& from, const std::string& to) const;
  // kNotFound; kResourceExhausted: in use.
  Status Delete(const std::string& name) const;
  // Removes damaged sessions, then the oldest ones until all take at most `quota` bytes. Those in
  // use or unreadable stay and count, and so do those saved while it looks.
  Result<PruneReport> Prune(int64_t quota) const;
  // The session of this identity that shares the most tokens with `tokens`.
  Result<PrefixMatch> FindLongestPrefix(const SessionIdentity& identity,
                                        std::span<const int32_t> tokens) const;

 private:
  IoBackend* io_;
  std::string root_;
};

}  // namespace hga

#endif  // HGA_STORE_CATALOG_H_
