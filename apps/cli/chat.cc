// SPDX-License-Identifier: Apache-2.0
// `hga chat`: a conversation over one sequence, whose K/V every turn goes on with.
#include <fmt/core.h>
#include <unistd.h>

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "chat_commands.h"
#include "chat_conversation.h"
#include "chat_line.h"
#include "commands.h"
#include "options_kv.h"
#include "report.h"
#include "run.h"
#include "run_generate.h"
#include "run_prompt.h"
#include "session_keeper.h"

namespace hga::cli {
namespace {

struct ChatFlags {
  ModelOptions model;
  AttentionOptions attention;
  LengthFlags length;
  SamplingFlags sampling;
  StopFlags stop;
  KvFlags kv;
  SessionFlags session;
  std::string system;
  std::string history_file = DefaultHistoryFile();
  std::string stats = "none";
};

// The program's side of a chat: everything that lasts over turns.
struct Talk {
  const GlobalOptions& global;
  const ChatFlags& flags;
  Checkpoint checkpoint;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<SessionKeeper> keeper;
  ChatState state;
  std::string note;  // as saved last

  Sequence& sequence() { return keeper->sequence(); }
};

// `part`: of the newest answer, while it is being written.
void Save(std::span<const int32_t> part, Talk* talk) {
  if (!talk->keeper->active()) return;
  talk->note = talk->state.conversation.Note(part);
  talk->keeper->Save({talk->state.sampler->state(), talk->note});
}

// After a command: what it took out of the conversation leaves the session as well.
Status SaveIfChanged(Talk* talk) {
  Conversation& conversation = talk->state.conversation;
  if (!talk->keeper->active()) return OkStatus();
  if (conversation.Note({}) == talk->note) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, conversation.Tokens());
  HGA_RETURN_IF_ERROR(talk->keeper->CutTo(tokens));
  Save({}, talk);
  return OkStatus();
}

Result<GenerateRequest> MakeRequest(Talk* talk, const std::vector<int32_t>& prompt, int64_t kept) {
  LengthFlags length = talk->flags.length;
  length.max_tokens = talk->state.max_tokens;
  GenerateRequest request;
  const auto used = static_cast<int64_t>(prompt.size());
  const int64_t capacity = talk->sequence().capacity();
  const auto room = AnswerLimit(length, capacity, used);
  if (!room.ok()) {
    return ResourceExhausted(fmt::format(
        "the conversation has {} tokens and the context holds {}, which leaves too little for an "
        "answer{}; nothing was cut off and your message was not sent: /undo, /clear, a smaller "
        "/set max-tokens, or start with a larger --ctx",
        used, capacity, length.max_tokens ? fmt::format(" of {}", *length.max_tokens) : ""));
  }
  request.history = std::span(prompt).first(static_cast<size_t>(kept));
  request.prompt = std::span(prompt).subspan(static_cast<size_t>(kept));
  request.max_tokens = *room;
  request.stops = talk->flags.stop.stop;
  request.stop_tokens =
      StopTokens(talk->checkpoint.info, talk->flags.stop, talk->state.conversation.turn_end());
  if (talk->keeper->active()) {
    request.checkpoint = [talk](std::span<const int32_t> part, const std::vector<std::byte>&) {
      Save(part, talk);
    };
    request.checkpoint_every = talk->flags.session.checkpoint_every;
  }
  return request;
}

// Answers the newest turn.
Status AnswerTurn(Talk* talk) {
  ChatState& state = talk->state;
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, state.conversation.Prompt());
  HGA_ASSIGN_OR_RETURN(state.report.cached_tokens, talk->keeper->Reuse(prompt));
  HGA_ASSIGN_OR_RETURN(const GenerateRequest request,
                       MakeRequest(talk, prompt, state.report.cached_tokens));
  HGA_ASSIGN_OR_RETURN(state.report.generated,
                       Generate(talk->global, *talk->engine, talk->sequence(), *state.sampler,
                                request, WriteStdout));
  HGA_RETURN_IF_ERROR(WriteStdout("\n"));
  state.report.sampling = state.sampling;
  state.conversation.AddAnswer(static_cast<int64_t>(request.prompt.size()), state.report.generated);
  Save({}, talk);
  talk->keeper->CheckDisk();
  state.report.kv = talk->engine->kv_stats();
  state.report.session = talk->keeper->report();
  state.answered = true;
  return PrintReport(talk->flags.stats, state.report);
}

Status AddMessage(const std::string& message, ChatState* state) {
  HGA_RETURN_IF_ERROR(CheckUtf8(message, "the message"));
  std::string text = state->document;
  if (!text.empty()) text += '\n';
  state->conversation.AddUser(text + message);
  state->document.clear();
  return OkStatus();
}

// One message of the person. `kLeave` ends the chat; errors are shown and the chat goes on.
Result<ChatStep> OneMessage(const std::string& message, Talk* talk) {
  ChatState& state = talk->state;
  if (message.find_first_not_of(" \t\n") == std::string::npos) return ChatStep::kNext;
  const bool again = IsCommand(message);
  if (again) {
    HGA_ASSIGN_OR_RETURN(const ChatStep step, RunCommand(message, &state));
    if (step != ChatStep::kAnswer) {
      HGA_RETURN_IF_ERROR(SaveIfChanged(talk));
      return step;
    }
  } else {
    HGA_RETURN_IF_ERROR(AddMessage(message, &state));
  }
  const Status status = AnswerTurn(talk);
  if (!status.ok() && !again) state.conversation.DropTurn();
  if (!status.ok()) return status;
  if (state.report.generated.finish == FinishReason::kInterrupted) Info("stopped");
  ClearInterrupt();
  return ChatStep::kNext;
}

// Until the person leaves. The exit code.
int Converse(Talk* talk) {
  const bool person = isatty(STDIN_FILENO) == 1;
  const std::unique_ptr<LineReader> reader = NewLineReader(talk->flags.history_file);
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
    const Result<ChatStep> step = OneMessage(message, talk);
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
  HGA_ASSIGN_OR_RETURN(PromptTemplate chat,
                       PromptTemplate::Load(checkpoint.directory, *checkpoint.tokenizer));
  HGA_ASSIGN_OR_RETURN(const SamplingOptions sampling,
                       MakeSampling(flags.sampling, checkpoint.directory, checkpoint.info.vocab));
  ChatState state{Conversation(std::move(chat), checkpoint.tokenizer.get()),
                  sampling,
                  flags.length.max_tokens,
                  std::make_unique<Sampler>(sampling),
                  "",
                  {},
                  false,
                  checkpoint.info.vocab};
  HGA_RETURN_IF_ERROR(CheckUtf8(flags.system, "--system"));
  state.conversation.SetSystem(flags.system);
  return state;
}

Status CheckFlags(const ChatFlags& flags) {
  HGA_RETURN_IF_ERROR(CheckStops(flags.stop));
  HGA_RETURN_IF_ERROR(CheckSampling(flags.sampling));
  return MakeAttention(flags.attention).status();
}

// What the session knows of an earlier conversation.
Status TakeUp(const ChatFlags& flags, Sequence& sequence, int vocab, ChatState* state) {
  const SessionNote& note = sequence.note();
  if (sequence.length() > 0 && note.text.empty()) {
    return InvalidArgument(fmt::format(
        "session {} is none of a chat; go on with it by `hga run`, or take another name",
        OneLine(flags.session.name)));
  }
  if (note.text.empty()) return OkStatus();
  HGA_RETURN_IF_ERROR(state->conversation.Restore(note.text, vocab));
  if (!flags.system.empty()) state->conversation.SetSystem(flags.system);
  if (!flags.sampling.seed) HGA_RETURN_IF_ERROR(state->sampler->set_state(note.sampler));
  Info(fmt::format("session {}: goes on after {} turns, {} tokens", OneLine(flags.session.name),
                   state->conversation.turns(), FormatCount(sequence.length())));
  return OkStatus();
}

// Loads, opens the session if there is one, and talks. The exit code.
Result<int> Start(const GlobalOptions& global, const ChatFlags& flags) {
  HGA_ASSIGN_OR_RETURN(Checkpoint checkpoint, LookAt(flags.model, flags.attention));
  HGA_ASSIGN_OR_RETURN(const int64_t limit, ContextLimit(flags.length, checkpoint.info));
  HGA_ASSIGN_OR_RETURN(ChatState state, NewState(flags, checkpoint));
  HGA_ASSIGN_OR_RETURN(const KvOptions kv, MakeKvOptions(flags.kv, flags.session.given()));
  HGA_RETURN_IF_ERROR(
      CheckMemory(checkpoint, flags.model, kv, flags.session.given(), flags.length, limit));
  RunReport& report = state.report;
  HGA_ASSIGN_OR_RETURN(auto engine,
                       OpenEngine(global, flags.model, kv, &report.load_seconds, &report.model));
  if (Interrupted()) return Cancelled("interrupted while loading");
  HGA_ASSIGN_OR_RETURN(SessionKeeper keeper, SessionKeeper::Open(engine.get(), flags.session.name,
                                                                 checkpoint.attention, limit));
  HGA_RETURN_IF_ERROR(TakeUp(flags, keeper.sequence(), checkpoint.info.vocab, &state));
  report.attention = checkpoint.attention.name;
  report.threads = engine->threads();
  report.isa = engine->isa();
  report.context = limit;
  report.weight_bytes = checkpoint.info.weight_bytes;
  Info(fmt::format("{}, attention {}, room for {} tokens; /help lists the commands", report.model,
                   report.attention, FormatCount(limit)));
  const std::string note = state.conversation.Note({});
  Talk talk{global,
            flags,
            std::move(checkpoint),
            std::move(engine),
            std::make_unique<SessionKeeper>(std::move(keeper)),
            std::move(state),
            note};
  return Converse(&talk);
}

int Chat(const GlobalOptions& global, const ChatFlags& flags) {
  if (const Status status = CheckFlags(flags); !status.ok()) return FailUsage(status);
  const Result<int> code = Start(global, flags);
  return code.ok() ? *code : Fail(code.status());
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
  AddKvOptions(*verb, &flags->kv);
  AddSessionOptions(*verb, &flags->session);
  AddStatsOption(*verb, &flags->stats);
  verb->callback([flags, &global, exit_code] { *exit_code = Chat(global, *flags); });
}

}  // namespace hga::cli
