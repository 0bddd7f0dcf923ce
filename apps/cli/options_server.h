// SPDX-License-Identifier: Apache-2.0
// The options of `serve` that concern the network and the scheduler.
#ifndef HGA_APPS_CLI_OPTIONS_SERVER_H_
#define HGA_APPS_CLI_OPTIONS_SERVER_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "apps/server/server.h"
#include "hga/scheduler.h"
#include "hga/status.h"

namespace hga::cli {

struct ServerFlags {
  std::string host = "127.0.0.1";
  int port = 8080;
  bool allow_insecure_bind = false;
  std::vector<std::string> api_keys;
  std::string api_key_file;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors_origins;
  std::vector<std::string> served_names;
  bool any_model = false;
  double drain_seconds = 30;
  double ping_seconds = 30;
  double request_seconds = 0;
  int slots = 4;
  int max_waiting = 64;
  int64_t max_waiting_tokens = 1 << 20;
  uint64_t slots_memory = 0;
};

void AddServerOptions(CLI::App& verb, ServerFlags* flags);
// The flags as the server wants them; reads the file of keys.
Result<server::ServerOptions> MakeServerOptions(const ServerFlags& flags);
// Without what belongs to a model.
SchedulerOptions MakeSchedulerOptions(const ServerFlags& flags);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_OPTIONS_SERVER_H_
