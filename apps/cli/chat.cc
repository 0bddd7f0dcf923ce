// SPDX-License-Identifier: Apache-2.0
// `hga chat`: a conversation over one sequence, whose K/V every turn goes on with.
#include <fmt/core.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "chat_commands.h"
#include "chat_conversation.h"
#include "chat_line.h"
#include "commands.h"
#include "report.h"
#include "run.h"
#include "run_generate.h"
#include "run_prompt.h"

namespace hga::cli {
namespace {

struct ChatFlags {
  ModelOptions model;
  AttentionOptions attention;
  LengthFlags length;
  SamplingFlags sampling;
  StopFlags stop;
  std::string system;
  std::string history_file = DefaultHistoryFile();
  std::string stats = "none";
};

// The program's side of a chat: everything that lasts over turns.
struct Session {
  const GlobalOptions& global;
  const ChatFlags& flags;
  Checkpoint checkpoint;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Sequence> sequence;
  ChatState state;
};

Result<GenerateRequest> MakeRequest(const Session& session, const std::vector<int32_t>& kept,
                                    const std::vector<int32_t>& prompt) {
  LengthFlags length = session.flags.length;
  length.max_tokens = session.state.max_tokens;
  GenerateRequest request;
  const auto used = static_cast<int64_t>(kept.size() + prompt.size());
  const auto room = AnswerLimit(length, session.sequence->capacity(), used);
  if (!room.ok()) {
    return ResourceExhausted(fmt::format(
        "the conversation has {} tokens and the context holds {}, which leaves too little for an "
        "answer{}; nothing was cut off and your message was not sent: /undo, /clear, a smaller "
        "/set max-tokens, or start with a larger --ctx",
        used, session.sequence->capacity(),
        length.max_tokens ? fmt::format(" of {}", *length.max_tokens) : ""));
  }
  request.history = kept;
  request.prompt = prompt;
  request.max_tokens = *room;
  request.stops = session.flags.stop.stop;
  request.stop_tokens = StopTokens(session.checkpoint.info, session.flags.stop,
                                   {session.state.conversation.end_id()});
  return request;
}

// Answers the newest turn.
Status AnswerTurn(Session* session) {
  ChatState& state = session->state;
  std::vector<int32_t> kept;
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                       state.conversation.Align(session->sequence.get(), &kept));
  HGA_ASSIGN_OR_RETURN(const GenerateRequest request, MakeRequest(*session, kept, prompt));
  HGA_ASSIGN_OR_RETURN(state.report.generated,
                       Generate(session->global, *session->engine, *session->sequence,
                                *state.sampler, request, WriteStdout));
  HGA_RETURN_IF_ERROR(WriteStdout("\n"));
  state.report.cached_tokens = static_cast<int64_t>(kept.size());
  state.report.sampling = state.sampling;
  HGA_RETURN_IF_ERROR(
      state.conversation.AddAnswer(prompt, state.report.generated, session->sequence->length()));
  state.answered = true;
  return PrintReport(session->flags.stats, state.report);
}

Status AddMessage(const std::string& message, ChatState* state) {
  HGA_RETURN_IF_ERROR(CheckUtf8(message, "the message"));
  std::string text = state->document;
  if (!text.empty()) text += '\n';
  HGA_RETURN_IF_ERROR(state->conversation.AddUser(text + message));
  state->document.clear();
  return OkStatus();
}

// One message of the person. `kLeave` ends the chat; errors are shown and the chat goes on.
Result<ChatStep> OneMessage(const std::string& message, Session* session) {
  ChatState& state = session->state;
  if (message.find_first_not_of(" \t\n") == std::string::npos) return ChatStep::kNext;
  const bool again = IsCommand(message);
  if (again) {
    HGA_ASSIGN_OR_RETURN(const ChatStep step, RunCommand(message, &state));
    if (step != ChatStep::kAnswer) return step;
  } else {
    HGA_RETURN_IF_ERROR(AddMessage(message, &state));
  }
  const Status status = AnswerTurn(session);
  if (!status.ok() && !again) state.conversation.DropTurn();
  if (!status.ok()) return status;
  if (state.report.generated.finish == FinishReason::kInterrupted) Info("stopped");
  ClearInterrupt();
  return ChatStep::kNext;
}

// Until the person leaves. The exit code.
int Converse(Session* session) {
  const bool person = isatty(STDIN_FILENO) == 1;
  const std::unique_ptr<LineReader> reader = NewLineReader(session->flags.history_file);
  int exit_code = kExitOk;
  int interrupts = 0;  // at the prompt, in a row
  for (;;) {
    std::string message;
    const LineEnd end = ReadMessage(reader.get(), &message);
    if (end == LineEnd::kEndOfInput) return exit_code;
    if (end == LineEnd::kTooLong) {
      return Fail(
          ResourceExhausted(fmt::format("stdin: a line of more than {} bytes", kMaxPromptBytes)));
    }
    if (end == LineEnd::kInterrupted) {
      if (!person || ++interrupts >= 2) return kExitInterrupted;
      ClearInterrupt();
      Info("Ctrl-C again or /exit leaves");
      continue;
    }
    interrupts = 0;
    const Result<ChatStep> step = OneMessage(message, session);
    if (!step.ok()) {
      const int code = Fail(step.status());
      if (!person) exit_code = code;
      if (step.status().code() == StatusCode::kIoError) return code;
      ClearInterrupt();
    } else if (*step == ChatStep::kLeave) {
      return exit_code;
    }
  }
}

Result<ChatState> NewState(const ChatFlags& flags, const Checkpoint& checkpoint) {
  HGA_ASSIGN_OR_RETURN(ChatMl chat, ChatMl::For(checkpoint.directory, *checkpoint.tokenizer));
  HGA_ASSIGN_OR_RETURN(const SamplingOptions sampling,
                       MakeSampling(flags.sampling, checkpoint.directory, checkpoint.info.vocab));
  ChatState state{Conversation(chat),
                  sampling,
                  flags.length.max_tokens,
                  std::make_unique<Sampler>(sampling),
                  flags.system,
                  "",
                  {},
                  false,
                  checkpoint.info.vocab};
  HGA_RETURN_IF_ERROR(CheckUtf8(flags.system, "--system"));
  HGA_RETURN_IF_ERROR(state.conversation.SetSystem(flags.system));
  return state;
}

Status CheckFlags(const ChatFlags& flags) {
  HGA_RETURN_IF_ERROR(CheckStops(flags.stop));
  HGA_RETURN_IF_ERROR(CheckSampling(flags.sampling));
  return MakeAttention(flags.attention).status();
}

int Chat(const GlobalOptions& global, const ChatFlags& flags) {
  if (const Status status = CheckFlags(flags); !status.ok()) return FailUsage(status);
  Result<Checkpoint> checkpoint = LookAt(flags.model, flags.attention);
  if (!checkpoint.ok()) return Fail(checkpoint.status());
  const Result<int64_t> limit = ContextLimit(flags.length, checkpoint->info);
  if (!limit.ok()) return Fail(limit.status());
  Result<ChatState> state = NewState(flags, *checkpoint);
  if (!state.ok()) return Fail(state.status());
  const Status memory = CheckMemory(*checkpoint, flags.model, flags.length, *limit);
  if (!memory.ok()) return Fail(memory);
  RunReport& report = state->report;
  auto engine = OpenEngine(global, flags.model, &report.load_seconds, &report.model);
  if (!engine.ok()) return Fail(engine.status());
  if (Interrupted()) return Fail(Cancelled("interrupted while loading"));
  auto sequence = (*engine)->NewSequence(checkpoint->attention, *limit);
  if (!sequence.ok()) return Fail(sequence.status());
  report.attention = checkpoint->attention.name;
  report.threads = (*engine)->threads();
  report.isa = (*engine)->isa();
  report.context = *limit;
  report.weight_bytes = checkpoint->info.weight_bytes;
  Info(fmt::format("{}, attention {}, room for {} tokens; /help lists the commands", report.model,
                   report.attention, FormatCount(*limit)));
  Session session{
      global,           flags, *std::move(checkpoint), *std::move(engine), *std::move(sequence),
      *std::move(state)};
  return Converse(&session);
}

}  // namespace

void AddChatCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* verb = app.add_subcommand("chat", "Talk with a model; turns go on with the same K/V");
  const auto flags = std::make_shared<ChatFlags>();
  AddModelOptions(*verb, &flags->model);
  verb->add_option("--system", flags->system, "System message")->type_name("TEXT")->group("Prompt");
  verb->add_option("--history", flags->history_file, "File for typed lines; \"\" keeps none")
      ->type_name("FILE")
      ->capture_default_str()
      ->group("Prompt");
  AddAttentionOptions(*verb, &flags->attention);
  AddLengthOptions(*verb, &flags->length);
  AddStopOptions(*verb, &flags->stop);
  AddSamplingOptions(*verb, &flags->sampling);
  AddStatsOption(*verb, &flags->stats);
  verb->callback([flags, &global, exit_code] { *exit_code = Chat(global, *flags); });
}

}  // namespace hga::cli
