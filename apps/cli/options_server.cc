// SPDX-License-Identifier: Apache-2.0
// Addresses, keys, queues: how flags become settings of the server.
#include "options_server.h"

#include <fmt/core.h>

#include "apps/server/auth.h"
#include "common.h"
#include "options_kv.h"

namespace hga::cli {
namespace {

constexpr const char* kNetworkGroup = "Network";
constexpr const char* kRequestGroup = "Requests";
constexpr size_t kMostKeyBytes = 4096;

void AddNetworkOptions(CLI::App& verb, ServerFlags* flags) {
  verb.add_option("--host", flags->host, "Address to listen on")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(kNetworkGroup);
  verb.add_option("--port", flags->port, "Port; 0 is any free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str()
      ->group(kNetworkGroup);
  verb.add_option("--api-key", flags->api_keys,
                  "Key that clients must send; repeatable; without one any is accepted")
      ->type_name("KEY")
      ->allow_extra_args(false)
      ->group(kNetworkGroup);
  verb.add_option("--api-key-file", flags->api_key_file, "File of such keys, one a line")
      ->type_name("FILE")
      ->group(kNetworkGroup);
  verb.add_flag("--allow-insecure-bind", flags->allow_insecure_bind,
                "Listen without a key where other machines reach it")
      ->group(kNetworkGroup);
  verb.add_option("--allowed-hosts", flags->allowed_hosts,
                  "Further names in the header Host, * for any; else only this machine's own")
      ->type_name("NAME")
      ->delimiter(',')
      ->group(kNetworkGroup);
  verb.add_option("--cors-origins", flags->cors_origins,
                  "Origins whose pages may ask, * for any; else none but its own")
      ->type_name("ORIGIN")
      ->delimiter(',')
      ->group(kNetworkGroup);
  verb.add_option("--sse-ping-interval", flags->ping_seconds,
                  "Seconds of silence in a stream before a comment is sent; 0: none")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->group(kNetworkGroup);
  verb.add_option("--drain-seconds", flags->drain_seconds,
                  "After SIGTERM or Ctrl-C running requests have so long to end")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str()
      ->group(kNetworkGroup);
}

}  // namespace

void AddServerOptions(CLI::App& verb, ServerFlags* flags) {
  AddNetworkOptions(verb, flags);
  verb.add_option("--served-model-name", flags->served_names,
                  "Name in /v1/models and in requests; repeatable [that of --model]")
      ->type_name("NAME")
      ->allow_extra_args(false)
      ->group(kRequestGroup);
  verb.add_flag("--any-model", flags->any_model, "Requests may name any model")
      ->group(kRequestGroup);
  verb.add_option("--slots", flags->slots, "Sequences held at a time, running ones and kept ones")
      ->check(CLI::Range(1, 256))
      ->capture_default_str()
      ->group(kRequestGroup);
  verb.add_option("--max-waiting", flags->max_waiting,
                  "Requests that wait for a slot; more are refused with 429")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->group(kRequestGroup);
  verb.add_option("--max-waiting-tokens", flags->max_waiting_tokens,
                  "The same in tokens of their prompts")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str()
      ->group(kRequestGroup);
  verb.add_option("--request-timeout", flags->request_seconds,
                  "Seconds a request may take, waiting included, before it is ended; 0: any")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str()
      ->group(kRequestGroup);
  AddSizeOption(verb, "--slots-mem", &flags->slots_memory,
                "Most memory of all slots; requests wait for room; 0: no bound")
      ->group(kRequestGroup);
}

Result<server::ServerOptions> MakeServerOptions(const ServerFlags& flags) {
  constexpr int64_t kMostFileBytes = 1 << 20;
  server::ServerOptions options;
  options.host = flags.host;
  options.port = flags.port;
  options.api_keys = flags.api_keys;
  if (!flags.api_key_file.empty()) {
    HGA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(flags.api_key_file, kMostFileBytes));
    const std::vector<std::string> keys = server::KeysOfFile(text);
    if (keys.empty()) return InvalidArgument(flags.api_key_file + ": no key in it");
    options.api_keys.insert(options.api_keys.end(), keys.begin(), keys.end());
  }
  for (const std::string& key : options.api_keys) {
    if (key.empty() || key.size() > kMostKeyBytes) {
      return InvalidArgument(fmt::format("an API key has 1 to {} bytes", kMostKeyBytes));
    }
  }
  options.allow_insecure_bind = flags.allow_insecure_bind;
  options.allowed_hosts = flags.allowed_hosts;
  options.cors_origins = flags.cors_origins;
  options.ping_seconds = flags.ping_seconds;
  options.request_seconds = flags.request_seconds;
  return options;
}

SchedulerOptions MakeSchedulerOptions(const ServerFlags& flags) {
  SchedulerOptions options;
  options.slots = flags.slots;
  options.max_waiting = flags.max_waiting;
  options.max_waiting_tokens = flags.max_waiting_tokens;
  options.kv_bytes = static_cast<int64_t>(flags.slots_memory);
  return options;
}

}  // namespace hga::cli
