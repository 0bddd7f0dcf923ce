// SPDX-License-Identifier: Apache-2.0
// The engine's way with the store, without a model: sequences whose K/V describes itself are fed,
// cut, saved and resumed as src/engine does it, and every cell that is read is compared.
#ifndef HGA_TESTS_FAULT_RIG_ENGINE_H_
#define HGA_TESTS_FAULT_RIG_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/kv_space.h"
#include "backend/host_device.h"
#include "hga/config.h"
#include "tests/fault/kv_words.h"
#include "tests/fault/rig_disk.h"

namespace hga::rigs {

struct RigConfig {
  int64_t slots = 96;  // cells beside windows and samples; 0: all in memory
  int64_t disk_bytes = 0;
  int single_buffers = 6, whole_buffers = 2;
  int span = 160;
  int64_t capacity = 4096;  // tokens of a sequence
};

// What was compared, kept outside of the store.
struct RigReport {
  int64_t words = 0;
  int64_t wrong = 0;
  std::string first;       // the first wrong word, explained
  int64_t recomputed = 0;  // tokens
};

// A sequence and what is known of it outside of the store.
struct RigSequence {
  int number = 0;       // in the words
  std::string session;  // its name; empty: not saved
  std::unique_ptr<DurableSequence> durable;
  std::unique_ptr<KvHistory> history;
  std::vector<int32_t> tokens;
  std::array<CellFetch, 4> fetches;
  // Tokens of the last checkpoint that was acknowledged, and of those that were begun since.
  std::vector<int32_t> acknowledged;
  std::vector<std::vector<int32_t>> begun;
  int64_t length() const { return history->length(); }
};

class RigEngine {
 public:
  // Layer 0 is resident, layer 1 routed, layer 2 sampled.
  static AttentionConfig Rules();
  // `report` and `disk` outlive it. `seed`: which cells attention wants.
  static Result<std::unique_ptr<RigEngine>> Open(RigDisk* disk, const RigConfig& config,
                                                 uint64_t seed, RigReport* report);

  Result<std::unique_ptr<RigSequence>> NewSequence(int number);
  // Found or made. What of its K/V is lost is computed again.
  Result<std::unique_ptr<RigSequence>> OpenSession(int number, const std::string& name);

  struct Item {
    RigSequence* sequence;
    std::span<const int32_t> tokens;
  };
  // Spans of several sequences, layer by layer.
  Status Run(std::span<const Item> items);
  // One after the other, in spans.
  Status Feed(RigSequence& sequence, std::span<const int32_t> tokens);
  Status Truncate(RigSequence& sequence, int64_t length);
  Status Checkpoint(RigSequence& sequence);
  // Reads and compares all there is.
  Status Verify(RigSequence& sequence);

  KvSpace& space() { return *space_; }
  KvTiers& tiers() { return *space_->tiers(); }
  const RigConfig& config() const { return config_; }
  // Called when a checkpoint is begun (false) and acknowledged (true); may be empty.
  std::function<void(const RigSequence&, bool)> on_checkpoint;

 private:
  using Cells = std::vector<std::pair<int, int64_t>>;  // KV head, cell

  RigEngine(const RigConfig& config, uint64_t seed, RigReport* report)
      : config_(config), random_(seed), report_(report) {}
  Status RunOnce(std::span<const Item> items, RigSequence** failed);
  Status Begin(const Item& item);
  void Write(const Item& item, int layer);
  Status Attend(const Item& item, int layer);
  Status AttendRouted(const Item& item);
  Status AttendSampled(const Item& item);
  void Prefetch(RigSequence& sequence, int layer, int64_t end);
  int64_t ListRouted(const Item& item, int64_t position, CellFetch* fetch, Cells* cells);
  Status Recover(RigSequence& sequence);
  Status Resume(RigSequence& sequence, std::span<const int32_t> tokens);
  Status CutAtLoss(RigSequence& sequence, bool all);
  Status Replay(RigSequence& sequence, std::span<const int32_t> tokens);
  Status TakeCheckpoint(RigSequence& sequence);
  Status VerifyOnce(RigSequence& sequence);
  Status VerifyLayer(RigSequence& sequence, int layer);
  void Cut(RigSequence& sequence, int64_t length);
  // Compares the rows of a cell that `tokens` go to.
  void Compare(const RigSequence& sequence, std::span<const int32_t> more, int layer, int kv_head,
               int64_t cell);
  void CompareAll(const Item& item, int layer, const Cells& cells);
  uint64_t Below(uint64_t end) { return random_() % end; }

  RigConfig config_;
  std::mt19937_64 random_;
  RigReport* report_;
  HostDevice device_;
  std::unique_ptr<KvSpace> space_;
  bool replaying_ = false;
  Cells now_, next_, others_;
};

// Of all rig sessions.
SessionIdentity RigIdentity();

}  // namespace hga::rigs

#endif  // HGA_TESTS_FAULT_RIG_ENGINE_H_
