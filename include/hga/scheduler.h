// SPDX-License-Identifier: Apache-2.0
// Many requests over one engine: continuous batching, reuse of prefixes, admission, cancellation.
#ifndef HGA_SCHEDULER_H_
#define HGA_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hga/config.h"
#include "hga/constraint.h"
#include "hga/engine.h"
#include "hga/sampler.h"
#include "hga/status.h"

namespace hga {

struct SchedulerOptions {
  AttentionConfig attention;  // of every sequence
  int64_t context = 0;        // most tokens of a sequence, prompt and answer; 0: the model's limit
  int slots = 4;              // sequences held at a time, running ones and kept ones
  int max_waiting = 64;       // requests that wait for a slot; more are refused
  int64_t max_waiting_tokens = 1 << 20;  // the same in prompt tokens
  // Most bytes of memory of all slots by Engine::Plan of the tokens they may grow to; a request
  // waits until there is room. 0: no bound.
  int64_t kv_bytes = 0;
  // With KvOptions::directory: every slot is a session NAME-0, NAME-1, ... and what a former
  // process saved there is taken up again. "": slots end with the process.
  std::string session_name;
  int64_t checkpoint_every = 256;  // answer tokens between two checkpoints; 0: prompt and end only
};

// How a prompt is being read. Tokens.
struct PrefillProgress {
  int64_t total = 0;
  int64_t cached = 0;  // were there before
  int64_t done = 0;    // cached ones included
  double seconds = 0;  // since the first was fed
};

struct TokenLogprob {
  int32_t id = -1;
  float logprob =
      0;  // natural logarithm, of the model's own distribution (before sampling options)
};

struct GeneratedToken {
  int32_t id = -1;
  float logprob = 0;              // only when asked for
  std::vector<TokenLogprob> top;  // best first; only when asked for
  // Only with GenerationRequest::trace_plans: what the step that chose this token looked at.
  struct LayerPlan {
    int layer = 0;
    std::vector<Sequence::OpenedGroup> groups;  // of all KV heads together, ascending, each once
  };
  std::vector<LayerPlan> plans;  // of routed layers
  double visible_share = 1;      // of the context, mean over layers; only with trace_plans
  // Of the disk tier in that pass, of all its requests together; only with trace_plans.
  int64_t cells_wanted = 0, cells_in_memory = 0;
};

enum class GenerationFinish {
  kStop,       // a stop token, or OnToken said so
  kLength,     // max_tokens
  kCancelled,  // Cancel, or the scheduler ends
  kError,      // `error` says what
};

struct GenerationEnd {
  GenerationFinish finish = GenerationFinish::kStop;
  Status error;
  int32_t stop_id = -1;        // the stop token, if there was one
  int64_t prompt_tokens = 0;   // in all
  int64_t cached_tokens = 0;   // of those, not computed again
  int64_t answer_tokens = 0;   // given to OnToken
  double queue_seconds = 0;    // waiting for a slot
  double prefill_seconds = 0;  // from then to the first token
  double decode_seconds = 0;   // from then to the end
};

// Called on the scheduler's thread and must return soon: every running request waits for it.
class GenerationListener {
 public:
  virtual ~GenerationListener() = default;
  // After each span of the prompt.
  virtual void OnPrefill(const PrefillProgress& progress) = 0;
  // Logprobs of the prompt's tokens after the first; only with prompt_logprobs, after all spans.
  virtual void OnPromptLogprobs(std::span<const GeneratedToken> tokens) = 0;
  // False ends the answer: with this token it says all it should.
  virtual bool OnToken(const GeneratedToken& token) = 0;
  // Once, last. Called for every request that Submit took.
  virtual void OnEnd(const GenerationEnd& end) = 0;
};

struct GenerationRequest {
  std::vector<int32_t> prompt;  // 1 or more
  int64_t max_tokens = 0;       // 1 or more; prompt and these fit the context
  SamplingOptions sampling;
  std::vector<int32_t> stop_ids;  // end the answer and are not part of it
  int top_logprobs = -1;          // -1: no logprobs; else alternatives to each token, up to 20
  bool prompt_logprobs = false;   // also of the prompt (which is then read from its beginning)
  bool trace_plans = false;
  // One that goes on with what an earlier one of the same client began: limits of what may wait do
  // not refuse it.
  bool continues = false;
  bool reuse_prefix = true;  // take K/V of a kept sequence with the same beginning
  // From Submit to the end; then it ends as kError with kDeadlineExceeded, between two passes. 0:
  // no limit.
  double seconds = 0;
  // Who asks. Kept K/V serve requests of the same owner only. At most 64 characters.
  std::string owner;
  std::unique_ptr<Constraint> constraint;  // may be null
  std::shared_ptr<GenerationListener> listener;
};

// One slot, as /slots shows it.
struct SlotInfo {
  int id = 0;
  bool busy = false;
  int64_t tokens = 0;    // held now
  int64_t capacity = 0;  // 0: nothing is held
  uint64_t request = 0;  // that runs here, 0: none
  std::string session;   // its name on disk, "" without one
  double idle_seconds = 0;
};

struct SchedulerStats {
  int running = 0, waiting = 0;                                     // requests
  int64_t waiting_tokens = 0;                                       // of their prompts
  int64_t held_tokens = 0;                                          // of all slots
  int64_t held_bytes = 0;                                           // planned for all slots
  int64_t prompt_tokens = 0, cached_tokens = 0, answer_tokens = 0;  // since the start
  int64_t finished = 0, cancelled = 0, failed = 0, refused = 0;     // requests since the start
  int64_t failed_checkpoints = 0;
  int64_t passes = 0;  // Forward calls
  KvStats kv;
};

// A thread that computes and the requests it serves. Thread-safe. The answer to a request is the
// one it would get alone: neighbours change neither a token nor a bit of a logit.
class Scheduler {
 public:
  // `engine` must outlive it and is used by nobody else meanwhile.
  static Result<std::unique_ptr<Scheduler>> Start(Engine* engine, const SchedulerOptions& options);
  // Ends what is running as cancelled; sessions are checkpointed.
  virtual ~Scheduler() = default;

  // The request's number, 1 or more. kInvalidArgument names the field; kResourceExhausted when too
  // much is waiting; kCancelled once Drain was called. Listener calls may come before it returns.
  virtual Result<uint64_t> Submit(GenerationRequest request) = 0;
  // The request ends within one pass (a span of prefill at most). Nothing if it has ended.
  virtual void Cancel(uint64_t request) = 0;
  // No more requests; returns once all have ended, after `seconds` those left are cancelled.
  virtual void Drain(double seconds) = 0;

  virtual SchedulerStats stats() const = 0;
  virtual std::vector<SlotInfo> slots() const = 0;
  virtual const SchedulerOptions& options() const = 0;  // with the context filled in

  // What an idle slot of `owner` holds is kept as session `name` as well, comes from there, or is
  // forgotten with the slot's own session. Synchronous, between two passes, which wait meanwhile;
  // saving and restoring need session_name. Returns the tokens. kInvalidArgument for an unknown or
  // busy slot, a bad name or that of a slot; kNotFound when the slot, or the session, is not there
  // or another's; else the store's errors.
  virtual Result<int64_t> SaveSlot(int slot, const std::string& name, const std::string& owner) = 0;
  virtual Result<int64_t> RestoreSlot(int slot, const std::string& name,
                                      const std::string& owner) = 0;
  virtual Result<int64_t> EraseSlot(int slot, const std::string& owner) = 0;
};

}  // namespace hga

#endif  // HGA_SCHEDULER_H_
