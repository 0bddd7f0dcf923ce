// SPDX-License-Identifier: Apache-2.0
// Opening an engine, and feeding sequences through it.
#include <fmt/format.h>

#include <algorithm>

#include "backend/registry.h"
#include "base/check.h"
#include "base/memory.h"
#include "cpu/cpu_backend.h"
#if HGA_WITH_CUDA
#include "cuda/cuda_backend.h"
#endif
#include "engine/engine_impl.h"
#include "model/model_info.h"

namespace hga {
namespace {

constexpr int kMaxSpan = 8192;
constexpr int64_t kMaxCapacity = int64_t{1} << 27;  // tokens of one sequence
constexpr int kMostRecoveries = 16;                 // of one batch or change of rules

Result<std::unique_ptr<Ops>> OpenBackend(const EngineOptions& options) {
  if (options.span < 1 || options.span > kMaxSpan) {
    return InvalidArgument(fmt::format("span is {}, allowed are 1 to {}", options.span, kMaxSpan));
  }
  BackendRegistry registry;
  registry.Add("cpu", OpenCpu);
#if HGA_WITH_CUDA
  for (int i = 0; i < CudaDeviceCount(); ++i) {
    registry.Add(fmt::format("cuda:{}", i),
                 [i](const BackendOptions& o) { return OpenCuda(i, o); });
  }
#endif
  return registry.Open(options.device, {options.threads, options.isa, options.device_memory});
}

// Done before weights are read, so that a directory that is of no use is known at once.
Result<std::unique_ptr<KvSpace>> OpenSpace(const ModelConfig& c, const EngineOptions& options) {
  return KvSpace::Open(options.kv, {c.layers, c.kv_heads, c.head_dim});
}

Result<std::unique_ptr<Engine>> Finish(ModelInfo info, std::unique_ptr<Tokenizer> tokenizer,
                                       int span, std::unique_ptr<KvSpace> space, ModelConfig config,
                                       ModelWeights weights, std::unique_ptr<Ops> ops) {
  auto engine = std::make_unique<EngineImpl>(std::move(info), std::move(tokenizer), std::move(ops),
                                             Transformer(std::move(config), std::move(weights)),
                                             std::move(space), span);
  HGA_RETURN_IF_ERROR(engine->Prepare());
  return std::unique_ptr<Engine>(std::move(engine));
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& directory,
                                             const EngineOptions& options) {
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Ops> ops, OpenBackend(options));
  HGA_ASSIGN_OR_RETURN(ModelInfo info, ReadModelInfo(directory));
  HGA_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(directory));
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(directory));
  if (tokenizer->vocab_size() > config.vocab) {
    return InvalidArgument(
        fmt::format("{}/tokenizer.json has ids up to {}, config.json's vocab_size is {}", directory,
                    tokenizer->vocab_size() - 1, config.vocab));
  }
  HGA_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory));
  HGA_RETURN_IF_ERROR(CheckTensors(config, checkpoint));
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<KvSpace> space, OpenSpace(config, options));
  HGA_ASSIGN_OR_RETURN(
      ModelWeights weights,
      ModelWeights::Load(config, checkpoint, options.check_values, options.on_load));
  return Finish(std::move(info), std::move(tokenizer), options.span, std::move(space),
                std::move(config), std::move(weights), std::move(ops));
}

Result<std::unique_ptr<Engine>> Engine::OpenDummy(const std::string& directory,
                                                  const EngineOptions& options, uint64_t seed) {
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<Ops> ops, OpenBackend(options));
  HGA_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(directory));
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<KvSpace> space, OpenSpace(config, options));
  HGA_ASSIGN_OR_RETURN(ModelWeights weights, ModelWeights::Random(config, seed));
  ModelInfo info = InfoOf(config);
  info.directory = directory;
  info.weight_format = config.fp8_block_rows > 0 ? "fp8-e4m3 128x128 (random)" : "bf16 (random)";
  info.weight_bytes = weights.bytes();
  return Finish(std::move(info), nullptr, options.span, std::move(space), std::move(config),
                std::move(weights), std::move(ops));
}

const Tokenizer& EngineImpl::tokenizer() const {
  HGA_CHECK(tokenizer_ != nullptr);
  return *tokenizer_;
}

std::string EngineImpl::isa() const {
  const std::string name = ops_->name();
  return name.substr(name.find(' ') + 1);
}

Status EngineImpl::Prepare() {
  program_bytes_ = std::max<int64_t>(0, ResidentMemory() - info_.weight_bytes);
  parts_.reserve(static_cast<size_t>(span_));
  return transformer_.Prepare(span_, ops_->device());
}

int LargestBudget(const AttentionConfig& config, int layers) {
  int budget = 1;
  for (int layer = 0; layer < layers; ++layer) {
    budget = std::max(budget, config.RuleOf(layer).groups_budget);
  }
  return budget;
}

Status EngineImpl::PrepareFor(const AttentionConfig& attention, int64_t capacity) {
  const ModelConfig& c = transformer_.config();
  const int budget = LargestBudget(attention, c.layers);
  if (budget > prepared_budget_) {
    HGA_RETURN_IF_ERROR(scratch_.Prepare(transformer_.head_shape(), span_, budget, ops_->device()));
    prepared_budget_ = budget;
  }
  if (capacity <= prepared_context_) return OkStatus();
  OpsLimits limits = LimitsOf(info_, capacity, span_);
  limits.ffn_width = std::max(c.intermediate, c.moe_intermediate);
  HGA_RETURN_IF_ERROR(ops_->Prepare(limits));
  prepared_context_ = capacity;
  return OkStatus();
}

Status EngineImpl::CheckSequence(const AttentionConfig& attention, int64_t capacity) const {
  if (capacity < 1 || capacity > kMaxCapacity) {
    return InvalidArgument(
        fmt::format("a sequence of {} tokens; allowed are 1 to {}", capacity, kMaxCapacity));
  }
  return Validate(attention, transformer_.config().layers);
}

Result<std::unique_ptr<Sequence>> EngineImpl::NewSequence(const AttentionConfig& attention,
                                                          int64_t capacity) {
  HGA_RETURN_IF_ERROR(CheckSequence(attention, capacity));
  HGA_RETURN_IF_ERROR(PrepareFor(attention, capacity));
  const HeadShape heads = transformer_.head_shape();
  HGA_ASSIGN_OR_RETURN(std::unique_ptr<KvHistory> history,
                       space_->NewHistory(attention, heads, capacity, span_, ops_->device()));
  HGA_ASSIGN_OR_RETURN(
      SequenceAttention rules,
      SequenceAttention::Make(attention, heads, transformer_.config().rope_theta, *history,
                              ops_->device(),
                              space_->SummaryBudget(attention, heads, capacity, span_)));
  return std::unique_ptr<Sequence>(
      std::make_unique<SequenceImpl>(this, std::move(history), std::move(rules)));
}

Status SequenceImpl::SetAttention(const AttentionConfig& config) {
  return engine_->SetAttention(*this, config);
}

Status EngineImpl::SetAttention(SequenceImpl& sequence, const AttentionConfig& config) {
  HGA_RETURN_IF_ERROR(Validate(config, transformer_.config().layers));
  HGA_RETURN_IF_ERROR(PrepareFor(config, sequence.capacity()));
  for (int attempt = 0;; ++attempt) {
    const Status status =
        sequence.attention_.SetConfig(*ops_, *sequence.history_, config, sequence.length());
    if (status.code() != StatusCode::kDataLoss || attempt == kMostRecoveries) return status;
    HGA_RETURN_IF_ERROR(Recover(sequence));
  }
}

Status SequenceImpl::Truncate(int64_t length) {
  if (length < 0 || length > this->length()) {
    return InvalidArgument(
        fmt::format("cannot cut a sequence of {} tokens to {}", this->length(), length));
  }
  return engine_->Truncate(*this, length);
}

Status EngineImpl::CheckTokens(std::span<const int32_t> tokens) const {
  const int vocab = transformer_.config().vocab;
  for (int32_t token : tokens) {
    if (token < 0 || token >= vocab) {
      return InvalidArgument(
          fmt::format("token id {}, the vocabulary has ids 0 to {}", token, vocab - 1));
    }
  }
  return OkStatus();
}

Status EngineImpl::Check(const BatchItem& item) const {
  const int vocab = transformer_.config().vocab;
  const int64_t n = static_cast<int64_t>(item.tokens.size());
  if (item.sequence == nullptr || n == 0) {
    return InvalidArgument("a batch item needs a sequence and at least one token");
  }
  if (item.sequence->length() + n > item.sequence->capacity()) {
    return ResourceExhausted(fmt::format("the sequence holds {} tokens, {} more exceed its {}",
                                         item.sequence->length(), n, item.sequence->capacity()));
  }
  HGA_RETURN_IF_ERROR(CheckTokens(item.tokens));
  const int64_t rows = item.wanted == LogitsWanted::kAll ? n : item.wanted == LogitsWanted::kLast;
  if (static_cast<int64_t>(item.logits.size()) < rows * vocab) {
    return InvalidArgument(fmt::format("logits of {} rows need {} floats, {} given", rows,
                                       rows * vocab, item.logits.size()));
  }
  return OkStatus();
}

Status EngineImpl::Forward(std::span<const BatchItem> items) { return Run(items, {}); }

Status EngineImpl::Run(std::span<const BatchItem> items, const AttentionTap& tap) {
  int64_t rows = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    HGA_RETURN_IF_ERROR(Check(items[i]));
    rows += static_cast<int64_t>(items[i].tokens.size());
    for (size_t j = 0; j < i; ++j) {
      if (items[j].sequence == items[i].sequence) {
        return InvalidArgument("a sequence stands in a batch twice");
      }
    }
  }
  if (rows > span_) {
    return InvalidArgument(fmt::format("a batch of {} tokens, the span is {}", rows, span_));
  }
  if (rows == 0) return OkStatus();
  for (int attempt = 0;; ++attempt) {
    SequenceImpl* failed = nullptr;
    const Status status = RunOnce(items, tap, &failed);
    if (status.ok()) return status;
    // Whatever was written behind the ends of the sequences does not count.
    for (const BatchItem& item : items) {
      auto& s = static_cast<SequenceImpl&>(*item.sequence);
      const Status cut = CutTo(s, s.length());
      if (!cut.ok() && cut.code() != StatusCode::kDataLoss) return cut;
    }
    if (status.code() != StatusCode::kDataLoss || attempt == kMostRecoveries) return status;
    HGA_RETURN_IF_ERROR(Recover(*failed));
  }
}

Status EngineImpl::RunOnce(std::span<const BatchItem> items, const AttentionTap& tap,
                           SequenceImpl** failed) {
  parts_.clear();
  for (const BatchItem& item : items) {
    auto& s = static_cast<SequenceImpl&>(*item.sequence);
    *failed = &s;
    HGA_RETURN_IF_ERROR(PublishCut(s, item.tokens));
    HGA_RETURN_IF_ERROR(s.history_->Reserve(s.length() + static_cast<int64_t>(item.tokens.size())));
    parts_.push_back({s.history_.get(), &s.attention_, item.tokens, s.length(), item.wanted,
                      item.logits.data()});
  }
  const Status status = transformer_.Forward(*ops_, scratch_, parts_, tap);
  if (!status.ok()) {
    *failed = static_cast<SequenceImpl*>(items[transformer_.failed_item()].sequence);
    return status;
  }
  for (const BatchItem& item : items) {
    auto& s = static_cast<SequenceImpl&>(*item.sequence);
    s.Extend(item.tokens);
    s.attention_.CountQueries(static_cast<int>(item.tokens.size()));
  }
  return OkStatus();
}

Status EngineImpl::Feed(Sequence& sequence, std::span<const int32_t> tokens, LogitsWanted wanted,
                        std::span<float> logits,
                        const std::function<bool(int64_t, int64_t)>& progress) {
  const size_t vocab = static_cast<size_t>(transformer_.config().vocab);
  if (wanted == LogitsWanted::kAll && logits.size() < tokens.size() * vocab) {
    return InvalidArgument(fmt::format("logits of {} rows need {} floats, {} given", tokens.size(),
                                       tokens.size() * vocab, logits.size()));
  }
  if (sequence.length() + static_cast<int64_t>(tokens.size()) > sequence.capacity()) {
    return ResourceExhausted(fmt::format("the sequence holds {} tokens, {} more exceed its {}",
                                         sequence.length(), tokens.size(), sequence.capacity()));
  }
  for (size_t done = 0; done < tokens.size();) {
    // Spans end where chunks do, so that a chunk's tiles are whole.
    const size_t to_chunk = static_cast<size_t>(span_ - (span_ >= 64 ? sequence.length() % 64 : 0));
    const size_t n = std::min(to_chunk, tokens.size() - done);
    const bool last = done + n == tokens.size();
    BatchItem item{&sequence, tokens.subspan(done, n), LogitsWanted::kNone, {}};
    if (wanted == LogitsWanted::kAll) {
      item.wanted = wanted;
      item.logits = logits.subspan(done * vocab, n * vocab);
    } else if (wanted == LogitsWanted::kLast && last) {
      item.wanted = wanted;
      item.logits = logits;
    }
    HGA_RETURN_IF_ERROR(Forward({&item, 1}));
    done += n;
    if (progress && !progress(static_cast<int64_t>(done), static_cast<int64_t>(tokens.size())) &&
        !last) {
      return Cancelled(fmt::format("stopped after {} of {} tokens", done, tokens.size()));
    }
  }
  return OkStatus();
}

std::vector<Engine::StageTime> EngineImpl::stage_times() const {
  static constexpr std::string_view kNames[] = {"embed", "linear", "attention", "experts", "head"};
  std::vector<StageTime> times;
  for (int s = 0; s < static_cast<int>(Stage::kCount); ++s) {
    const StageSum& sum = const_cast<EngineImpl*>(this)->transformer_.stage(static_cast<Stage>(s));
    times.push_back({kNames[s], sum.seconds, sum.flops, sum.bytes});
  }
  return times;
}

void EngineImpl::ResetStageTimes() {
  for (int s = 0; s < static_cast<int>(Stage::kCount); ++s) {
    transformer_.stage(static_cast<Stage>(s)) = {};
  }
}

}  // namespace hga
