// SPDX-License-Identifier: Apache-2.0
// What happened to a simulated disk, in order, and what it would hold had the power gone in
// between.
#ifndef HGA_STORE_RIGS_SIM_LOG_H_
#define HGA_STORE_RIGS_SIM_LOG_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace hga::rigs {

// A disk tears a write at these boundaries.
inline constexpr int64_t kSectorBytes = 512;

// Names and bytes at one moment.
struct SimContent {
  static constexpr uint64_t kDirectory = 0;
  std::map<std::string, uint64_t> names;  // path -> number of the file, or kDirectory
  std::map<uint64_t, std::vector<std::byte>> files;
};

// Which operations that no sync covers a power cut keeps.
enum class CrashKeep {
  kAll,
  kNone,
  kOne,     // only number `which`
  kAllBut,  // all except number `which`
  kRandom,  // each with probability 1/2, by the seed
};
struct CrashChoice {
  CrashKeep keep = CrashKeep::kNone;
  int which = 0;  // of Pending(event)
  uint64_t seed = 1;
  // 0: kept writes are whole. Otherwise the last kept one lost some of its pieces of so many
  // bytes: 512 or 4096.
  int64_t tear = 0;
};

// Events are numbered from 0; "at event n" means after the first n of them.
//
// Durable is: a write that had ended when its file was synced; a size set before its file was
// synced; a name made, removed or renamed before a sync of its directory (of a rename: of the
// directory of the new name). Anything else is pending, one by one, in any combination: names do
// not wait for each other or for bytes. A rename is whole or did not happen.
class SimLog {
 public:
  // With `keep` false nothing is kept, and there are no crash images.
  SimLog(SimContent base, bool keep) : base_(std::move(base)), keep_(keep) {}

  void Create(const std::string& path, uint64_t file);
  void MakeDirectory(const std::string& path);
  void Remove(const std::string& path);
  void Rename(const std::string& from, const std::string& to, uint64_t file);
  void SetSize(uint64_t file, int64_t bytes);
  // A write starts; its number is for EndWrite.
  size_t StartWrite(uint64_t file, int64_t offset, std::span<const std::byte> data);
  // It ended with these bytes at this place, which may not be those it started with.
  void EndWrite(size_t write, int64_t offset, std::span<const std::byte> data);
  void Sync(uint64_t file);
  // A sync failed: what is pending of the file is not made durable by any later one.
  void FailSync(uint64_t file);
  void SyncDirectory(const std::string& path);
  // From outside and durable at once.
  void Replace(uint64_t file, std::span<const std::byte> bytes);

  size_t events() const { return events_.size(); }
  int Pending(size_t event) const;
  SimContent Crash(size_t event, const CrashChoice& choice) const;

 private:
  enum class Kind {
    kCreate,
    kMakeDirectory,
    kRemove,
    kRename,
    kSetSize,
    kStartWrite,
    kEndWrite,
    kSync,
    kFailSync,
    kSyncDirectory,
    kReplace,
  };
  struct Event {
    Kind kind = Kind::kCreate;
    uint64_t file = 0;
    int64_t offset = 0;  // or size
    size_t write = 0;    // kEndWrite: the start it belongs to
    std::string path = {};
    std::string to = {};
    std::vector<std::byte> data = {};
  };

  void Add(Event event) {
    if (keep_) events_.push_back(std::move(event));
  }
  // Numbers of the operations that are pending at `event`, in order.
  std::vector<size_t> PendingEvents(size_t event) const;
  // Of the first `event` events, the operations that a power cut keeps.
  std::vector<bool> Kept(size_t event, const CrashChoice& choice, std::mt19937_64* random) const;
  size_t TornWrite(size_t event, const std::vector<bool>& kept, int64_t tear) const;
  SimContent Replay(const std::vector<size_t>& order, size_t torn, int64_t tear,
                    std::mt19937_64* random) const;
  static void ApplyName(const Event& event, SimContent* content);

  SimContent base_;
  bool keep_;
  std::vector<Event> events_;
};

// The directory a path lies in: "" or "/" for names of the root, which always exists.
std::string ParentOf(const std::string& path);
bool DirectoryExists(const SimContent& content, const std::string& path);

}  // namespace hga::rigs

#endif  // HGA_STORE_RIGS_SIM_LOG_H_
