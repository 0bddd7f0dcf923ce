// SPDX-License-Identifier: Apache-2.0
// The files of one session: opened, locked, checkpointed. Records themselves are written by their
// owner; what makes them findable after a crash is written here.
#ifndef HGA_STORE_SESSION_H_
#define HGA_STORE_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "hga/status.h"
#include "store/io.h"
#include "store/manifest.h"
#include "store/record.h"

namespace hga {

struct OpenedSession;

// Move-only; one thread; closes its files, and with them the lock, when it goes. The back end must
// outlive it and must have nothing in flight during any call of this class (a second queue on the
// same back end would lose its completions).
//
// Promise: once Checkpoint returned kOk, Open finds that state after any crash, until a later
// checkpoint is acknowledged. Records are never believed without their checksums, so a broken rule
// of the caller costs computing again, not wrong bytes.
//
// Truncating rule: before a record below acknowledged_length() is overwritten with other tokens,
// the caller publishes a shorter state: a Checkpoint whose closed chunks are the first of the
// acknowledged ones, with an empty chunk range. Records of the same tokens may be written again
// (repair). A Checkpoint whose closed chunks hold other tokens than the acknowledged ones is
// refused.
class SessionFiles {
 public:
  // Makes the directory (and `root`) and empty files, all durable, and takes the lock. There is
  // no session to open until the first Checkpoint. kInvalidArgument: a bad name or shape, or a
  // session of that name exists; what a crash during its creation, first
  // checkpoint or deletion left is replaced.
  // `store_id`: RandomStoreId(), or a fixed one where runs must be repeatable.
  static Result<SessionFiles> Create(IoBackend* io, const std::string& root,
                                     const std::string& name, const SessionIdentity& identity,
                                     const StoreId& store_id);
  // kNotFound: no such session. kResourceExhausted: another process, or another object of this
  // one, has it open (tried for 1 s). kInvalidArgument: another identity, or a directory that
  // belongs to another name. kDataLoss: neither manifest can be used, with both reasons.
  static Result<OpenedSession> Open(IoBackend* io, const std::string& root, const std::string& name,
                                    const SessionIdentity& identity);
  ~SessionFiles();
  SessionFiles(SessionFiles&&) noexcept;
  SessionFiles& operator=(SessionFiles&&) noexcept;

  // For reads and writes of records at RecordOffset, and for Allocate.
  int data_file() const;
  const std::string& directory() const;
  const HistoryShape& shape() const;
  // Of the last acknowledged checkpoint; 0 before the first.
  uint64_t generation() const;
  int64_t acknowledged_length() const;  // tokens
  // What new records are stamped with in the RecordTable: generation() + 1.
  uint64_t next_generation() const { return generation() + 1; }
  // An fsync failed: nothing written since the last checkpoint can be trusted, and this object
  // takes no further one. Reopen the session.
  bool failed() const;

  // Publishes `state`. Records of chunks [first_chunk, end_chunk) are new since the last
  // checkpoint, their writes have completed; the range holds every closed chunk of `state` that
  // was not acknowledged, and nothing beyond the closed chunks. `table` holds all closed chunks;
  // generation 0 says that a record is not there. kOk: acknowledged, durable. kInvalidArgument: a
  // rule above is broken. kResourceExhausted (disk full), kIoError: nothing changed, the last
  // acknowledged state stands, and unless failed() the call may be repeated later.
  Status Checkpoint(const SessionState& state, const RecordTable& table, int64_t first_chunk,
                    int64_t end_chunk);

 private:
  struct Impl;
  explicit SessionFiles(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What Open had to leave out. Nothing of it is an error: missing K/V is computed again.
struct OpenReport {
  // What is wrong with the other manifest; empty if nothing. If it was the newer one, the state is
  // that of the checkpoint before.
  std::string other_slot;
  int64_t damaged_entries = 0;  // unreadable, wrong checksum, another session's, too new
  int64_t stale_chunks = 0;     // sound entries that are not those the manifest speaks of
  bool tail_damaged = false;    // K/V of the unfinished chunk
};

struct OpenedSession {
  SessionFiles files;
  SessionState state;
  // Closed chunks. A chunk whose index is not wholly as acknowledged has generation 0 in every
  // layer.
  RecordTable table;
  OpenReport report;
};

}  // namespace hga

#endif  // HGA_STORE_SESSION_H_
