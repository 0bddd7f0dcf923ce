// SPDX-License-Identifier: Apache-2.0
// The scheduler with models/hga-mini: answers don't depend on neighbours, prefixes are reused by
// their owner only, requests end when they should, sessions outlive it.
#include "hga/scheduler.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hga {
namespace {

constexpr int64_t kContext = 2048;

// Keeps what it is told, and lets a test wait for it.
class Recorder : public GenerationListener {
 public:
  void OnPrefill(const PrefillProgress& progress) override {
    const std::lock_guard lock(mutex_);
    progress_.push_back(progress);
    changed_.notify_all();
  }
  void OnPromptLogprobs(std::span<const GeneratedToken> tokens) override {
    prompt_.assign(tokens.begin(), tokens.end());
  }
  bool OnToken(const GeneratedToken& token) override {
    const std::lock_guard lock(mutex_);
    tokens_.push_back(token);
    at_.push_back(order_ == nullptr ? 0 : order_->fetch_add(1));
    changed_.notify_all();
    return static_cast<int64_t>(tokens_.size()) != stop_after_;
  }
  void OnEnd(const GenerationEnd& end) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(ended_) << "a request ended twice";
    ended_ = true;
    end_ = end;
    changed_.notify_all();
  }

  const GenerationEnd& Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_; });
    return end_;
  }
  void WaitForTokens(size_t n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || tokens_.size() >= n; });
  }
  void WaitForPrefill() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ || !progress_.empty(); });
  }
  std::vector<int32_t> Ids() {
    std::vector<int32_t> ids;
    for (const GeneratedToken& token : tokens_) ids.push_back(token.id);
    return ids;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<PrefillProgress> progress_;
  std::vector<GeneratedToken> tokens_, prompt_;
  std::vector<int64_t> at_;  // place of each token among those of all requests
  std::atomic<int64_t>* order_ = nullptr;
  int64_t stop_after_ = -1;
  bool ended_ = false;
  GenerationEnd end_;
};

// Any text does: what is compared are two ways of computing the same.
std::vector<int32_t> Prompt(int64_t n, uint64_t seed, int vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int32_t>((seed >> 33) % static_cast<uint64_t>(vocab - 300)));
  }
  return ids;
}

class SchedulerTest : public testing::Test {
 protected:
  void OpenEngine(const KvOptions& kv = {}) {
    EngineOptions options;
    options.threads = 2;
    options.span = 128;
    options.kv = kv;
    auto engine = Engine::Open(std::string(HGA_SOURCE_DIR) + "/models/hga-mini", options);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(*engine);
  }
  SchedulerOptions Options(int slots) {
    SchedulerOptions options;
    options.attention = *PresetConfig("default");
    options.attention.routing.sink_chunks = options.attention.routing.local_chunks = 1;
    options.attention.routing.groups_budget = 8;
    options.context = kContext;
    options.slots = slots;
    return options;
  }
  std::unique_ptr<Scheduler> Start(const SchedulerOptions& options) {
    auto scheduler = Scheduler::Start(engine_.get(), options);
    EXPECT_TRUE(scheduler.ok()) << scheduler.status().message();
    return scheduler.ok() ? std::move(*scheduler) : nullptr;
  }
  GenerationRequest Request(std::vector<int32_t> prompt, int64_t tokens,
                            std::shared_ptr<Recorder> listener) {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.max_tokens = tokens;
    request.sampling.temperature = 0.8;
    request.sampling.seed = 11;
    request.owner = "one";
    request.listener = std::move(listener);
    return request;
  }
  std::vector<int32_t> Ask(Scheduler& scheduler, GenerationRequest request, GenerationEnd* end) {
    auto recorder = std::make_shared<Recorder>();
    request.listener = recorder;
    const auto id = scheduler.Submit(std::move(request));
    EXPECT_TRUE(id.ok()) << id.status().message();
    if (!id.ok()) return {};
    *end = recorder->Wait();
    EXPECT_TRUE(end->error.ok()) << end->error.message();
    return recorder->Ids();
  }
  // The answer of the engine without a scheduler.
  std::vector<int32_t> Alone(const GenerationRequest& request, const AttentionConfig& attention) {
    auto sequence = engine_->NewSequence(attention, kContext);
    EXPECT_TRUE(sequence.ok());
    Sampler sampler(request.sampling);
    std::vector<float> logits(static_cast<size_t>(engine_->info().vocab));
    std::vector<int32_t> answer;
    std::vector<int32_t> feed = request.prompt;
    while (static_cast<int64_t>(answer.size()) < request.max_tokens) {
      EXPECT_TRUE(engine_->Feed(**sequence, feed, LogitsWanted::kLast, logits, {}).ok());
      answer.push_back(sampler.Sample(logits, request.prompt, answer));
      feed = {answer.back()};
    }
    return answer;
  }
  int vocab() const { return engine_->info().vocab; }

  std::unique_ptr<Engine> engine_;
};

TEST_F(SchedulerTest, NeighboursChangeNothing) {
  OpenEngine();
  const SchedulerOptions options = Options(3);
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 7; ++i) {
    expected.push_back(
        Alone(Request(Prompt(40 + 90 * i, 5 + static_cast<uint64_t>(i), vocab()), 12 + i, nullptr),
              options.attention));
  }
  const auto scheduler = Start(options);
  ASSERT_NE(scheduler, nullptr);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int i = 0; i < 7; ++i) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(scheduler
                    ->Submit(Request(Prompt(40 + 90 * i, 5 + static_cast<uint64_t>(i), vocab()),
                                     12 + i, recorders.back()))
                    .ok());
  }
  for (size_t i = 0; i < recorders.size(); ++i) {
    EXPECT_EQ(recorders[i]->Wait().finish, GenerationFinish::kLength);
    EXPECT_EQ(recorders[i]->Ids(), expected[i]) << "request " << i;
    ASSERT_FALSE(recorders[i]->progress_.empty());
    EXPECT_EQ(recorders[i]->progress_.back().done, recorders[i]->progress_.back().total);
  }
  EXPECT_EQ(scheduler->stats().finished, 7);
  EXPECT_EQ(scheduler->stats().running, 0);
}

// While a long prompt is read, an answer that runs gets its token in every pass.
TEST_F(SchedulerTest, AnswersDoNotWaitForPrompts) {
  OpenEngine();
  const auto scheduler = Start(Options(2));
  ASSERT_NE(scheduler, nullptr);
  const auto stream = std::make_shared<Recorder>();
  const auto reader = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(20, 1, vocab()), 200, stream)).ok());
  stream->WaitForTokens(2);
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(1500, 2, vocab()), 2, reader)).ok());
  reader->WaitForPrefill();
  const int64_t passes = scheduler->stats().passes;
  const size_t tokens = [&] {
    const std::lock_guard lock(stream->mutex_);
    return stream->tokens_.size();
  }();
  reader->Wait();
  const int64_t passed = scheduler->stats().passes - passes;
  const std::lock_guard lock(stream->mutex_);
  EXPECT_GE(reader->progress_.size(), 1500u / 128u);
  // One pass more or less may lie between reading the two counters.
  EXPECT_GE(static_cast<int64_t>(stream->tokens_.size() - tokens), passed - 2);
  EXPECT_GE(passed, 8);
}

TEST_F(SchedulerTest, PrefixesAreReusedByTheirOwner) {
  OpenEngine();
  const SchedulerOptions options = Options(3);
  const std::vector<int32_t> document = Prompt(700, 3, vocab());
  std::vector<int32_t> question = document;
  for (const int32_t id : Prompt(30, 4, vocab())) question.push_back(id);
  const std::vector<int32_t> expected = Alone(Request(question, 10, nullptr), options.attention);

  const auto scheduler = Start(options);
  ASSERT_NE(scheduler, nullptr);
  GenerationEnd end;
  Ask(*scheduler, Request(document, 5, nullptr), &end);
  EXPECT_EQ(end.cached_tokens, 0);
  EXPECT_EQ(Ask(*scheduler, Request(question, 10, nullptr), &end), expected);
  EXPECT_EQ(end.cached_tokens, 700);
  // The same once more: all but the prompt's last token is there.
  EXPECT_EQ(Ask(*scheduler, Request(question, 10, nullptr), &end), expected);
  EXPECT_EQ(end.cached_tokens, 729);

  GenerationRequest other = Request(question, 10, nullptr);
  other.owner = "two";
  EXPECT_EQ(Ask(*scheduler, std::move(other), &end), expected);
  EXPECT_EQ(end.cached_tokens, 0) << "K/V of another owner was used";

  GenerationRequest fresh = Request(question, 10, nullptr);
  fresh.reuse_prefix = false;
  EXPECT_EQ(Ask(*scheduler, std::move(fresh), &end), expected);
  EXPECT_EQ(end.cached_tokens, 0);
}

// A short prompt that shares little with a long document does not cost the document.
TEST_F(SchedulerTest, LongPrefixesAreKept) {
  OpenEngine();
  const auto scheduler = Start(Options(2));
  ASSERT_NE(scheduler, nullptr);
  const std::vector<int32_t> document = Prompt(900, 3, vocab());
  GenerationEnd end;
  Ask(*scheduler, Request(document, 2, nullptr), &end);
  const std::vector<int32_t> small(document.begin(), document.begin() + 50);
  Ask(*scheduler, Request(small, 2, nullptr), &end);
  EXPECT_EQ(end.cached_tokens, 0);
  Ask(*scheduler, Request(document, 2, nullptr), &end);
  EXPECT_EQ(end.cached_tokens, 899);
}

TEST_F(SchedulerTest, RequestsAreCancelled) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  const auto reading = std::make_shared<Recorder>();
  const auto waiting = std::make_shared<Recorder>();
  const auto first = scheduler->Submit(Request(Prompt(1900, 2, vocab()), 100, reading));
  const auto second = scheduler->Submit(Request(Prompt(100, 3, vocab()), 100, waiting));
  ASSERT_TRUE(first.ok() && second.ok());
  scheduler->Cancel(*second);
  EXPECT_EQ(waiting->Wait().finish, GenerationFinish::kCancelled);
  EXPECT_EQ(waiting->end_.cached_tokens, 0);
  reading->WaitForPrefill();
  scheduler->Cancel(*first);
  EXPECT_EQ(reading->Wait().finish, GenerationFinish::kCancelled);
  EXPECT_LT(reading->progress_.back().done, 1900);
  EXPECT_TRUE(reading->tokens_.empty());
  // What was read is not lost, and the slot is free.
  GenerationEnd end;
  const SchedulerOptions options = Options(1);
  const auto answer = Ask(*scheduler, Request(Prompt(1900, 2, vocab()), 3, nullptr), &end);
  EXPECT_EQ(end.cached_tokens, reading->progress_.back().done);
  EXPECT_EQ(answer.size(), 3u);
  EXPECT_EQ(scheduler->stats().cancelled, 2);
}

TEST_F(SchedulerTest, LateRequestsEnd) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  const auto ahead = std::make_shared<Recorder>();
  const auto waiting = std::make_shared<Recorder>();
  const auto running = std::make_shared<Recorder>();
  const auto first = scheduler->Submit(Request(Prompt(100, 2, vocab()), 1900, ahead));
  ASSERT_TRUE(first.ok());
  ahead->WaitForPrefill();
  GenerationRequest second = Request(Prompt(100, 3, vocab()), 100, waiting);
  second.seconds = 0.01;
  ASSERT_TRUE(scheduler->Submit(std::move(second)).ok());
  EXPECT_EQ(waiting->Wait().finish, GenerationFinish::kError);
  EXPECT_EQ(waiting->end_.error.code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(waiting->progress_.empty());
  EXPECT_EQ(scheduler->stats().waiting_tokens, 0);
  scheduler->Cancel(*first);
  ahead->Wait();
  GenerationRequest third = Request(Prompt(100, 4, vocab()), 1900, running);
  third.seconds = 0.05;
  ASSERT_TRUE(scheduler->Submit(std::move(third)).ok());
  EXPECT_EQ(running->Wait().finish, GenerationFinish::kError);
  EXPECT_EQ(running->end_.error.code(), StatusCode::kDeadlineExceeded);
  EXPECT_LT(running->tokens_.size(), 1900u);
  EXPECT_EQ(scheduler->stats().failed, 2);
  // In time is in time.
  GenerationEnd end;
  GenerationRequest fourth = Request(Prompt(100, 2, vocab()), 3, nullptr);
  fourth.seconds = 600;
  EXPECT_EQ(Ask(*scheduler, std::move(fourth), &end).size(), 3u);
}

TEST_F(SchedulerTest, TooManyAreRefused) {
  OpenEngine();
  SchedulerOptions options = Options(1);
  options.max_waiting = 2;
  const auto scheduler = Start(options);
  ASSERT_NE(scheduler, nullptr);
  std::vector<std::shared_ptr<Recorder>> recorders;
  int refused = 0;
  for (int i = 0; i < 8; ++i) {
    recorders.push_back(std::make_shared<Recorder>());
    const auto id = scheduler->Submit(Request(Prompt(600, 9, vocab()), 20, recorders.back()));
    if (id.ok()) continue;
    EXPECT_EQ(id.status().code(), StatusCode::kResourceExhausted);
    recorders.pop_back();
    ++refused;
  }
  EXPECT_GE(refused, 4);
  for (const auto& recorder : recorders) {
    EXPECT_EQ(recorder->Wait().finish, GenerationFinish::kLength);
  }
  EXPECT_EQ(scheduler->stats().refused, refused);
}

TEST_F(SchedulerTest, BytesBoundWhatIsHeld) {
  OpenEngine();
  SchedulerOptions options = Options(4);
  const MemoryPlan plan = engine_->Plan(options.attention, 640);
  options.kv_bytes = 2 * (plan.device_bytes + plan.table_bytes);
  const auto scheduler = Start(options);
  ASSERT_NE(scheduler, nullptr);
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int i = 0; i < 5; ++i) {
    recorders.push_back(std::make_shared<Recorder>());
    ASSERT_TRUE(scheduler
                    ->Submit(Request(Prompt(600, 20 + static_cast<uint64_t>(i), vocab()), 40,
                                     recorders.back()))
                    .ok());
  }
  for (const auto& recorder : recorders) {
    EXPECT_EQ(recorder->Wait().finish, GenerationFinish::kLength);
    EXPECT_LE(scheduler->stats().held_bytes, options.kv_bytes);
  }
  const auto recorder = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(1900, 1, vocab()), 40, recorder)).ok());
  EXPECT_EQ(recorder->Wait().finish, GenerationFinish::kError);
  EXPECT_EQ(recorder->end_.error.code(), StatusCode::kInvalidArgument);
}

TEST_F(SchedulerTest, BadRequestsAreNamed) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  const auto listener = std::make_shared<Recorder>();
  const auto why = [&](auto change) {
    GenerationRequest request = Request(Prompt(10, 1, vocab()), 5, listener);
    change(request);
    const auto id = scheduler->Submit(std::move(request));
    return id.ok() ? std::string("taken") : std::string(id.status().message());
  };
  using R = GenerationRequest;
  EXPECT_NE(why([](R& r) { r.prompt.clear(); }).find("prompt"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.seconds = -1; }).find("seconds"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.prompt[3] = -1; }).find("-1"), std::string::npos);
  EXPECT_NE(why([&](R& r) { r.prompt[3] = vocab(); }).find("prompt"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.max_tokens = 0; }).find("max_tokens"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.max_tokens = kContext - 9; }).find("2048"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.max_tokens = INT64_MAX; }).find("max_tokens"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.top_logprobs = 21; }).find("top_logprobs"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.owner.assign(65, 'x'); }).find("owner"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.sampling.top_p = 2; }).find("top_p"), std::string::npos);
  EXPECT_NE(why([](R& r) { r.listener = nullptr; }).find("listener"), std::string::npos);
  // As many as fit are taken.
  GenerationEnd end;
  Ask(*scheduler, Request(Prompt(2040, 1, vocab()), 8, nullptr), &end);
  EXPECT_EQ(end.finish, GenerationFinish::kLength);
  EXPECT_EQ(end.answer_tokens, 8);
}

TEST_F(SchedulerTest, AnswersStop) {
  OpenEngine();
  const auto scheduler = Start(Options(2));
  ASSERT_NE(scheduler, nullptr);
  GenerationEnd end;
  const auto whole = Ask(*scheduler, Request(Prompt(30, 8, vocab()), 12, nullptr), &end);
  ASSERT_EQ(whole.size(), 12u);
  GenerationRequest request = Request(Prompt(30, 8, vocab()), 12, nullptr);
  request.stop_ids = {whole[5]};
  const auto cut = Ask(*scheduler, std::move(request), &end);
  const auto at = std::find(whole.begin(), whole.end(), whole[5]) - whole.begin();
  EXPECT_EQ(cut, std::vector<int32_t>(whole.begin(), whole.begin() + at));
  EXPECT_EQ(end.finish, GenerationFinish::kStop);
  EXPECT_EQ(end.stop_id, whole[5]);
  // The listener's word.
  const auto recorder = std::make_shared<Recorder>();
  recorder->stop_after_ = 3;
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(30, 8, vocab()), 12, recorder)).ok());
  EXPECT_EQ(recorder->Wait().finish, GenerationFinish::kStop);
  EXPECT_EQ(recorder->Ids(), std::vector<int32_t>(whole.begin(), whole.begin() + 3));
}

// Logarithms of probabilities: sum to one over the vocabulary, and prompt and answer agree.
TEST_F(SchedulerTest, Logprobs) {
  OpenEngine();
  const auto scheduler = Start(Options(2));
  ASSERT_NE(scheduler, nullptr);
  const std::vector<int32_t> prompt = Prompt(90, 8, vocab());
  const auto first = std::make_shared<Recorder>();
  GenerationRequest request = Request(prompt, 6, first);
  request.top_logprobs = 4;
  ASSERT_TRUE(scheduler->Submit(std::move(request)).ok());
  first->Wait();
  std::vector<int32_t> longer = prompt;
  for (const GeneratedToken& token : first->tokens_) {
    ASSERT_EQ(token.top.size(), 4u);
    for (size_t i = 1; i < 4; ++i) EXPECT_GE(token.top[i - 1].logprob, token.top[i].logprob);
    EXPECT_LE(token.logprob, token.top[0].logprob);
    EXPECT_LE(token.top[0].logprob, 0);
    longer.push_back(token.id);
  }
  const auto second = std::make_shared<Recorder>();
  request = Request(longer, 1, second);
  request.prompt_logprobs = true;
  request.top_logprobs = 4;
  ASSERT_TRUE(scheduler->Submit(std::move(request)).ok());
  EXPECT_EQ(second->Wait().cached_tokens, 0);
  ASSERT_EQ(second->prompt_.size(), longer.size() - 1);
  for (size_t i = 0; i < 6; ++i) {
    const GeneratedToken& read = second->prompt_[prompt.size() - 1 + i];
    EXPECT_EQ(read.id, first->tokens_[i].id);
    EXPECT_EQ(read.logprob, first->tokens_[i].logprob) << i;  // to the bit
  }
}

TEST_F(SchedulerTest, PlansAreTraced) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  const auto recorder = std::make_shared<Recorder>();
  GenerationRequest request = Request(Prompt(1500, 8, vocab()), 4, recorder);
  request.trace_plans = true;
  ASSERT_TRUE(scheduler->Submit(std::move(request)).ok());
  recorder->Wait();
  for (const GeneratedToken& token : recorder->tokens_) {
    EXPECT_FALSE(token.plans.empty());
    EXPECT_GT(token.visible_share, 0);
    EXPECT_LT(token.visible_share, 1);
    for (const auto& plan : token.plans) {
      for (size_t i = 0; i < plan.groups.size(); ++i) {
        EXPECT_GE(plan.groups[i].first, 64);  // behind the sink
        EXPECT_LT(plan.groups[i].first, 1504);
        if (i == 0) continue;
        EXPECT_LT(plan.groups[i - 1].first, plan.groups[i].first);
      }
    }
  }
}

// Allows a few tokens, and the end after four of them.
class FewTokens : public Constraint {
 public:
  explicit FewTokens(int vocab) : bits_(static_cast<size_t>(vocab + 63) / 64) {
    for (const int32_t id : {10, 20, 30}) bits_[0] |= uint64_t{1} << id;
  }
  std::span<const uint64_t> Allowed() override { return bits_; }
  bool MayEnd() const override { return accepted_ >= 4; }
  Status Accept(int32_t id) override {
    if (id >= 64 || (bits_[0] >> id & 1) == 0) return InvalidArgument("not allowed");
    if (++accepted_ == 6) bits_[0] = 0;
    return OkStatus();
  }

 private:
  std::vector<uint64_t> bits_;
  int accepted_ = 0;
};

TEST_F(SchedulerTest, ConstraintsHold) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  GenerationRequest request = Request(Prompt(30, 8, vocab()), 50, nullptr);
  request.constraint = std::make_unique<FewTokens>(vocab());
  GenerationEnd end;
  const auto ids = Ask(*scheduler, std::move(request), &end);
  EXPECT_EQ(end.finish, GenerationFinish::kStop);
  EXPECT_EQ(ids.size(), 6u);
  for (const int32_t id : ids) EXPECT_TRUE(id == 10 || id == 20 || id == 30) << id;
}

TEST_F(SchedulerTest, DrainLetsRequestsEnd) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  const auto first = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(50, 8, vocab()), 20, first)).ok());
  scheduler->Drain(60);
  EXPECT_EQ(first->Wait().finish, GenerationFinish::kLength);
  EXPECT_FALSE(scheduler->Submit(Request(Prompt(50, 8, vocab()), 20, first)).ok());
}

TEST_F(SchedulerTest, DrainCancelsAfterItsTime) {
  OpenEngine();
  const auto scheduler = Start(Options(1));
  ASSERT_NE(scheduler, nullptr);
  const auto first = std::make_shared<Recorder>();
  const auto second = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(50, 8, vocab()), 1900, first)).ok());
  ASSERT_TRUE(scheduler->Submit(Request(Prompt(50, 8, vocab()), 1900, second)).ok());
  scheduler->Drain(0.05);
  EXPECT_EQ(first->Wait().finish, GenerationFinish::kCancelled);
  EXPECT_EQ(second->Wait().finish, GenerationFinish::kCancelled);
}

TEST_F(SchedulerTest, SessionsOutliveIt) {
  const auto directory =
      std::filesystem::temp_directory_path() / ("hga_scheduler_" + std::to_string(getpid()));
  std::filesystem::remove_all(directory);
  KvOptions kv;
  kv.directory = directory;
  kv.allow_ram_directory = true;
  OpenEngine(kv);
  SchedulerOptions options = Options(2);
  options.session_name = "server";
  const std::vector<int32_t> document = Prompt(700, 3, vocab());
  std::vector<int32_t> question = document;
  for (const int32_t id : Prompt(30, 4, vocab())) question.push_back(id);
  const std::vector<int32_t> expected = Alone(Request(question, 10, nullptr), options.attention);
  GenerationEnd end;
  {
    const auto scheduler = Start(options);
    ASSERT_NE(scheduler, nullptr);
    Ask(*scheduler, Request(document, 5, nullptr), &end);
    EXPECT_EQ(scheduler->stats().failed_checkpoints, 0);
  }
  OpenEngine(kv);  // another process
  {
    const auto scheduler = Start(options);
    ASSERT_NE(scheduler, nullptr);
    GenerationRequest other = Request(question, 10, nullptr);
    other.owner = "two";
    EXPECT_EQ(Ask(*scheduler, std::move(other), &end), expected);
    EXPECT_EQ(end.cached_tokens, 0);
    EXPECT_EQ(Ask(*scheduler, Request(question, 10, nullptr), &end), expected);
    EXPECT_EQ(end.cached_tokens, 700);
    for (const SlotInfo& slot : scheduler->slots()) {
      if (slot.tokens > 700 && scheduler->EraseSlot(slot.id, "one").ok()) continue;
      EXPECT_EQ(scheduler->EraseSlot(slot.id, "one").status().code(), StatusCode::kNotFound);
    }
    EXPECT_FALSE(scheduler->EraseSlot(2, "one").ok());
    // By name: kept, forgotten in the slot, brought back.
    Ask(*scheduler, Request(document, 5, nullptr), &end);
    int slot = -1;
    for (const SlotInfo& info : scheduler->slots()) {
      if (info.tokens == 704) slot = info.id;
    }
    ASSERT_GE(slot, 0);
    const auto saved = scheduler->SaveSlot(slot, "kept", "one");
    ASSERT_TRUE(saved.ok()) << saved.status().message();
    EXPECT_EQ(*saved, 704);
    EXPECT_EQ(scheduler->SaveSlot(slot, "server-1", "one").status().code(),
              StatusCode::kInvalidArgument);
    EXPECT_EQ(scheduler->SaveSlot(slot, "other", "two").status().code(), StatusCode::kNotFound);
    ASSERT_TRUE(scheduler->EraseSlot(slot, "one").ok());
    EXPECT_EQ(scheduler->RestoreSlot(slot, "kept", "two").status().code(), StatusCode::kNotFound);
    EXPECT_EQ(scheduler->RestoreSlot(slot, "none", "one").status().code(), StatusCode::kNotFound);
    const auto restored = scheduler->RestoreSlot(slot, "kept", "one");
    ASSERT_TRUE(restored.ok()) << restored.status().message();
    EXPECT_EQ(*restored, 704);
    EXPECT_EQ(Ask(*scheduler, Request(question, 10, nullptr), &end), expected);
    EXPECT_EQ(end.cached_tokens, 700);
  }
  engine_.reset();
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace hga
