// SPDX-License-Identifier: Apache-2.0
// `hga run`: one prompt, one answer.
#include "run.h"

#include <fmt/core.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "commands.h"
#include "report.h"
#include "run_generate.h"
#include "run_prompt.h"

namespace hga::cli {
namespace {

struct RunFlags {
  ModelOptions model;
  AttentionOptions attention;
  PromptFlags prompt;
  LengthFlags length;
  SamplingFlags sampling;
  StopFlags stop;
  std::string stats = "text";
};

// Everything that is decided before weights are read.
struct Job {
  Checkpoint checkpoint;
  Prompt prompt;
  SamplingOptions sampling;
  int64_t max_tokens = 0;
};

Result<Job> Prepare(const RunFlags& flags) {
  Job job;
  HGA_ASSIGN_OR_RETURN(job.checkpoint, LookAt(flags.model, flags.attention));
  const Checkpoint& checkpoint = job.checkpoint;
  HGA_ASSIGN_OR_RETURN(job.sampling,
                       MakeSampling(flags.sampling, checkpoint.directory, checkpoint.info.vocab));
  HGA_ASSIGN_OR_RETURN(const int64_t limit, ContextLimit(flags.length, checkpoint.info));
  HGA_ASSIGN_OR_RETURN(job.prompt,
                       MakePrompt(flags.prompt, checkpoint.directory, *checkpoint.tokenizer));
  const auto prompt_tokens = static_cast<int64_t>(job.prompt.ids.size());
  HGA_ASSIGN_OR_RETURN(job.max_tokens, AnswerLimit(flags.length, limit, prompt_tokens));
  HGA_RETURN_IF_ERROR(
      CheckMemory(checkpoint, flags.model, flags.length, prompt_tokens + job.max_tokens));
  return job;
}

Status CheckFlags(const RunFlags& flags) {
  HGA_RETURN_IF_ERROR(CheckPrompt(flags.prompt));
  HGA_RETURN_IF_ERROR(CheckStops(flags.stop));
  HGA_RETURN_IF_ERROR(CheckSampling(flags.sampling));
  return MakeAttention(flags.attention).status();
}

Result<RunReport> Answer(const GlobalOptions& global, const RunFlags& flags, const Job& job) {
  RunReport report;
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                       OpenEngine(global, flags.model, &report.load_seconds, &report.model));
  if (Interrupted()) return Cancelled("interrupted while loading");
  report.context = static_cast<int64_t>(job.prompt.ids.size()) + job.max_tokens;
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<Sequence> sequence,
                       engine->NewSequence(job.checkpoint.attention, report.context));
  report.attention = job.checkpoint.attention.name;
  report.threads = engine->threads();
  report.isa = engine->isa();
  report.weight_bytes = job.checkpoint.info.weight_bytes;
  report.sampling = job.sampling;
  GenerateRequest request;
  request.prompt = job.prompt.ids;
  request.max_tokens = job.max_tokens;
  request.stops = flags.stop.stop;
  request.stop_tokens = StopTokens(job.checkpoint.info, flags.stop, job.prompt.turn_end);
  Sampler sampler(job.sampling);
  HGA_ASSIGN_OR_RETURN(report.generated,
                       Generate(global, *engine, *sequence, sampler, request, WriteStdout));
  const bool open_line = !report.generated.text.empty() && report.generated.text.back() != '\n';
  if (open_line && isatty(STDOUT_FILENO) == 1) HGA_RETURN_IF_ERROR(WriteStdout("\n"));
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

Status CheckMemory(const Checkpoint& checkpoint, const ModelOptions& model,
                   const LengthFlags& length, int64_t context) {
  HGA_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(checkpoint.directory, checkpoint.attention, KvOptions(),
                                                         context, model.span, model.threads));
  Detail(MemoryLine(plan));
  if (plan.fits || length.allow_overcommit) return OkStatus();
  return ResourceExhausted(MemoryLine(plan) +
                           "; use a smaller --ctx, or --allow-overcommit to try anyway");
}

std::set<int32_t> StopTokens(const ModelInfo& info, const StopFlags& stop,
                             const std::set<int32_t>& turn_end) {
  if (stop.ignore_eos) return {};
  std::set<int32_t> ids = turn_end;
  ids.insert(info.eos_ids.begin(), info.eos_ids.end());
  return ids;
}

std::string MemoryLine(const MemoryPlan& plan) {
  const auto bytes = [](int64_t value) { return FormatBytes(static_cast<double>(value)); };
  return fmt::format(
      "memory for {} tokens: weights {}, K/V {}, summaries {}, scratch {}; {} of {} available, {}",
      FormatCount(plan.context), bytes(plan.weight_bytes), bytes(plan.kv_bytes),
      bytes(plan.summary_bytes), bytes(plan.scratch_bytes), bytes(plan.total_bytes),
      bytes(plan.available_bytes), plan.fits ? "fits" : "does not fit");
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
  AddStatsOption(*verb, &flags->stats);
  verb->callback([flags, &global, exit_code] { *exit_code = Run(global, *flags); });
}

}  // namespace hga::cli
