// SPDX-License-Identifier: Apache-2.0
// What `run` and `chat` do with a session: take up what it shares with a prompt, save, warn once.
#ifndef HGA_APPS_CLI_SESSION_KEEPER_H_
#define HGA_APPS_CLI_SESSION_KEEPER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "hga/engine.h"
#include "hga/status.h"

namespace hga::cli {

// How a session served a run, for its report.
struct SessionReport {
  std::string name;               // "": no session
  int64_t stored_tokens = 0;      // when it was opened
  int64_t recomputed_tokens = 0;  // of those, because records were damaged
  double open_seconds = 0;
  int64_t reused_tokens = 0;   // of the newest prompt
  int64_t dropped_tokens = 0;  // that differed from it, or stood behind it
  int64_t checkpoints = 0;     // that succeeded
  int64_t failed_checkpoints = 0;
  double checkpoint_seconds = 0;
  std::string error;  // of the newest one, if it failed
};

// A sequence, and its session if `name` is not "".
class SessionKeeper {
 public:
  // Opens the session, or a sequence without one.
  static Result<SessionKeeper> Open(Engine* engine, const std::string& name,
                                    const AttentionConfig& attention, int64_t capacity);

  Sequence& sequence() { return *sequence_; }
  bool active() const { return !report_.name.empty(); }
  const SessionReport& report() const { return report_; }

  // Cuts the sequence to what it shares with `prompt`, but for the prompt's last token, which
  // gives the logits. Returns the tokens kept.
  Result<int64_t> Reuse(std::span<const int32_t> prompt);
  // Cuts the sequence where it differs from `tokens`.
  Status CutTo(std::span<const int32_t> tokens);
  // A checkpoint; nothing without a session. A failure is one warning, whatever comes later, and
  // what is saved already stays.
  void Save(const SessionNote& note);
  // The same single warning when the disk failed otherwise.
  void CheckDisk();

 private:
  SessionKeeper(Engine* engine, std::unique_ptr<Sequence> sequence, SessionReport report)
      : engine_(engine), sequence_(std::move(sequence)), report_(std::move(report)) {}

  Engine* engine_;
  std::unique_ptr<Sequence> sequence_;
  SessionReport report_;
  bool warned_ = false;
};

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_SESSION_KEEPER_H_
