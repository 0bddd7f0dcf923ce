// SPDX-License-Identifier: Apache-2.0
// Line editing by libedit on a terminal, plain lines elsewhere; prompts go to stderr.
#include "chat_line.h"

#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>

#include "common.h"
#include "run_prompt.h"

namespace hga::cli {
namespace {

constexpr int kHistoryLines = 1000;
constexpr std::string_view kFence = "\"\"\"";

class PlainReader : public LineReader {
 public:
  LineEnd Read(const std::string&, std::string* line) override {
    line->clear();
    for (;;) {
      const size_t newline = buffer_.find('\n', searched_);
      if (newline != std::string::npos) return Take(newline, newline + 1, line);
      searched_ = buffer_.size();
      if (static_cast<int64_t>(buffer_.size()) > kMaxPromptBytes) return LineEnd::kTooLong;
      char block[4096];
      if (!WaitForInput(STDIN_FILENO)) return LineEnd::kInterrupted;
      const ssize_t got = read(STDIN_FILENO, block, sizeof block);
      if (got < 0 && errno == EINTR) continue;
      if (got > 0) {
        buffer_.append(block, static_cast<size_t>(got));
      } else if (buffer_.empty()) {
        return LineEnd::kEndOfInput;
      } else {
        return Take(buffer_.size(), buffer_.size(), line);
      }
    }
  }

 private:
  LineEnd Take(size_t end, size_t next, std::string* line) {
    *line = buffer_.substr(0, end);
    if (!line->empty() && line->back() == '\r') line->pop_back();
    buffer_.erase(0, next);
    searched_ = 0;
    return LineEnd::kLine;
  }

  std::string buffer_;
  size_t searched_ = 0;
};

// Reads one character; -1 after an interrupt, which libedit's own reader would swallow once.
int ReadCharacter(EditLine*, wchar_t* character) {
  std::mbstate_t state = {};
  for (;;) {
    char byte = 0;
    if (!WaitForInput(STDIN_FILENO)) return -1;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0 ? 0 : -1;
    const size_t used = std::mbrtowc(character, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) continue;  // more bytes belong to it
    if (used == static_cast<size_t>(-1)) {
      *character = L'?';
    }
    return 1;
  }
}

class EditReader : public LineReader {
 public:
  explicit EditReader(const std::string& history_file)
      : history_file_(history_file),
        editor_(el_init("hga", stdin, stderr, stderr)),
        history_(history_init()) {
    HistEvent event;
    history(history_, &event, H_SETSIZE, kHistoryLines);
    history(history_, &event, H_SETUNIQUE, 1);
    if (!history_file_.empty()) history(history_, &event, H_LOAD, history_file_.c_str());
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_PROMPT, &EditReader::Prompt);
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_SIGNAL, 0);
    el_set(editor_, EL_GETCFN, &ReadCharacter);
  }

  ~EditReader() override {
    if (!history_file_.empty()) {
      HistEvent event;
      const mode_t before = umask(0077);
      history(history_, &event, H_SAVE, history_file_.c_str());
      umask(before);
    }
    history_end(history_);
    el_end(editor_);
  }
  EditReader(const EditReader&) = delete;
  EditReader& operator=(const EditReader&) = delete;

  LineEnd Read(const std::string& prompt, std::string* line) override {
    prompt_ = prompt;
    int count = 0;
    el_resize(editor_);
    const char* text = el_gets(editor_, &count);
    if (Interrupted()) {
      std::fputc('\n', stderr);
      el_reset(editor_);
      return LineEnd::kInterrupted;
    }
    if (text == nullptr || count <= 0) {
      std::fputc('\n', stderr);
      return LineEnd::kEndOfInput;
    }
    *line = std::string(text, static_cast<size_t>(count));
    while (!line->empty() && (line->back() == '\n' || line->back() == '\r')) line->pop_back();
    HistEvent event;
    if (!line->empty()) history(history_, &event, H_ENTER, line->c_str());
    return LineEnd::kLine;
  }

 private:
  static char* Prompt(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return static_cast<EditReader*>(self)->prompt_.data();
  }

  std::string history_file_;
  std::string prompt_;
  EditLine* editor_;
  History* history_;
};

}  // namespace

std::unique_ptr<LineReader> NewLineReader(const std::string& history_file) {
  if (isatty(STDIN_FILENO) != 1 || !StderrIsTerminal()) return std::make_unique<PlainReader>();
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
  if (!history_file.empty()) {
    std::error_code ignored;  // without the folder there is only no history
    std::filesystem::create_directories(std::filesystem::path(history_file).parent_path(), ignored);
  }
  return std::make_unique<EditReader>(history_file);
}

std::string DefaultHistoryFile() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && state[0] == '/') return std::string(state) + "/hga/chat_history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || home[0] != '/') return "";
  return std::string(home) + "/.local/state/hga/chat_history";
}

LineEnd ReadMessage(LineReader* reader, std::string* message) {
  std::string line;
  LineEnd end = reader->Read("> ", &line);
  if (end != LineEnd::kLine) return end;
  message->clear();
  if (line.rfind(kFence, 0) == 0) {
    line.erase(0, kFence.size());
    for (;;) {
      const size_t close = line.find(kFence);
      *message += line.substr(0, close);
      if (close != std::string::npos) return LineEnd::kLine;
      *message += '\n';
      end = reader->Read("| ", &line);
      if (end == LineEnd::kEndOfInput) return LineEnd::kLine;
      if (end != LineEnd::kLine) return end;
    }
  }
  while (!line.empty() && line.back() == '\\') {
    line.back() = '\n';
    *message += line;
    end = reader->Read("| ", &line);
    if (end == LineEnd::kEndOfInput) return LineEnd::kLine;
    if (end != LineEnd::kLine) return end;
  }
  *message += line;
  return LineEnd::kLine;
}

}  // namespace hga::cli
