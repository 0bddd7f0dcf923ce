// SPDX-License-Identifier: Apache-2.0
// Submitting, cancelling, draining: what other threads ask of the scheduler, and its loop.
#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <utility>

#include "engine/scheduler_impl.h"

namespace hga {
namespace {

constexpr int kMostSlots = 1024;
constexpr int kMostTopLogprobs = 20;
constexpr size_t kMostOwner = 64;  // characters

Status CheckOptions(const SchedulerOptions& o, const Engine& engine) {
  HGA_RETURN_IF_ERROR(Validate(o.attention, engine.info().layers));
  const auto bad = [](const char* what, int64_t value, int64_t least, int64_t most) {
    return InvalidArgument(fmt::format("{} {}; allowed are {} to {}", what, value, least, most));
  };
  if (o.slots < 1 || o.slots > kMostSlots) return bad("slots", o.slots, 1, kMostSlots);
  // Every running sequence decodes in every pass.
  if (o.slots > engine.span()) return bad("slots", o.slots, 1, engine.span());
  if (o.max_waiting < 0) return bad("max_waiting", o.max_waiting, 0, INT32_MAX);
  if (o.max_waiting_tokens < 0) {
    return bad("max_waiting_tokens", o.max_waiting_tokens, 0, INT64_MAX);
  }
  if (o.kv_bytes < 0) return bad("kv_bytes", o.kv_bytes, 0, INT64_MAX);
  if (o.checkpoint_every < 0) return bad("checkpoint_every", o.checkpoint_every, 0, INT64_MAX);
  if (!o.session_name.empty() && engine.kv_options().directory.empty()) {
    return InvalidArgument("session_name needs a directory for K/V (EngineOptions::kv)");
  }
  return OkStatus();
}

GenerationEnd Ended(GenerationFinish finish, const GenerationRequest& request,
                    Clock::time_point since) {
  GenerationEnd end;
  end.finish = finish;
  end.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  end.queue_seconds = std::chrono::duration<double>(Clock::now() - since).count();
  return end;
}

}  // namespace

Result<std::unique_ptr<Scheduler>> Scheduler::Start(Engine* engine,
                                                    const SchedulerOptions& options) {
  SchedulerOptions full = options;
  if (full.context == 0) full.context = engine->info().max_position;
  HGA_RETURN_IF_ERROR(CheckOptions(full, *engine));
  auto scheduler = std::make_unique<SchedulerImpl>(engine, full);
  HGA_RETURN_IF_ERROR(scheduler->Open());
  return std::unique_ptr<Scheduler>(std::move(scheduler));
}

SchedulerImpl::SchedulerImpl(Engine* engine, SchedulerOptions options)
    : engine_(engine), options_(std::move(options)), table_(engine, options_) {}

Status SchedulerImpl::Open() {
  HGA_RETURN_IF_ERROR(table_.Open());
  const auto vocab = static_cast<size_t>(engine_->info().vocab);
  logits_.resize(static_cast<size_t>(options_.slots) * vocab);
  allowed_.resize((vocab + 63) / 64);
  items_.reserve(static_cast<size_t>(options_.slots));
  Publish();
  thread_ = std::thread([this] { Loop(); });
  return OkStatus();
}

SchedulerImpl::~SchedulerImpl() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status SchedulerImpl::CheckRequest(const GenerationRequest& r) const {
  const ModelInfo& info = engine_->info();
  if (r.prompt.empty()) return InvalidArgument("prompt: it has no tokens");
  for (const int32_t id : r.prompt) {
    if (id >= 0 && id < info.vocab) continue;
    return InvalidArgument(
        fmt::format("prompt: token id {}, the vocabulary has ids 0 to {}", id, info.vocab - 1));
  }
  const auto prompt = static_cast<int64_t>(r.prompt.size());
  if (r.max_tokens < 1 || r.max_tokens > options_.context - prompt) {
    return InvalidArgument(fmt::format("max_tokens: {} behind a prompt of {}, the context holds {}",
                                       r.max_tokens, prompt, options_.context));
  }
  if (r.top_logprobs < -1 || r.top_logprobs > kMostTopLogprobs) {
    return InvalidArgument(
        fmt::format("top_logprobs: {}; allowed are 0 to {}", r.top_logprobs, kMostTopLogprobs));
  }
  if (r.owner.size() > kMostOwner) {
    return InvalidArgument(
        fmt::format("owner: {} characters, allowed are {}", r.owner.size(), kMostOwner));
  }
  if (!(r.seconds >= 0)) return InvalidArgument("seconds: must be 0 or more");
  if (r.listener == nullptr) return InvalidArgument("listener: there is none");
  return Validate(r.sampling);
}

Result<uint64_t> SchedulerImpl::Submit(GenerationRequest request) {
  HGA_RETURN_IF_ERROR(CheckRequest(request));
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  const std::lock_guard lock(mutex_);
  if (draining_ || ending_) return Cancelled("no more requests are taken");
  const auto waiting = static_cast<int>(waiting_.size());
  // One that could start at once does not count as waiting.
  const bool free = request.continues || waiting + busy_ < options_.slots;
  if (!free && waiting >= options_.max_waiting + std::max(0, options_.slots - busy_)) {
    ++refused_;
    return ResourceExhausted(
        fmt::format("{} requests are waiting, allowed are {}", waiting, options_.max_waiting));
  }
  if (!free && waiting_tokens_ + tokens > options_.max_waiting_tokens) {
    ++refused_;
    return ResourceExhausted(
        fmt::format("prompts of {} tokens are waiting, with {} more they exceed {}",
                    waiting_tokens_, tokens, options_.max_waiting_tokens));
  }
  waiting_tokens_ += tokens;
  ++open_;
  waiting_.push_back({++last_id_, std::move(request), Clock::now()});
  published_.waiting = static_cast<int>(waiting_.size());
  published_.waiting_tokens = waiting_tokens_;
  work_.notify_all();
  return last_id_;
}

void SchedulerImpl::Cancel(uint64_t request) {
  const std::lock_guard lock(mutex_);
  if (request == 0 || request > last_id_) return;
  cancelled_.insert(request);
  work_.notify_all();
}

void SchedulerImpl::Drain(double seconds) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto none = [this] { return open_ == 0; };
  if (idle_.wait_for(lock, std::chrono::duration<double>(seconds), none)) return;
  for (uint64_t id = 1; id <= last_id_; ++id) cancelled_.insert(id);
  work_.notify_all();
  idle_.wait(lock, none);
}

SchedulerStats SchedulerImpl::stats() const {
  const std::lock_guard lock(mutex_);
  SchedulerStats stats = published_;
  stats.refused = refused_;
  return stats;
}

std::vector<SlotInfo> SchedulerImpl::slots() const {
  const std::lock_guard lock(mutex_);
  return published_slots_;
}

Result<int64_t> SchedulerImpl::WithSlot(int slot,
                                        const std::function<Result<int64_t>(Slot&)>& order) {
  if (slot < 0 || slot >= options_.slots) {
    return InvalidArgument(fmt::format("slot {}; there are 0 to {}", slot, options_.slots - 1));
  }
  std::promise<Result<int64_t>> promise;
  auto answer = promise.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return Cancelled("the scheduler ends");
    commands_.push_back([&] {
      Slot& s = table_.slots()[static_cast<size_t>(slot)];
      promise.set_value(
          s.running == nullptr ? order(s) : InvalidArgument(fmt::format("slot {} is busy", slot)));
    });
    work_.notify_all();
  }
  return answer.get();
}

Result<int64_t> SchedulerImpl::SaveSlot(int slot, const std::string& name,
                                        const std::string& owner) {
  return WithSlot(slot, [&](Slot& s) { return table_.Save(s, name, owner); });
}

Result<int64_t> SchedulerImpl::RestoreSlot(int slot, const std::string& name,
                                           const std::string& owner) {
  return WithSlot(slot, [&](Slot& s) { return table_.Restore(s, name, owner); });
}

Result<int64_t> SchedulerImpl::EraseSlot(int slot, const std::string& owner) {
  return WithSlot(slot, [&](Slot& s) -> Result<int64_t> {
    const int64_t tokens = s.length();
    if (tokens > 0 && s.owner != owner) {
      return NotFound(fmt::format("slot {} holds nothing of this owner", slot));
    }
    HGA_RETURN_IF_ERROR(table_.Clear(s));
    return tokens;
  });
}

void SchedulerImpl::Loop() {
  while (TakeOrders()) {
    Admit();
    Pass();
    Publish();
  }
  for (Slot& slot : table_.slots()) {
    if (slot.running != nullptr) Finish(slot, GenerationFinish::kCancelled, OkStatus());
  }
  std::deque<Waiting> waiting;
  std::deque<std::function<void()>> commands;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
    commands.swap(commands_);
  }
  for (const Waiting& w : waiting) {
    Tell(w.request, Ended(GenerationFinish::kCancelled, w.request, w.since));
  }
  for (const auto& command : commands) command();
}

bool SchedulerImpl::TakeOrders() {
  std::deque<std::function<void()>> commands;
  {
    std::unique_lock lock(mutex_);
    work_.wait(lock,
               [this] { return ending_ || busy_ > 0 || !waiting_.empty() || !commands_.empty(); });
    if (ending_) return false;
    commands.swap(commands_);
  }
  for (const auto& command : commands) command();
  EndCancelled();
  EndLate();
  return true;
}

void SchedulerImpl::EndCancelled() {
  std::set<uint64_t> cancelled;
  std::vector<Waiting> gone;
  {
    const std::lock_guard lock(mutex_);
    cancelled.swap(cancelled_);
    if (cancelled.empty()) return;
    for (auto w = waiting_.begin(); w != waiting_.end();) {
      if (!cancelled.contains(w->id)) {
        ++w;
        continue;
      }
      waiting_tokens_ -= static_cast<int64_t>(w->request.prompt.size());
      gone.push_back(std::move(*w));
      w = waiting_.erase(w);
    }
  }
  for (const Waiting& w : gone) {
    ++counts_.cancelled;
    Tell(w.request, Ended(GenerationFinish::kCancelled, w.request, w.since));
  }
  for (Slot& slot : table_.slots()) {
    if (slot.running != nullptr && cancelled.contains(slot.running->id)) {
      Finish(slot, GenerationFinish::kCancelled, OkStatus());
    }
  }
}

void SchedulerImpl::EndLate() {
  const auto now = Clock::now();
  const auto is_late = [now](const GenerationRequest& request, Clock::time_point since) {
    return request.seconds > 0 &&
           std::chrono::duration<double>(now - since).count() > request.seconds;
  };
  const auto error = [](const GenerationRequest& request) {
    return DeadlineExceeded(fmt::format("not finished after {:.1f} s", request.seconds));
  };
  std::vector<Waiting> late;
  {
    const std::lock_guard lock(mutex_);
    for (auto w = waiting_.begin(); w != waiting_.end();) {
      if (!is_late(w->request, w->since)) {
        ++w;
        continue;
      }
      waiting_tokens_ -= static_cast<int64_t>(w->request.prompt.size());
      late.push_back(std::move(*w));
      w = waiting_.erase(w);
    }
  }
  for (const Waiting& w : late) {
    ++counts_.failed;
    GenerationEnd end = Ended(GenerationFinish::kError, w.request, w.since);
    end.error = error(w.request);
    Tell(w.request, end);
  }
  for (Slot& slot : table_.slots()) {
    const RunningRequest* run = slot.running.get();
    if (run == nullptr || !is_late(run->request, run->submitted)) continue;
    Finish(slot, GenerationFinish::kError, error(run->request));
  }
}

// In the order of arrival; the first that finds no slot or no room keeps those behind it waiting.
void SchedulerImpl::Admit() {
  while (true) {
    Waiting* first = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      first = &waiting_.front();  // only this thread removes it
    }
    int64_t cached = 0;
    const Result<Slot*> slot = table_.Take(first->request, &cached);
    if (slot.ok() && *slot == nullptr) return;
    Waiting taken;
    {
      const std::lock_guard lock(mutex_);
      taken = std::move(waiting_.front());
      waiting_.pop_front();
      waiting_tokens_ -= static_cast<int64_t>(taken.request.prompt.size());
      if (slot.ok()) ++busy_;
    }
    if (slot.ok()) {
      StartIn(**slot, std::move(taken), cached);
      continue;
    }
    ++counts_.failed;
    GenerationEnd end = Ended(GenerationFinish::kError, taken.request, taken.since);
    end.error = slot.status();
    Tell(taken.request, end);
  }
}

void SchedulerImpl::StartIn(Slot& slot, Waiting&& waiting, int64_t cached) {
  slot.running = std::make_unique<RunningRequest>(std::move(waiting.request));
  RunningRequest& run = *slot.running;
  run.id = waiting.id;
  run.cached = cached;
  run.submitted = waiting.since;
  run.started = Clock::now();
  counts_.prompt_tokens += run.prompt();
  counts_.cached_tokens += cached;
}

// What slots() and stats() say is true by then.
void SchedulerImpl::Tell(const GenerationRequest& request, const GenerationEnd& end) {
  Publish();
  request.listener->OnEnd(end);
  const std::lock_guard lock(mutex_);
  --open_;
  idle_.notify_all();
}

void SchedulerImpl::Publish() {
  SchedulerStats stats = counts_;
  std::vector<SlotInfo> infos;
  for (const Slot& slot : table_.slots()) {
    SlotInfo info;
    info.id = slot.id;
    info.busy = slot.running != nullptr;
    info.tokens = slot.length();
    info.capacity = slot.sequence == nullptr ? 0 : slot.sequence->capacity();
    info.request = info.busy ? slot.running->id : 0;
    info.session = slot.session;
    if (!info.busy) {
      info.idle_seconds = std::chrono::duration<double>(Clock::now() - slot.idle_since).count();
    }
    stats.running += info.busy ? 1 : 0;
    stats.held_tokens += info.tokens;
    infos.push_back(std::move(info));
  }
  stats.held_bytes = table_.held_bytes();
  stats.kv = engine_->kv_stats();
  const std::lock_guard lock(mutex_);
  busy_ = stats.running;
  stats.waiting = static_cast<int>(waiting_.size());
  stats.waiting_tokens = waiting_tokens_;
  published_ = std::move(stats);
  published_slots_ = std::move(infos);
}

}  // namespace hga
