// SPDX-License-Identifier: Apache-2.0
// Where sessions lie and how their directories are entered: names, locks, the newest manifest.
#ifndef HGA_STORE_SESSION_DIR_H_
#define HGA_STORE_SESSION_DIR_H_

#include <array>
#include <string>
#include <string_view>

#include "hga/status.h"
#include "store/io.h"
#include "store/io_file.h"
#include "store/manifest.h"

namespace hga {

inline constexpr std::string_view kRecordsName = "records";
inline constexpr std::string_view kIndexName = "index";
inline constexpr std::array<std::string_view, 2> kSlotNames = {"manifest.0", "manifest.1"};

// Base name of a session's directory: 32 hexadecimal digits made from its name.
std::string SessionDirectoryName(std::string_view session);
bool IsSessionDirectoryName(std::string_view name);
std::string Joined(std::string_view directory, std::string_view name);
// kInvalidArgument unless 1 to kMaxSessionName bytes.
Status CheckSessionName(std::string_view session);

// Held while session directories are made, entered or removed, never for long: a session that is
// being removed can't be entered. kNotFound: no such root; kResourceExhausted: somebody holds it
// for seconds.
Result<IoFile> LockRoot(IoBackend* io, const std::string& root);
// kNotFound: no such directory; kDataLoss: the session has lost this file.
Result<IoFile> OpenInSession(IoBackend* io, const std::string& directory, std::string_view name);
Result<std::array<IoFile, 2>> OpenSlots(IoBackend* io, const std::string& directory);
// The records file, opened and locked: whoever holds it owns the session. To be called under the
// lock of the root. kResourceExhausted: in use.
Result<IoFile> LockSession(IoBackend* io, const std::string& directory);
// The same, for those who don't hold the root's lock.
Result<IoFile> EnterSession(IoBackend* io, const std::string& root, const std::string& directory);
// Removes what a session consists of. The root's lock is held and nobody uses the session.
Status RemoveSession(IoBackend* io, const std::string& root, const std::string& directory);

struct NewestManifest {
  ManifestHeader header;
  Manifest manifest;
  std::string other_slot;  // what is wrong with the slot before it; empty if nothing
};

// The newest sound manifest, without its tail. kDataLoss: neither slot has one, with both reasons.
// kInvalidArgument: one has another format version. kResourceExhausted: no memory to read it.
Result<NewestManifest> ReadNewest(const std::array<IoFile, 2>& slots);
// Whether a checkpoint may have been acknowledged: not if the first one was torn and there is no
// second.
bool HasCheckpoint(const std::array<IoFile, 2>& slots);
// The tail of a manifest; empty when it has none. kDataLoss when it is damaged.
Result<std::vector<std::byte>> ReadTail(const std::array<IoFile, 2>& slots,
                                        const ManifestHeader& header);
// Writes a manifest that was read over itself, the same bytes, so that a sync reaches them.
Status RewriteSlot(const IoFile& slot, const ManifestHeader& header);
// The slot that a manifest is written to.
constexpr size_t SlotOf(uint64_t generation) { return generation % 2; }

}  // namespace hga

#endif  // HGA_STORE_SESSION_DIR_H_
