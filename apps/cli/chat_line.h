// SPDX-License-Identifier: Apache-2.0
// Reading what a person (or a script) says in `hga chat`.
#ifndef HGA_APPS_CLI_CHAT_LINE_H_
#define HGA_APPS_CLI_CHAT_LINE_H_

#include <memory>
#include <string>

namespace hga::cli {

enum class LineEnd { kLine, kEndOfInput, kInterrupted, kTooLong };

class LineReader {
 public:
  virtual ~LineReader() = default;
  // One line without its newline. `prompt` is shown on a terminal only.
  virtual LineEnd Read(const std::string& prompt, std::string* line) = 0;
};

// With editing and history (kept in `history_file` unless that is "") when stdin and stderr are
// terminals, else plain.
std::unique_ptr<LineReader> NewLineReader(const std::string& history_file);

// XDG_STATE_HOME/hga/chat_history or ~/.local/state/hga/chat_history; "" without a home.
std::string DefaultHistoryFile();

// One message: a line; lines that end in a backslash and the one after them; or all between
// two lines' """.
LineEnd ReadMessage(LineReader* reader, std::string* message);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_CHAT_LINE_H_
