// SPDX-License-Identifier: Apache-2.0
// One pass of the scheduler: every running answer gets its next token, and the rest of the span
// goes to prompts, so that no answer waits for more than one span.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "engine/scheduler_impl.h"

namespace hga {
namespace {

constexpr int64_t kLogprobRows = 32;  // of a prompt, at a time: each needs a row of logits
constexpr int64_t kChunk = 64;        // spans that end where chunks do have whole tiles

double SecondsBetween(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

double LogSumExp(std::span<const float> logits) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - best);
  return best + std::log(sum);
}

bool AllZero(std::span<const uint64_t> words) {
  return std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == 0; });
}

// Whether an answer that must match a grammar can have no further token.
bool Complete(const RunningRequest& run) {
  Constraint* const constraint = run.request.constraint.get();
  return constraint != nullptr && constraint->MayEnd() && AllZero(constraint->Allowed());
}

// What the newest step of a sequence looked at.
void Trace(const Sequence& sequence, const ModelInfo& info, const AttentionStats& before,
           GeneratedToken* token) {
  for (int layer = 0; layer < info.layers; ++layer) {
    GeneratedToken::LayerPlan plan{layer, {}};
    for (int head = 0; head < info.kv_heads; ++head) {
      const auto groups = sequence.LastPlan(layer, head);
      plan.groups.insert(plan.groups.end(), groups.begin(), groups.end());
    }
    if (plan.groups.empty()) continue;
    std::sort(plan.groups.begin(), plan.groups.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    plan.groups.erase(std::unique(plan.groups.begin(), plan.groups.end(),
                                  [](const auto& a, const auto& b) { return a.first == b.first; }),
                      plan.groups.end());
    token->plans.push_back(std::move(plan));
  }
  const AttentionStats::Sums& now = sequence.stats().all;
  const double context = now.context - before.all.context;
  if (context > 0) token->visible_share = (now.visible - before.all.visible) / context;
}

// Whether the sequence still ends where the item's tokens belong. A repair that failed cuts it.
bool Follows(const Slot& slot, const BatchItem& item) {
  const RunningRequest& run = *slot.running;
  const int64_t at = run.answer.empty()
                         ? item.tokens.data() - run.request.prompt.data()
                         : run.prompt() + static_cast<int64_t>(run.answer.size()) - 1;
  return slot.length() == at;
}

}  // namespace

GeneratedToken LogprobsOf(std::span<const float> logits, int32_t id, int top) {
  GeneratedToken token;
  token.id = id;
  if (top < 0) return token;
  const double norm = LogSumExp(logits);
  const auto logprob = [&](int32_t i) {
    return static_cast<float>(logits[static_cast<size_t>(i)] - norm);
  };
  token.logprob = logprob(id);
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t n = std::min(static_cast<size_t>(top), ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n), ids.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  for (size_t i = 0; i < n; ++i) token.top.push_back({ids[i], logprob(ids[i])});
  return token;
}

void SchedulerImpl::Pass() {
  items_.clear();
  int64_t rows = 0;  // of logits
  AddDecode(&items_, &rows);
  AddPrefill(&items_, &rows);
  if (items_.empty()) return;
  // The rows' buffer may have grown meanwhile.
  const auto vocab = static_cast<size_t>(engine_->info().vocab);
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(rows) * vocab));
  size_t row = 0;
  for (BatchItem& item : items_) {
    size_t n = item.wanted == LogitsWanted::kNone ? 0 : 1;
    if (item.wanted == LogitsWanted::kAll) n = item.tokens.size();
    item.logits = std::span(logits_).subspan(row * vocab, n * vocab);
    row += n;
  }
  RunBatch(items_);
}

void SchedulerImpl::KeepStats(Slot& slot) {
  slot.running->before = slot.sequence->stats();
  slot.running->kv_before = engine_->kv_stats();
}

void SchedulerImpl::AddDecode(std::vector<BatchItem>* items, int64_t* rows) {
  for (Slot& slot : table_.slots()) {
    if (slot.running == nullptr || slot.running->answer.empty()) continue;
    RunningRequest& run = *slot.running;
    if (run.request.trace_plans) KeepStats(slot);
    const std::span<const int32_t> last(&run.answer.back(), 1);
    items->push_back({slot.sequence.get(), last, LogitsWanted::kLast, {}});
    ++*rows;
  }
}

// One prompt gets all the room there is, in turns; what it leaves goes to the next.
void SchedulerImpl::AddPrefill(std::vector<BatchItem>* items, int64_t* rows) {
  std::vector<Slot>& slots = table_.slots();
  int64_t room = engine_->span() - static_cast<int64_t>(items->size());
  const size_t first = next_prefill_;
  bool served = false;
  for (size_t i = 0; i < slots.size() && room > 0; ++i) {
    const size_t at = (first + i) % slots.size();
    Slot& slot = slots[at];
    if (slot.running == nullptr || !slot.running->answer.empty()) continue;
    if (!AddPrompt(slot, room, items, rows)) break;
    room -= static_cast<int64_t>(items->back().tokens.size());
    if (!served) next_prefill_ = (at + 1) % slots.size();
    served = true;
  }
}

bool SchedulerImpl::AddPrompt(Slot& slot, int64_t room, std::vector<BatchItem>* items,
                              int64_t* rows) {
  RunningRequest& run = *slot.running;
  const int64_t at = slot.length();
  const int64_t left = run.prompt() - at;
  int64_t n = std::min(left, room);
  if (run.request.prompt_logprobs) n = std::min(n, kLogprobRows);
  // Whole chunks, if more follow.
  if (n < left && n >= kChunk) n -= (at + n) % kChunk;
  // Plans are kept of single tokens: the last one of a prompt chooses the answer's first.
  if (run.request.trace_plans && n == left && n > 1) --n;
  if (n <= 0) return false;
  const bool ends = n == left;
  LogitsWanted wanted = ends ? LogitsWanted::kLast : LogitsWanted::kNone;
  if (run.request.prompt_logprobs) wanted = LogitsWanted::kAll;
  if (run.request.trace_plans) KeepStats(slot);
  items->push_back(
      {slot.sequence.get(),
       std::span(run.request.prompt).subspan(static_cast<size_t>(at), static_cast<size_t>(n)),
       wanted,
       {}});
  *rows += wanted == LogitsWanted::kAll ? n : ends;
  return true;
}

// A batch that fails is taken apart, so that one sequence's trouble is nobody else's.
void SchedulerImpl::RunBatch(std::span<const BatchItem> items) {
  if (items.size() == 1) {
    Slot& slot = SlotOf(items.front());
    if (!Follows(slot, items.front())) {
      return Finish(slot, GenerationFinish::kError, DataLoss("what was read of it is lost"));
    }
  }
  ++counts_.passes;
  const Status status = engine_->Forward(items);
  if (!status.ok() && items.size() > 1) {
    for (size_t i = 0; i < items.size(); ++i) RunBatch(items.subspan(i, 1));
    return;
  }
  for (const BatchItem& item : items) {
    Slot& slot = SlotOf(item);
    if (status.ok()) {
      Fed(slot, item);
    } else {
      Finish(slot, GenerationFinish::kError, status);
    }
  }
}

Slot& SchedulerImpl::SlotOf(const BatchItem& item) {
  return *std::ranges::find_if(table_.slots(),
                               [&](const Slot& s) { return s.sequence.get() == item.sequence; });
}

void SchedulerImpl::Fed(Slot& slot, const BatchItem& item) {
  const auto vocab = static_cast<size_t>(engine_->info().vocab);
  if (slot.running->answer.empty()) {
    FedPrompt(slot, item);
    if (slot.length() < slot.running->prompt()) return;
  }
  NextToken(slot, item.logits.last(vocab));
}

void SchedulerImpl::FedPrompt(Slot& slot, const BatchItem& item) {
  RunningRequest& run = *slot.running;
  const auto vocab = static_cast<size_t>(engine_->info().vocab);
  const int64_t end = slot.length();
  if (run.request.prompt_logprobs) {
    const int64_t begin = end - static_cast<int64_t>(item.tokens.size());
    for (int64_t i = begin; i < end && i + 1 < run.prompt(); ++i) {
      run.prompt_logprobs.push_back(LogprobsOf(
          item.logits.subspan(static_cast<size_t>(i - begin) * vocab, vocab),
          run.request.prompt[static_cast<size_t>(i + 1)], std::max(0, run.request.top_logprobs)));
    }
  }
  run.request.listener->OnPrefill(
      {run.prompt(), run.cached, end, SecondsBetween(run.started, Clock::now())});
  if (end < run.prompt()) return;
  if (run.request.prompt_logprobs) run.request.listener->OnPromptLogprobs(run.prompt_logprobs);
  Save(slot);
}

void SchedulerImpl::NextToken(Slot& slot, std::span<const float> logits) {
  RunningRequest& run = *slot.running;
  GeneratedToken token;
  if (!Choose(run, logits, &token)) {
    Finish(slot, GenerationFinish::kError, Internal("no token can be chosen from these logits"));
    return;
  }
  if (run.answer.empty()) run.first_token = Clock::now();
  const auto& stops = run.request.stop_ids;
  if (std::find(stops.begin(), stops.end(), token.id) != stops.end()) {
    Finish(slot, GenerationFinish::kStop, OkStatus(), token.id);
    return;
  }
  if (run.request.constraint != nullptr) {
    if (const Status status = run.request.constraint->Accept(token.id); !status.ok()) {
      Finish(slot, GenerationFinish::kError, status);
      return;
    }
  }
  if (run.request.trace_plans) {
    Trace(*slot.sequence, engine_->info(), run.before, &token);
    const KvStats kv = engine_->kv_stats();
    token.cells_wanted = kv.cells_wanted - run.kv_before.cells_wanted;
    token.cells_in_memory = kv.cells_in_memory - run.kv_before.cells_in_memory;
  }
  run.answer.push_back(token.id);
  ++counts_.answer_tokens;
  if (!run.request.listener->OnToken(token)) {
    Finish(slot, GenerationFinish::kStop, OkStatus());
  } else if (Complete(run)) {
    Finish(slot, GenerationFinish::kStop, OkStatus());
  } else if (static_cast<int64_t>(run.answer.size()) >= run.request.max_tokens) {
    Finish(slot, GenerationFinish::kLength, OkStatus());
  } else if (options_.checkpoint_every > 0 && ++run.unsaved >= options_.checkpoint_every) {
    Save(slot);
  }
}

// False when there is nothing to choose from.
bool SchedulerImpl::Choose(RunningRequest& run, std::span<const float> logits,
                           GeneratedToken* token) {
  std::span<const uint64_t> allowed;
  if (run.request.constraint != nullptr) {
    const std::span<const uint64_t> bits = run.request.constraint->Allowed();
    std::ranges::fill(allowed_, 0);  // bits beyond the tokenizer's, left by another's stop tokens
    std::copy_n(bits.begin(), std::min(bits.size(), allowed_.size()), allowed_.begin());
    if (run.request.constraint->MayEnd()) {
      for (const int32_t id : run.request.stop_ids) {
        if (id >= 0 && id < static_cast<int32_t>(logits.size())) {
          allowed_[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
        }
      }
    }
    allowed = allowed_;
  }
  const int32_t id = run.sampler.Sample(logits, run.request.prompt, run.answer, allowed);
  if (id < 0) return false;
  *token = LogprobsOf(logits, id, run.request.top_logprobs);
  return true;
}

// A checkpoint that fails costs no answer: the store says so in its statistics.
void SchedulerImpl::Save(Slot& slot) {
  if (slot.session.empty()) return;
  slot.running->unsaved = 0;
  const Status status = slot.sequence->Checkpoint({slot.running->sampler.state(), slot.owner});
  counts_.failed_checkpoints += status.ok() ? 0 : 1;
}

void SchedulerImpl::Finish(Slot& slot, GenerationFinish finish, Status error, int32_t stop_id) {
  Save(slot);
  const std::unique_ptr<RunningRequest> run = std::move(slot.running);
  const auto now = Clock::now();
  slot.idle_since = now;
  slot.planned_bytes = table_.BytesOf(slot.length());
  GenerationEnd end;
  end.finish = finish;
  end.error = std::move(error);
  end.stop_id = stop_id;
  end.prompt_tokens = run->prompt();
  end.cached_tokens = run->cached;
  end.answer_tokens = static_cast<int64_t>(run->answer.size());
  end.queue_seconds = SecondsBetween(run->submitted, run->started);
  const bool answered = !run->answer.empty() || stop_id >= 0;
  end.prefill_seconds = SecondsBetween(run->started, answered ? run->first_token : now);
  end.decode_seconds = answered ? SecondsBetween(run->first_token, now) : 0;
  switch (finish) {
    case GenerationFinish::kCancelled:
      ++counts_.cancelled;
      break;
    case GenerationFinish::kError:
      ++counts_.failed;
      break;
    default:
      ++counts_.finished;
  }
  Tell(run->request, end);
}

}  // namespace hga
