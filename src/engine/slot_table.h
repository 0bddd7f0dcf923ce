// SPDX-License-Identifier: Apache-2.0
// The sequences a scheduler holds: which of them serves a prompt best, what they take, where they
// are saved.
#ifndef HGA_ENGINE_SLOT_TABLE_H_
#define HGA_ENGINE_SLOT_TABLE_H_

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hga/scheduler.h"

namespace hga {

struct RunningRequest;

// A place for one sequence. Without one it is empty.
struct Slot {
  int id = 0;
  std::unique_ptr<Sequence> sequence;
  std::string session;  // on disk, "" without one
  std::string owner;    // of its tokens
  std::unique_ptr<RunningRequest> running;
  std::chrono::steady_clock::time_point idle_since;
  int64_t planned_bytes = 0;

  int64_t length() const { return sequence == nullptr ? 0 : sequence->length(); }
};

// One thread.
class SlotTable {
 public:
  SlotTable(Engine* engine, const SchedulerOptions& options);
  // Takes up the sessions of a former process; what can't be read again begins empty.
  Status Open();

  std::vector<Slot>& slots() { return slots_; }
  const std::vector<Slot>& slots() const { return slots_; }

  // An idle slot for `prompt`, its sequence cut to what it shares with it and `*cached` long; other
  // idle slots are given up where bytes are short. nullptr: none is free, or there is no room
  // beside the running ones. kInvalidArgument: never will be.
  Result<Slot*> Take(const GenerationRequest& request, int64_t* cached);
  // The tokens a slot holds, and its session, are gone.
  Status Clear(Slot& slot);
  // A slot's tokens once more as session `name`, and from there. Both as Scheduler says.
  Result<int64_t> Save(Slot& slot, const std::string& name, const std::string& owner);
  Result<int64_t> Restore(Slot& slot, const std::string& name, const std::string& owner);
  // Bytes of memory of `tokens` in a slot.
  int64_t BytesOf(int64_t tokens) const;
  int64_t held_bytes() const;

 private:
  Slot* Best(const GenerationRequest& request, int64_t* cached);
  Status MakeRoom(const Slot& keep, int64_t bytes, bool* enough);
  Status Prepare(Slot& slot, int64_t keep);
  Status OpenSlot(Slot& slot);
  Status CheckName(const std::string& name) const;
  Status CheckOwner(const std::string& name, const std::string& owner) const;

  Engine* engine_;
  const SchedulerOptions* options_;
  std::vector<Slot> slots_;
};

}  // namespace hga

#endif  // HGA_ENGINE_SLOT_TABLE_H_
