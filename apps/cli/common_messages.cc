// SPDX-License-Identifier: Apache-2.0
// Messages: plain lines on stderr above the progress bar, and the same in a log file.
#include <fmt/core.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common.h"
#include "run_prompt.h"

namespace hga::cli {
namespace {

struct Messages {
  bool quiet = false;
  bool verbose = false;
  bool color = false;
  bool json = false;
  bool bar = false;  // a progress bar stands on the last line
  std::shared_ptr<spdlog::logger> log;
};

Messages& State() {
  static Messages messages;
  return messages;
}

// File names and model texts may hold anything; a terminal must not obey them.
std::string Printable(std::string_view text) {
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f;
    if (control) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

void Log(spdlog::level::level_enum level, std::string_view message) {
  Messages& state = State();
  if (!state.log) return;
  if (!state.json) {
    state.log->log(level, Printable(message));
    return;
  }
  const nlohmann::json text(message);
  state.log->log(level, text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void Print(const char* mark, const char* color, std::string_view message) {
  ClearBar();
  std::string line = "hga: ";
  if (mark[0] != '\0') {
    line +=
        State().color ? fmt::format("\x1b[{}m{}:\x1b[0m ", color, mark) : fmt::format("{}: ", mark);
  }
  line += Printable(message) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace

Status StartMessages(const GlobalOptions& global) {
  Messages& state = State();
  state.quiet = global.quiet;
  state.verbose = global.verbose > 0;
  state.color = UseColor(global);
  state.json = global.log_json;
  if (global.log_file.empty()) return OkStatus();
  try {
    state.log = spdlog::basic_logger_mt("hga", global.log_file);
    state.log->set_level(spdlog::level::debug);
    state.log->flush_on(spdlog::level::debug);
    state.log->set_pattern(state.json
                               ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%v})"
                               : "%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  } catch (const spdlog::spdlog_ex& error) {
    return IoError(fmt::format("--log-file {}: {}", global.log_file, error.what()));
  }
  return OkStatus();
}

void Detail(std::string_view message) {
  Log(spdlog::level::debug, message);
  if (State().verbose && !State().quiet) Print("", "", message);
}

void Info(std::string_view message) {
  Log(spdlog::level::info, message);
  if (!State().quiet) Print("", "", message);
}

void Reply(std::string_view message) {
  Log(spdlog::level::info, message);
  Print("", "", message);
}

void Warn(std::string_view message) {
  Log(spdlog::level::warn, message);
  if (!State().quiet) Print("warning", "33", message);
}

void Error(std::string_view message) {
  Log(spdlog::level::err, message);
  Print("error", "31", message);
}

int Fail(const Status& status) {
  if (status.code() == StatusCode::kCancelled && Interrupted()) {
    Error("interrupted");
    return kExitInterrupted;
  }
  Error(status.message());
  return kExitFailed;
}

int FailUsage(const Status& status) {
  Error(status.message());
  return kExitUsage;
}

std::string OneLine(std::string_view name) {
  std::string safe;
  while (!name.empty()) {
    const size_t valid = std::min(FirstInvalidUtf8(name), name.size());
    for (size_t i = 0; i < valid; ++i) {
      const auto byte = static_cast<unsigned char>(name[i]);
      // U+0080 to U+009F are control characters, too: C2 80 to C2 9F.
      const bool control = byte < 0x20 || byte == 0x7f || byte == '\\';
      const bool second = byte == 0xc2 && static_cast<unsigned char>(name[i + 1]) < 0xa0;
      if (control) {
        safe += fmt::format("\\x{:02x}", byte);
      } else if (second) {
        safe += fmt::format("\\xc2\\x{:02x}", static_cast<unsigned char>(name[++i]));
      } else {
        safe += name[i];
      }
    }
    name.remove_prefix(valid);
    if (name.empty()) break;
    safe += fmt::format("\\x{:02x}", static_cast<unsigned char>(name.front()));
    name.remove_prefix(1);
  }
  return safe;
}

void DrawBar(std::string_view bar) {
  const std::string line = fmt::format("\r{}\x1b[K", bar);
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
  State().bar = true;
}

void ClearBar() {
  if (!State().bar) return;
  State().bar = false;
  std::fputs("\r\x1b[K", stderr);
}

bool StderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

bool UseColor(const GlobalOptions& global) {
  if (global.color != "auto") return global.color == "on";
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  if (no_color != nullptr && no_color[0] != '\0') return false;
  if (term != nullptr && std::string_view(term) == "dumb") return false;
  return StderrIsTerminal();
}

}  // namespace hga::cli
