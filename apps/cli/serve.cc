// SPDX-License-Identifier: Apache-2.0
// `hga serve`: an OpenAI-compatible server over one model.
#include <fmt/core.h>
#include <poll.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/model.h"
#include "apps/server/server.h"
#include "commands.h"
#include "common.h"
#include "options_kv.h"
#include "options_sampling.h"
#include "options_server.h"
#include "report_machine.h"
#include "run.h"

namespace hga::cli {
namespace {

struct ServeFlags {
  ModelOptions model;
  AttentionOptions attention;
  KvFlags kv;
  SessionFlags session;
  ServerFlags server;
  LengthFlags length;
};

void Tell(server::LogLevel level, const std::string& line) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  switch (level) {
    case server::LogLevel::kDetail:
      return Detail(line);
    case server::LogLevel::kInfo:
      return Info(line);
    case server::LogLevel::kWarn:
      return Warn(line);
    case server::LogLevel::kError:
      return Error(line);
  }
}

// What must hold before anything listens.
struct Job {
  Checkpoint checkpoint;
  std::unique_ptr<server::ServedModel> model;
  server::ServerOptions server;
  SchedulerOptions scheduler;
  KvOptions kv;
};

Result<Job> Prepare(const ServeFlags& flags) {
  Job job;
  HGA_ASSIGN_OR_RETURN(job.server, MakeServerOptions(flags.server));
  HGA_ASSIGN_OR_RETURN(job.checkpoint, LookAt(flags.model, flags.attention));
  HGA_ASSIGN_OR_RETURN(const int64_t context, ContextLimit(flags.length, job.checkpoint.info));
  HGA_ASSIGN_OR_RETURN(job.model,
                       server::LoadServedModel(job.checkpoint.directory, flags.model.model,
                                               flags.server.served_names));
  job.model->context = context;
  job.model->any_name = flags.server.any_model;
  job.server.version = VersionText();
  job.server.metrics_name = job.model->names.front();
  job.server.log = Tell;
  job.scheduler = MakeSchedulerOptions(flags.server);
  job.scheduler.attention = job.checkpoint.attention;
  job.scheduler.context = context;
  job.scheduler.session_name = flags.session.name;
  job.scheduler.checkpoint_every = flags.session.checkpoint_every;
  HGA_ASSIGN_OR_RETURN(job.kv, MakeKvOptions(flags.kv, flags.session.given()));
  HGA_RETURN_IF_ERROR(CheckMemory(job.checkpoint, flags.model, job.kv, flags.session.given(),
                                  flags.length, context));
  return job;
}

// Until SIGTERM or SIGINT; a second one ends the process at once.
void WaitForEnd() {
  constexpr int kMilliseconds = 50;
  while (!Interrupted()) poll(nullptr, 0, kMilliseconds);
}

Status Start(const GlobalOptions& global, const ServeFlags& flags) {
  HGA_ASSIGN_OR_RETURN(Job job, Prepare(flags));
  HGA_ASSIGN_OR_RETURN(const auto server, server::Server::Start(job.server));
  if (job.server.api_keys.empty() && flags.server.allow_insecure_bind) {
    Warn(fmt::format("anyone who reaches {} may use this server: there is no --api-key",
                     server->url()));
  }
  std::string directory;
  HGA_ASSIGN_OR_RETURN(const auto engine,
                       OpenEngine(global, flags.model, job.kv, nullptr, &directory));
  if (Interrupted()) return OkStatus();
  HGA_ASSIGN_OR_RETURN(const auto scheduler, Scheduler::Start(engine.get(), job.scheduler));
  const std::string name = job.model->names.front();
  server->Ready(std::move(job.model), scheduler.get());
  Info(fmt::format("{} as {}, attention {}, {} slots of {} tokens", directory, name,
                   job.checkpoint.attention.name, job.scheduler.slots,
                   FormatCount(job.scheduler.context)));
  Reply("listening on " + server->url());
  WaitForEnd();
  Info(fmt::format("ending: running requests have {} to finish",
                   FormatSeconds(flags.server.drain_seconds)));
  server->Refuse();
  scheduler->Drain(flags.server.drain_seconds);
  constexpr double kSecondsToWrite = 2;
  server->Stop(kSecondsToWrite);
  return OkStatus();
}

int Serve(const GlobalOptions& global, const ServeFlags& flags) {
  CatchTermination();
  if (const Status status = MakeAttention(flags.attention).status(); !status.ok()) {
    return FailUsage(status);
  }
  const Status status = Start(global, flags);
  return status.ok() ? kExitOk : Fail(status);
}

// For the test that compares documents with the server.
void PrintRoutes() {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const server::RouteInfo& route : server::ListRoutes()) {
    list.push_back({{"method", route.method},
                    {"path", route.path},
                    {"key", route.needs_key},
                    {"fields", route.fields}});
  }
  std::fputs((list.dump(1) + "\n").c_str(), stdout);
}

}  // namespace

void AddServeCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* verb = app.add_subcommand("serve", "Answer over HTTP as OpenAI's clients expect it");
  const auto flags = std::make_shared<ServeFlags>();
  AddModelOptions(*verb, &flags->model);
  AddServerOptions(*verb, &flags->server);
  verb->add_option("-c,--ctx", flags->length.context,
                   "Most tokens of a prompt and its answer; 0: the model's")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->type_name("N")
      ->capture_default_str()
      ->group("Requests");
  verb->add_flag("--allow-past-limit", flags->length.allow_past_limit,
                 "Allow more tokens than the model was made for")
      ->group("Requests");
  verb->add_flag("--allow-overcommit", flags->length.allow_overcommit,
                 "Start although the memory plan of one request does not fit")
      ->group("Requests");
  AddAttentionOptions(*verb, &flags->attention);
  AddKvOptions(*verb, &flags->kv);
  AddSessionOptions(*verb, &flags->session);
  verb->add_flag_callback(
          "--print-routes",
          [] {
            PrintRoutes();
            throw CLI::Success();
          },
          "Print the table of routes and leave")
      ->configurable(false)
      ->group("");
  verb->callback([flags, &global, exit_code] { *exit_code = Serve(global, *flags); });
}

}  // namespace hga::cli
