// SPDX-License-Identifier: Apache-2.0
// Where K/V lives: memory, disk, sessions, as the command line says it.
#ifndef HGA_APPS_CLI_OPTIONS_KV_H_
#define HGA_APPS_CLI_OPTIONS_KV_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "hga/engine.h"
#include "hga/status.h"

namespace hga::cli {

// Bytes; 0: no bound.
struct KvFlags {
  uint64_t host_bytes = 0;
  uint64_t device_bytes = 0;
  uint64_t disk_bytes = 0;
  std::string directory;  // "": the default one where one is needed
  bool allow_ram_directory = false;
  std::string io = "auto";

  bool any() const {
    return host_bytes > 0 || device_bytes > 0 || disk_bytes > 0 || !directory.empty();
  }
};

struct SessionFlags {
  std::string name;                // "": none
  int64_t checkpoint_every = 256;  // tokens of an answer; 0: only around it

  bool given() const { return !name.empty(); }
};

void AddKvOptions(CLI::App& verb, KvFlags* flags);
// --session, --checkpoint-every.
void AddSessionOptions(CLI::App& verb, SessionFlags* flags);
// --kv-dir alone, for verbs that look at sessions without a model.
void AddKvDirectoryOption(CLI::App& verb, std::string* directory);
// An option that takes a size: 1GB is 1 GiB, 1073741824 the same.
CLI::Option* AddSizeOption(CLI::App& verb, const std::string& name, uint64_t* bytes,
                           const std::string& text);

// `given`, or where sessions are kept: XDG_STATE_HOME/hga/kv, else ~/.local/state/hga/kv.
// kInvalidArgument without a home.
Result<std::string> KvDirectory(const std::string& given);
// The flags as the engine wants them. A directory is chosen, and made with its parents, only when
// something may go to disk: a session, or what is beyond --kv-host-mem and --kv-device-mem.
Result<KvOptions> MakeKvOptions(const KvFlags& flags, bool session);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_OPTIONS_KV_H_
