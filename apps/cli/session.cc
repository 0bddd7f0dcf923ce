// SPDX-License-Identifier: Apache-2.0
// `hga session`: what is kept between runs, looked at and removed without a model.
#include <fmt/chrono.h>
#include <fmt/core.h>

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.h"
#include "common.h"
#include "options_kv.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using nlohmann::json;

struct SessionVerbFlags {
  std::string directory;
  std::string name;
  uint64_t quota = 0;
  bool json = false;
};

std::string Time(int64_t unix_seconds) {
  const auto seconds = static_cast<std::time_t>(unix_seconds);
  std::tm parts = {};
  if (unix_seconds <= 0 || gmtime_r(&seconds, &parts) == nullptr) return "";
  return fmt::format("{:%Y-%m-%d %H:%M:%S}Z", parts);
}

json ToJson(const SessionInfo& session) {
  return {{"name", session.name},         {"tokens", session.tokens}, {"bytes", session.bytes},
          {"saved_at", session.saved_at}, {"model", session.model},   {"state", session.state}};
}

Status WriteList(const std::vector<SessionInfo>& sessions, bool as_json) {
  if (as_json) {
    json list = json::array();
    for (const SessionInfo& session : sessions) list.push_back(ToJson(session));
    return WriteStdout(list.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  }
  if (sessions.empty()) return OkStatus();
  Table table;
  table.AddColumn("session", Table::Align::kLeft);
  table.AddColumn("tokens");
  table.AddColumn("size");
  table.AddColumn("saved", Table::Align::kLeft);
  table.AddColumn("model", Table::Align::kLeft);
  table.AddColumn("state", Table::Align::kLeft);
  for (const SessionInfo& session : sessions) {
    table.AddRow({OneLine(session.name), FormatCount(session.tokens),
                  FormatBytes(static_cast<double>(session.bytes)), Time(session.saved_at),
                  session.model, OneLine(session.state)});
  }
  return WriteStdout(table.Text());
}

Status List(const GlobalOptions&, const SessionVerbFlags& flags) {
  HGA_ASSIGN_OR_RETURN(const std::string directory, KvDirectory(flags.directory));
  HGA_ASSIGN_OR_RETURN(const std::vector<SessionInfo> sessions, ListSessions(directory));
  if (sessions.empty()) Info(directory + ": no sessions");
  return WriteList(sessions, flags.json);
}

Status Verify(const GlobalOptions& global, const SessionVerbFlags& flags) {
  HGA_ASSIGN_OR_RETURN(const std::string directory, KvDirectory(flags.directory));
  Progress progress(global, "verify", Progress::Unit::kBytes);
  const Result<std::string> found =
      VerifySession(directory, flags.name, [&progress](int64_t done, int64_t total) {
        progress.Update(done, total);
        return !Interrupted();
      });
  progress.Finish();
  if (!found.ok()) return found.status();
  return WriteStdout(fmt::format("{}: {}\n", OneLine(flags.name), *found));
}

Status Delete(const GlobalOptions&, const SessionVerbFlags& flags) {
  HGA_ASSIGN_OR_RETURN(const std::string directory, KvDirectory(flags.directory));
  return DeleteSession(directory, flags.name);
}

Status Prune(const GlobalOptions&, const SessionVerbFlags& flags) {
  HGA_ASSIGN_OR_RETURN(const std::string directory, KvDirectory(flags.directory));
  HGA_ASSIGN_OR_RETURN(const std::vector<SessionInfo> removed,
                       PruneSessions(directory, static_cast<int64_t>(flags.quota)));
  int64_t bytes = 0;
  for (const SessionInfo& session : removed) bytes += session.bytes;
  Info(fmt::format("{} sessions removed, {}", removed.size(),
                   FormatBytes(static_cast<double>(bytes))));
  return WriteList(removed, flags.json);
}

using Verb = Status (*)(const GlobalOptions&, const SessionVerbFlags&);

CLI::App* AddVerb(CLI::App* session, const char* name, const char* text, Verb run,
                  const std::shared_ptr<SessionVerbFlags>& flags, GlobalOptions* global,
                  int* exit_code) {
  CLI::App* verb = session->add_subcommand(name, text);
  AddKvDirectoryOption(*verb, &flags->directory);
  verb->callback([run, flags, global, exit_code] {
    const Status status = run(*global, *flags);
    *exit_code = status.ok() ? kExitOk : Fail(status);
  });
  return verb;
}

void AddName(CLI::App* verb, SessionVerbFlags* flags) {
  verb->add_option("name", flags->name, "Which session")->type_name("NAME")->required();
}

}  // namespace

void AddSessionCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* session =
      app.add_subcommand("session", "What --session keeps: list, verify, delete, prune");
  session->require_subcommand(1);
  const auto flags = std::make_shared<SessionVerbFlags>();
  CLI::App* list =
      AddVerb(session, "list", "Names, lengths, sizes", List, flags, &global, exit_code);
  list->add_flag("--json", flags->json, "As JSON");
  AddName(
      AddVerb(session, "verify", "Compare every record with its checksums; exit code 1: damaged",
              Verify, flags, &global, exit_code),
      flags.get());
  AddName(AddVerb(session, "delete", "Remove a session", Delete, flags, &global, exit_code),
          flags.get());
  CLI::App* prune =
      AddVerb(session, "prune", "Remove damaged sessions, then the oldest until the rest fits",
              Prune, flags, &global, exit_code);
  AddSizeOption(*prune, "--quota", &flags->quota, "Most bytes that all sessions may take")
      ->required();
  prune->add_flag("--json", flags->json, "What was removed, as JSON");
}

}  // namespace hga::cli
