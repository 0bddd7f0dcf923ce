// SPDX-License-Identifier: Apache-2.0
// One function per command, found by name in a table that is also the help.
#include "chat_commands.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "common.h"
#include "run_prompt.h"

namespace hga::cli {
namespace {

using Step = Result<ChatStep>;

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

Step Exit(std::string_view, ChatState*) { return ChatStep::kLeave; }

Step Clear(std::string_view, ChatState* state) {
  state->conversation.Clear();
  state->document.clear();
  state->answered = false;
  Reply("the conversation is forgotten");
  return ChatStep::kNext;
}

Step Regen(std::string_view, ChatState* state) {
  if (state->conversation.turns() == 0) return InvalidArgument("/regen: there is no answer yet");
  return ChatStep::kAnswer;
}

Step Undo(std::string_view, ChatState* state) {
  if (state->conversation.turns() == 0) return InvalidArgument("/undo: there is no turn yet");
  state->conversation.DropTurn();
  Reply(fmt::format("the newest turn is taken back, {} left", state->conversation.turns()));
  return ChatStep::kNext;
}

Step Read(std::string_view argument, ChatState* state) {
  if (argument.empty()) return InvalidArgument("/read: which FILE?");
  const std::string path(argument);
  HGA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxPromptBytes));
  HGA_RETURN_IF_ERROR(CheckUtf8(text, path));
  state->document += text;
  if (!text.empty() && text.back() != '\n') state->document += '\n';
  Reply(fmt::format("{}: {} bytes, sent before your next message", path,
                    FormatCount(static_cast<int64_t>(text.size()))));
  return ChatStep::kNext;
}

Step System(std::string_view argument, ChatState* state) {
  HGA_RETURN_IF_ERROR(CheckUtf8(argument, "/system"));
  state->conversation.SetSystem(argument);
  Reply(argument.empty() ? "no system message" : "the system message is set");
  return ChatStep::kNext;
}

void ShowSettings(const ChatState& state) {
  const SamplingOptions& s = state.sampling;
  Reply(
      fmt::format("temperature {}, top-k {}, top-p {}, min-p {}, repetition-penalty {}, "
                  "presence-penalty {}, frequency-penalty {}, seed {}, max-tokens {}",
                  s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty,
                  s.presence_penalty, s.frequency_penalty, s.seed,
                  state.max_tokens ? fmt::format("{}", *state.max_tokens) : "unset"));
}

// All of `text` as a number.
template <typename T>
bool Parse(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

Status SetOne(std::string_view name, std::string_view value, SamplingOptions* sampling,
              std::optional<int64_t>* max_tokens) {
  bool good = false;
  int64_t count = 0;
  if (name == "temperature") {
    good = Parse(value, &sampling->temperature);
  } else if (name == "top-k") {
    good = Parse(value, &sampling->top_k);
  } else if (name == "top-p") {
    good = Parse(value, &sampling->top_p);
  } else if (name == "min-p") {
    good = Parse(value, &sampling->min_p);
  } else if (name == "repetition-penalty") {
    good = Parse(value, &sampling->repetition_penalty);
  } else if (name == "presence-penalty") {
    good = Parse(value, &sampling->presence_penalty);
  } else if (name == "frequency-penalty") {
    good = Parse(value, &sampling->frequency_penalty);
  } else if (name == "seed") {
    good = Parse(value, &sampling->seed);
  } else if (name == "max-tokens") {
    good = Parse(value, &count) && count > 0;
    if (good) *max_tokens = count;
  } else {
    return InvalidArgument(fmt::format("/set: there is no setting '{}'; /set shows them", name));
  }
  if (!good) return InvalidArgument(fmt::format("/set: '{}' is no value for {}", value, name));
  return OkStatus();
}

Step Set(std::string_view argument, ChatState* state) {
  if (argument.empty()) {
    ShowSettings(*state);
    return ChatStep::kNext;
  }
  const size_t blank = argument.find(' ');
  if (blank == std::string_view::npos) return InvalidArgument("/set: NAME VALUE");
  SamplingOptions sampling = state->sampling;
  HGA_RETURN_IF_ERROR(SetOne(argument.substr(0, blank), Trim(argument.substr(blank)), &sampling,
                             &state->max_tokens));
  HGA_RETURN_IF_ERROR(Validate(sampling));
  state->sampling = sampling;
  state->sampler = std::make_unique<Sampler>(sampling);
  ShowSettings(*state);
  return ChatStep::kNext;
}

Step Stats(std::string_view, ChatState* state) {
  if (!state->answered) return InvalidArgument("/stats: there is no answer yet");
  for (const std::string& line : ReportLines(state->report)) Reply(line);
  return ChatStep::kNext;
}

Step Help(std::string_view, ChatState*);

struct Command {
  std::string_view name;
  std::string_view text;
  Step (*run)(std::string_view argument, ChatState* state);
};

constexpr Command kCommands[] = {
    {"/help", "this list", Help},
    {"/exit", "leave (also Ctrl-D, or Ctrl-C twice)", Exit},
    {"/clear", "forget the conversation, keep the system message", Clear},
    {"/regen", "answer the newest message again", Regen},
    {"/undo", "take the newest message and its answer back", Undo},
    {"/read", "FILE: a document to go before the next message", Read},
    {"/system", "TEXT: the system message; without text: none", System},
    {"/set", "NAME VALUE: temperature, top-p, seed, max-tokens, ...; alone: show them", Set},
    {"/stats", "figures of the newest answer", Stats},
};

Step Help(std::string_view, ChatState*) {
  for (const Command& command : kCommands) {
    Reply(fmt::format("{:<8} {}", command.name, command.text));
  }
  Reply("several lines: end a line with \\, or put \"\"\" before the first and after the last");
  return ChatStep::kNext;
}

}  // namespace

bool IsCommand(std::string_view message) {
  return message.size() > 1 && message[0] == '/' && message.find('\n') == std::string_view::npos;
}

Result<ChatStep> RunCommand(std::string_view message, ChatState* state) {
  const size_t blank = std::min(message.find_first_of(" \t"), message.size());
  const std::string_view name = message.substr(0, blank);
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(Trim(message.substr(blank)), state);
  }
  return InvalidArgument(fmt::format("there is no command {}; /help lists them", name));
}

}  // namespace hga::cli
