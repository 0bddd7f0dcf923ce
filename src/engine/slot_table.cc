// SPDX-License-Identifier: Apache-2.0
// Choosing, emptying and resuming slots.
#include "engine/slot_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/scheduler_impl.h"

namespace hga {

namespace {

// Tokens that two sequences begin with alike.
int64_t SharedTokens(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t n = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()).first -
         a.begin();
}

}  // namespace

SlotTable::SlotTable(Engine* engine, const SchedulerOptions& options)
    : engine_(engine), options_(&options), slots_(static_cast<size_t>(options.slots)) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].id = static_cast<int>(i);
    slots_[i].idle_since = Clock::now();
    if (!options.session_name.empty()) {
      slots_[i].session = fmt::format("{}-{}", options.session_name, i);
    }
  }
}

Status SlotTable::Open() {
  for (Slot& slot : slots_) {
    if (slot.session.empty()) continue;
    const Status status = OpenSlot(slot);
    if (status.code() == StatusCode::kDataLoss) {
      // Nothing of it can be used; the tokens come again with the next request.
      HGA_RETURN_IF_ERROR(DeleteSession(engine_->kv_options().directory, slot.session));
      HGA_RETURN_IF_ERROR(OpenSlot(slot));
    } else if (!status.ok()) {
      return status;
    }
  }
  bool enough = true;
  return options_->kv_bytes == 0 ? OkStatus() : MakeRoom(Slot{}, 0, &enough);
}

Status SlotTable::OpenSlot(Slot& slot) {
  auto made = slot.session.empty()
                  ? engine_->NewSequence(options_->attention, options_->context)
                  : engine_->OpenSession(slot.session, options_->attention, options_->context);
  HGA_RETURN_IF_ERROR(made.status());
  slot.sequence = std::move(*made);
  slot.owner = slot.length() > 0 ? slot.sequence->note().text : "";
  slot.planned_bytes = BytesOf(slot.length());
  return OkStatus();
}

int64_t SlotTable::BytesOf(int64_t tokens) const {
  if (tokens == 0) return 0;
  const MemoryPlan plan = engine_->Plan(options_->attention, tokens);
  return plan.device_bytes + plan.table_bytes;
}

int64_t SlotTable::held_bytes() const {
  int64_t bytes = 0;
  for (const Slot& slot : slots_) bytes += slot.planned_bytes;
  return bytes;
}

// The slot that keeps most of its tokens, if it keeps half of them; else an empty one; else the one
// that was idle for longest. A long document is not given up for a few tokens all prompts share.
Slot* SlotTable::Best(const GenerationRequest& request, int64_t* cached) {
  Slot* reused = nullptr;
  Slot* empty = nullptr;
  Slot* oldest = nullptr;
  *cached = 0;
  // The prompt's last token is always fed: it gives the first logits.
  const auto prompt = std::span(request.prompt).first(request.prompt.size() - 1);
  const bool may_reuse = request.reuse_prefix && !request.prompt_logprobs;
  for (Slot& slot : slots_) {
    if (slot.running != nullptr) continue;
    if (slot.length() == 0) {
      if (empty == nullptr) empty = &slot;
      continue;
    }
    if (oldest == nullptr || slot.idle_since < oldest->idle_since) oldest = &slot;
    if (!may_reuse || slot.owner != request.owner) continue;
    const int64_t common = SharedTokens(slot.sequence->tokens(), prompt);
    if (2 * common < slot.length() || common <= *cached) continue;
    reused = &slot;
    *cached = common;
  }
  if (reused != nullptr) return reused;
  if (empty != nullptr) return empty;
  if (oldest != nullptr && may_reuse && oldest->owner == request.owner) {
    *cached = SharedTokens(oldest->sequence->tokens(), prompt);
  }
  return oldest;
}

// Empties idle slots but `keep`, longest idle first, until `bytes` more fit.
Status SlotTable::MakeRoom(const Slot& keep, int64_t bytes, bool* enough) {
  while (options_->kv_bytes > 0 && held_bytes() + bytes > options_->kv_bytes) {
    Slot* oldest = nullptr;
    for (Slot& slot : slots_) {
      if (&slot == &keep || slot.running != nullptr || slot.length() == 0) continue;
      if (oldest == nullptr || slot.idle_since < oldest->idle_since) oldest = &slot;
    }
    *enough = oldest != nullptr;
    if (oldest == nullptr) return OkStatus();
    HGA_RETURN_IF_ERROR(Clear(*oldest));
  }
  *enough = true;
  return OkStatus();
}

Result<Slot*> SlotTable::Take(const GenerationRequest& request, int64_t* cached) {
  const int64_t bytes = BytesOf(static_cast<int64_t>(request.prompt.size()) + request.max_tokens);
  if (options_->kv_bytes > 0 && bytes > options_->kv_bytes) {
    return InvalidArgument(
        fmt::format("max_tokens: {} tokens need {} bytes of memory, allowed are {}",
                    request.prompt.size() + static_cast<size_t>(request.max_tokens), bytes,
                    options_->kv_bytes));
  }
  Slot* slot = Best(request, cached);
  if (slot == nullptr) return slot;
  bool enough = false;
  HGA_RETURN_IF_ERROR(MakeRoom(*slot, bytes - slot->planned_bytes, &enough));
  if (!enough) return static_cast<Slot*>(nullptr);
  HGA_RETURN_IF_ERROR(Prepare(*slot, *cached));
  slot->planned_bytes = bytes;
  slot->owner = request.owner;
  return slot;
}

Status SlotTable::Prepare(Slot& slot, int64_t keep) {
  // A sequence made anew gives the memory of the former one back.
  if (keep == 0) HGA_RETURN_IF_ERROR(Clear(slot));
  if (slot.sequence != nullptr) return slot.sequence->Truncate(keep);
  HGA_RETURN_IF_ERROR(OpenSlot(slot));
  return slot.length() > 0 ? slot.sequence->Truncate(0) : OkStatus();
}

Status SlotTable::Clear(Slot& slot) {
  if (slot.length() == 0) {
    slot.planned_bytes = 0;
    return OkStatus();
  }
  slot.sequence.reset();
  slot.planned_bytes = 0;
  slot.owner.clear();
  if (slot.session.empty()) return OkStatus();
  const Status status = DeleteSession(engine_->kv_options().directory, slot.session);
  return status.code() == StatusCode::kNotFound ? OkStatus() : status;
}

Status SlotTable::CheckName(const std::string& name) const {
  if (options_->session_name.empty()) {
    return InvalidArgument("slots can be saved and restored when sessions are kept on disk");
  }
  if (name.starts_with(options_->session_name + "-")) {
    return InvalidArgument(fmt::format(
        "a session name can't begin with \"{}-\", slots are called so", options_->session_name));
  }
  return OkStatus();
}

// A session of somebody else is treated as if it weren't there.
Status SlotTable::CheckOwner(const std::string& name, const std::string& owner) const {
  const std::string& directory = engine_->kv_options().directory;
  HGA_ASSIGN_OR_RETURN(const SessionInfo found, FindSession(directory, name));
  if (found.note == owner) return OkStatus();
  return NotFound(fmt::format("there is no session {} of this owner", name));
}

// The session is closed for the copy, which nobody else may hold meanwhile, and taken up again.
Result<int64_t> SlotTable::Save(Slot& slot, const std::string& name, const std::string& owner) {
  HGA_RETURN_IF_ERROR(CheckName(name));
  if (slot.length() == 0 || slot.owner != owner) {
    return NotFound(fmt::format("slot {} holds nothing of this owner", slot.id));
  }
  const std::string& directory = engine_->kv_options().directory;
  if (const auto there = FindSession(directory, name); there.ok()) {
    HGA_RETURN_IF_ERROR(CheckOwner(name, owner));
  }
  HGA_RETURN_IF_ERROR(slot.sequence->Checkpoint({{}, slot.owner}));
  slot.sequence.reset();
  slot.planned_bytes = 0;
  const Result<int64_t> tokens =
      CopySession(directory, slot.session, name, engine_->kv_options().disk_bytes);
  HGA_RETURN_IF_ERROR(OpenSlot(slot));
  return tokens;
}

Result<int64_t> SlotTable::Restore(Slot& slot, const std::string& name, const std::string& owner) {
  HGA_RETURN_IF_ERROR(CheckName(name));
  if (slot.length() > 0 && slot.owner != owner) {
    return NotFound(fmt::format("slot {} holds nothing of this owner", slot.id));
  }
  HGA_RETURN_IF_ERROR(CheckOwner(name, owner));
  HGA_ASSIGN_OR_RETURN(const SessionInfo info, FindSession(engine_->kv_options().directory, name));
  bool enough = false;
  HGA_RETURN_IF_ERROR(MakeRoom(slot, BytesOf(info.tokens) - slot.planned_bytes, &enough));
  if (!enough) return ResourceExhausted(fmt::format("no room for {} tokens now", info.tokens));
  HGA_RETURN_IF_ERROR(Clear(slot));
  slot.sequence.reset();
  const Result<int64_t> tokens = CopySession(engine_->kv_options().directory, name, slot.session,
                                             engine_->kv_options().disk_bytes);
  HGA_RETURN_IF_ERROR(tokens.status());
  HGA_RETURN_IF_ERROR(OpenSlot(slot));
  return slot.length();
}

}  // namespace hga
