// SPDX-License-Identifier: Apache-2.0
// The scheduler's thread and what it works on: requests that wait, slots, one batch after another.
#ifndef HGA_ENGINE_SCHEDULER_IMPL_H_
#define HGA_ENGINE_SCHEDULER_IMPL_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/slot_table.h"
#include "hga/scheduler.h"

namespace hga {

using Clock = std::chrono::steady_clock;

// A request that has a slot. Its sequence holds the first `fed` tokens of prompt + answer.
struct RunningRequest {
  uint64_t id = 0;
  GenerationRequest request;
  Sampler sampler;
  std::vector<int32_t> answer;
  int64_t cached = 0;  // prompt tokens that were there
  int64_t prompt() const { return static_cast<int64_t>(request.prompt.size()); }
  Clock::time_point submitted, started, first_token;
  int64_t unsaved = 0;  // answer tokens since the last checkpoint
  std::vector<GeneratedToken> prompt_logprobs;
  std::span<float> logits;  // of the pass under way
  // Before the pass; only for traces.
  AttentionStats before;
  KvStats kv_before;

  explicit RunningRequest(GenerationRequest&& r)
      : request(std::move(r)), sampler(request.sampling) {}
};

class SchedulerImpl final : public Scheduler {
 public:
  SchedulerImpl(Engine* engine, SchedulerOptions options);
  ~SchedulerImpl() override;
  // Takes up sessions and starts the thread.
  Status Open();

  Result<uint64_t> Submit(GenerationRequest request) override;
  void Cancel(uint64_t request) override;
  void Drain(double seconds) override;
  SchedulerStats stats() const override;
  std::vector<SlotInfo> slots() const override;
  const SchedulerOptions& options() const override { return options_; }
  Result<int64_t> SaveSlot(int slot, const std::string& name, const std::string& owner) override;
  Result<int64_t> RestoreSlot(int slot, const std::string& name, const std::string& owner) override;
  Result<int64_t> EraseSlot(int slot, const std::string& owner) override;

 private:
  struct Waiting {
    uint64_t id;
    GenerationRequest request;
    Clock::time_point since;
  };

  void Loop();
  Status CheckRequest(const GenerationRequest& request) const;
  // Between two passes, on the thread. False: the scheduler ends.
  bool TakeOrders();
  void EndCancelled();
  void EndLate();
  void Admit();
  void StartIn(Slot& slot, Waiting&& waiting, int64_t cached);
  void Pass();
  void AddDecode(std::vector<BatchItem>* items, int64_t* rows);
  void AddPrefill(std::vector<BatchItem>* items, int64_t* rows);
  bool AddPrompt(Slot& slot, int64_t room, std::vector<BatchItem>* items, int64_t* rows);
  void RunBatch(std::span<const BatchItem> items);
  Slot& SlotOf(const BatchItem& item);
  // What a slot's request makes of the tokens that were fed.
  void Fed(Slot& slot, const BatchItem& item);
  void FedPrompt(Slot& slot, const BatchItem& item);
  void NextToken(Slot& slot, std::span<const float> logits);
  bool Choose(RunningRequest& run, std::span<const float> logits, GeneratedToken* token);
  void KeepStats(Slot& slot);
  void Save(Slot& slot);
  void Finish(Slot& slot, GenerationFinish finish, Status error, int32_t stop_id = -1);
  void Publish();
  // A request's last word.
  void Tell(const GenerationRequest& request, const GenerationEnd& end);
  // Runs `order` with an idle slot on the thread, between two passes, and waits for it.
  Result<int64_t> WithSlot(int slot, const std::function<Result<int64_t>(Slot&)>& order);

  Engine* engine_;
  SchedulerOptions options_;

  // Only the thread touches these.
  SlotTable table_;
  std::vector<BatchItem> items_;
  std::vector<float> logits_;      // [rows that want them][vocab]
  std::vector<uint64_t> allowed_;  // [ceil(vocab / 64)]
  size_t next_prefill_ = 0;        // slot whose prompt is served first in the next pass
  SchedulerStats counts_;

  mutable std::mutex mutex_;  // of all that follows
  std::condition_variable work_, idle_;
  std::deque<Waiting> waiting_;
  std::set<uint64_t> cancelled_;
  std::deque<std::function<void()>> commands_;
  uint64_t last_id_ = 0;
  int64_t waiting_tokens_ = 0;
  int64_t refused_ = 0;
  bool draining_ = false, ending_ = false;
  int busy_ = 0;      // requests in slots
  int64_t open_ = 0;  // requests that were taken and have not ended
  SchedulerStats published_;
  std::vector<SlotInfo> published_slots_;

  std::thread thread_;
};

// Natural logarithms of the softmax of `logits` [vocab]: of `id`, and of the `top` best.
GeneratedToken LogprobsOf(std::span<const float> logits, int32_t id, int top);

}  // namespace hga

#endif  // HGA_ENGINE_SCHEDULER_IMPL_H_
