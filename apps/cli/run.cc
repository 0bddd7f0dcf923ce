// SPDX-License-Identifier: Apache-2.0
// `hga run`: one prompt, one answer.
#include "run.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "commands.h"
#include "memory_plan.h"
#include "options_kv.h"
#include "report.h"
#include "run_generate.h"
#include "run_prompt.h"
#include "run_template.h"
#include "session_keeper.h"

namespace hga::cli {
namespace {

struct RunFlags {
  ModelOptions model;
  AttentionOptions attention;
  PromptFlags prompt;
  LengthFlags length;
  SamplingFlags sampling;
  StopFlags stop;
  KvFlags kv;
  SessionFlags session;
  std::string stats = "text";

  // A session without a prompt goes on where it ends.
  bool goes_on() const { return session.given() && prompt.empty(); }
};

// Everything that is decided before weights are read.
struct Job {
  Checkpoint checkpoint;
  Prompt prompt;  // no tokens yet when the session's are to be used
  SamplingOptions sampling;
  KvOptions kv;
  int64_t max_tokens = 0;
  int64_t capacity = 0;
};

// The tokens come from the session; the rest of a prompt is what ends an answer.
Result<Prompt> PromptOfSession(const RunFlags& flags, const Checkpoint& checkpoint) {
  Prompt prompt;
  if (flags.prompt.raw) return prompt;
  const Result<PromptTemplate> chat =
      PromptTemplate::Load(checkpoint.directory, *checkpoint.tokenizer);
  if (chat.ok()) prompt.turn_end = chat->turn_end();
  return prompt;
}

// What the session has, 0 without one. Who else has it open or what is wrong with it is left for
// opening it.
Result<int64_t> StoredTokens(const RunFlags& flags, const KvOptions& kv) {
  if (!flags.session.given()) return int64_t{0};
  const Result<SessionInfo> found = FindSession(kv.directory, flags.session.name);
  if (found.ok()) return found->tokens;
  const bool missing = found.status().code() == StatusCode::kNotFound;
  if (!missing || flags.goes_on()) return found.status();
  return int64_t{0};
}

Result<Job> Prepare(const RunFlags& flags) {
  Job job;
  HGA_ASSIGN_OR_RETURN(job.checkpoint, LookAt(flags.model, flags.attention));
  const Checkpoint& checkpoint = job.checkpoint;
  HGA_ASSIGN_OR_RETURN(job.sampling,
                       MakeSampling(flags.sampling, checkpoint.directory, checkpoint.info.vocab));
  HGA_ASSIGN_OR_RETURN(job.kv, MakeKvOptions(flags.kv, flags.session.given()));
  HGA_ASSIGN_OR_RETURN(const int64_t limit, ContextLimit(flags.length, checkpoint.info));
  HGA_ASSIGN_OR_RETURN(const int64_t stored, StoredTokens(flags, job.kv));
  HGA_ASSIGN_OR_RETURN(job.prompt, flags.goes_on() ? PromptOfSession(flags, checkpoint)
                                                   : MakePrompt(flags.prompt, checkpoint.directory,
                                                                *checkpoint.tokenizer));
  const int64_t tokens = flags.goes_on() ? stored : static_cast<int64_t>(job.prompt.ids.size());
  HGA_ASSIGN_OR_RETURN(job.max_tokens, AnswerLimit(flags.length, limit, tokens));
  // A session is opened with all it holds, even if less of it is used then.
  job.capacity = std::max(tokens + job.max_tokens, std::min(stored, limit));
  HGA_RETURN_IF_ERROR(CheckMemory(checkpoint, flags.model, job.kv, flags.session.given(),
                                  flags.length, job.capacity));
  return job;
}

Status CheckFlags(const RunFlags& flags) {
  if (!flags.goes_on()) {
    HGA_RETURN_IF_ERROR(CheckPrompt(flags.prompt));
  } else if (!flags.prompt.system.empty() || flags.prompt.special) {
    return InvalidArgument("--system and --special need a prompt");
  }
  HGA_RETURN_IF_ERROR(CheckStops(flags.stop));
  HGA_RETURN_IF_ERROR(CheckSampling(flags.sampling));
  return MakeAttention(flags.attention).status();
}

// The tokens to be in the sequence before the answer; what of them it holds stays.
Result<std::vector<int32_t>> StartFrom(const RunFlags& flags, const Job& job, SessionKeeper* keeper,
                                       Sampler* sampler) {
  Sequence& sequence = keeper->sequence();
  if (!sequence.note().text.empty()) {
    return InvalidArgument(
        fmt::format("session {} is a chat; go on with it by `hga chat`, or take another name",
                    OneLine(flags.session.name)));
  }
  std::vector<int32_t> prompt = job.prompt.ids;
  if (flags.goes_on()) prompt.assign(sequence.tokens().begin(), sequence.tokens().end());
  if (prompt.empty()) {
    return InvalidArgument(fmt::format("session {} holds nothing yet: there must be a prompt",
                                       OneLine(flags.session.name)));
  }
  // Where the stored text is all of the prompt, its random numbers go on as well.
  const bool same = std::ranges::equal(prompt, sequence.tokens());
  if (same && !flags.sampling.seed && !sequence.note().sampler.empty()) {
    HGA_RETURN_IF_ERROR(sampler->set_state(sequence.note().sampler));
  }
  HGA_RETURN_IF_ERROR(keeper->Reuse(prompt).status());
  const SessionReport& report = keeper->report();
  if (report.stored_tokens > 0) {
    Info(fmt::format(
        "session {}: {} of the prompt's {} tokens are there already{}", OneLine(report.name),
        FormatCount(report.reused_tokens), FormatCount(static_cast<int64_t>(prompt.size())),
        report.dropped_tokens == 0
            ? ""
            : fmt::format("; {} others are dropped", FormatCount(report.dropped_tokens))));
  }
  return prompt;
}

// Generates, keeping the session if there is one.
Status Write(const GlobalOptions& global, const RunFlags& flags, const Job& job, Engine* engine,
             SessionKeeper* keeper, RunReport* report) {
  Sampler sampler(job.sampling);
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, StartFrom(flags, job, keeper, &sampler));
  const auto kept = static_cast<size_t>(keeper->sequence().length());
  GenerateRequest request;
  request.history = std::span(prompt).first(kept);
  request.prompt = std::span(prompt).subspan(kept);
  request.max_tokens = job.max_tokens;
  request.stops = flags.stop.stop;
  request.stop_tokens = StopTokens(job.checkpoint.info, flags.stop, job.prompt.turn_end);
  request.checkpoint_every = flags.session.checkpoint_every;
  if (keeper->active()) {
    request.checkpoint = [keeper](std::span<const int32_t>, const std::vector<std::byte>& state) {
      keeper->Save({state, ""});
    };
  }
  report->cached_tokens = static_cast<int64_t>(kept);
  HGA_ASSIGN_OR_RETURN(report->generated, Generate(global, *engine, keeper->sequence(), sampler,
                                                   request, WriteStdout));
  const std::string& text = report->generated.text;
  const bool open_line = !text.empty() && text.back() != '\n';
  if (open_line && isatty(STDOUT_FILENO) == 1) HGA_RETURN_IF_ERROR(WriteStdout("\n"));
  keeper->Save({report->generated.sampler, ""});
  keeper->CheckDisk();
  report->kv = engine->kv_stats();
  report->session = keeper->report();
  return OkStatus();
}

Result<RunReport> Answer(const GlobalOptions& global, const RunFlags& flags, const Job& job) {
  RunReport report;
  HGA_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      OpenEngine(global, flags.model, job.kv, &report.load_seconds, &report.model));
  if (Interrupted()) return Cancelled("interrupted while loading");
  report.context = job.capacity;
  report.attention = job.checkpoint.attention.name;
  report.threads = engine->threads();
  report.isa = engine->isa();
  report.weight_bytes = job.checkpoint.info.weight_bytes;
  report.sampling = job.sampling;
  HGA_ASSIGN_OR_RETURN(SessionKeeper keeper,
                       SessionKeeper::Open(engine.get(), flags.session.name,
                                           job.checkpoint.attention, job.capacity));
  HGA_RETURN_IF_ERROR(Write(global, flags, job, engine.get(), &keeper, &report));
  return report;
}

int Run(const GlobalOptions& global, const RunFlags& flags) {
  if (const Status status = CheckFlags(flags); !status.ok()) return FailUsage(status);
  const Result<Job> job = Prepare(flags);
  if (!job.ok()) return Fail(job.status());
  const Result<RunReport> report = Answer(global, flags, *job);
  if (!report.ok()) return Fail(report.status());
  if (const Status status = PrintReport(flags.stats, *report); !status.ok()) return Fail(status);
  if (report->generated.finish != FinishReason::kInterrupted) return kExitOk;
  Error("interrupted");
  return kExitInterrupted;
}

}  // namespace

Result<Checkpoint> LookAt(const ModelOptions& model, const AttentionOptions& attention) {
  Checkpoint checkpoint;
  HGA_ASSIGN_OR_RETURN(checkpoint.directory, ResolveModel(model.model, model.revision));
  HGA_ASSIGN_OR_RETURN(checkpoint.info, ReadModelInfo(checkpoint.directory));
  HGA_ASSIGN_OR_RETURN(checkpoint.tokenizer, Tokenizer::Load(checkpoint.directory));
  HGA_ASSIGN_OR_RETURN(checkpoint.attention, MakeAttention(attention));
  HGA_RETURN_IF_ERROR(Validate(checkpoint.attention, checkpoint.info.layers));
  return checkpoint;
}

Status CheckMemory(const Checkpoint& checkpoint, const ModelOptions& model, const KvOptions& kv,
                   bool session, const LengthFlags& length, int64_t context) {
  HGA_ASSIGN_OR_RETURN(const MemoryPlan plan,
                       PlanMemory(checkpoint.directory, checkpoint.attention, kv, session, context,
                                  model.span, model.threads));
  const bool asked = kv.host_bytes > 0 || kv.device_bytes > 0 || !kv.directory.empty();
  for (const std::string& line : PlanLines(plan)) (asked ? Info : Detail)(line);
  if (plan.fits || length.allow_overcommit) return OkStatus();
  // What an option bounds stays bounded.
  const bool bounded = kv.device_bytes > 0 && plan.device_bytes > kv.device_bytes;
  return ResourceExhausted(fmt::format(
      "a run of {} tokens does not fit: {}; use a smaller --ctx{}", FormatCount(context), plan.why,
      bounded ? " or a larger --kv-device-mem" : ", or --allow-overcommit to try anyway"));
}

std::set<int32_t> StopTokens(const ModelInfo& info, const StopFlags& stop,
                             const std::set<int32_t>& turn_end) {
  if (stop.ignore_eos) return {};
  std::set<int32_t> ids = turn_end;
  ids.insert(info.eos_ids.begin(), info.eos_ids.end());
  return ids;
}

void AddRunCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* verb = app.add_subcommand("run", "Answer one prompt");
  const auto flags = std::make_shared<RunFlags>();
  AddPromptOptions(*verb, &flags->prompt);
  AddModelOptions(*verb, &flags->model);
  AddAttentionOptions(*verb, &flags->attention);
  AddLengthOptions(*verb, &flags->length);
  AddStopOptions(*verb, &flags->stop);
  AddSamplingOptions(*verb, &flags->sampling);
  AddKvOptions(*verb, &flags->kv);
  AddSessionOptions(*verb, &flags->session);
  AddStatsOption(*verb, &flags->stats);
  verb->callback([flags, &global, exit_code] { *exit_code = Run(global, *flags); });
}

}  // namespace hga::cli
