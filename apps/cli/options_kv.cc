// SPDX-License-Identifier: Apache-2.0
// Sizes and directories of the key/value store.
#include "options_kv.h"

#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace hga::cli {
namespace {

constexpr const char* kKvGroup = "Key/value store";
constexpr uint64_t kMostBytes = uint64_t{1} << 60;

// Its parents too; the last one is the engine's to make.
Status MakeParents(const std::string& directory) {
  const std::filesystem::path parent = std::filesystem::path(directory).parent_path();
  std::error_code error;
  if (parent.empty() || std::filesystem::is_directory(parent, error)) return OkStatus();
  if (!std::filesystem::create_directories(parent, error) && error) {
    return IoError(fmt::format("{}: making the directory: {}", parent.string(), error.message()));
  }
  return OkStatus();
}

}  // namespace

CLI::Option* AddSizeOption(CLI::App& verb, const std::string& name, uint64_t* bytes,
                           const std::string& text) {
  const auto bounded = [](const std::string& value) {
    uint64_t number = 0;
    return CLI::detail::lexical_cast(value, number) && number <= kMostBytes
               ? std::string()
               : fmt::format("{} bytes are more than {}", value, kMostBytes);
  };
  // Validators run in the order in which they stand here, so the bound sees bytes.
  return verb.add_option(name, *bytes, text + "; 1GB is 1 GiB")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Validator(bounded, ""))
      ->type_name("SIZE");
}

void AddKvOptions(CLI::App& verb, KvFlags* flags) {
  AddSizeOption(verb, "--kv-host-mem", &flags->host_bytes,
                "Most memory for opened K/V of layers that are not dense; the rest is on disk; 0: "
                "all stays in memory")
      ->group(kKvGroup);
  AddSizeOption(verb, "--kv-device-mem", &flags->device_bytes,
                "Most memory for what never leaves it (dense layers, windows, samples, summaries); "
                "0: no bound")
      ->group(kKvGroup);
  AddSizeOption(verb, "--kv-disk", &flags->disk_bytes,
                "Most bytes of all files in the directory; 0: what the disk gives")
      ->group(kKvGroup);
  AddKvDirectoryOption(verb, &flags->directory);
  verb.add_flag("--allow-ram-kv-dir", flags->allow_ram_directory,
                "Take a directory that is memory itself (tmpfs)")
      ->group(kKvGroup);
  verb.add_option("--kv-io", flags->io, "How the disk is read and written")
      ->check(CLI::IsMember({"auto", "io_uring", "threads"}))
      ->capture_default_str()
      ->group(kKvGroup);
}

void AddKvDirectoryOption(CLI::App& verb, std::string* directory) {
  verb.add_option("--kv-dir", *directory,
                  "Directory of sessions and K/V [$XDG_STATE_HOME/hga/kv, ~/.local/state/hga/kv]")
      ->type_name("DIR")
      ->group(kKvGroup);
}

void AddSessionOptions(CLI::App& verb, SessionFlags* flags) {
  verb.add_option("--session", flags->name,
                  "Keep tokens and K/V under this name, and go on from what it holds")
      ->type_name("NAME")
      ->check(CLI::Validator(
          [](const std::string& name) {
            return name.empty() || name.size() > 255 ? "a name has 1 to 255 bytes" : "";
          },
          ""))
      ->group(kKvGroup);
  verb.add_option("--checkpoint-every", flags->checkpoint_every,
                  "Tokens of an answer after which the session is saved; 0: only before and after")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30))
      ->type_name("N")
      ->capture_default_str()
      ->group(kKvGroup);
}

Result<std::string> KvDirectory(const std::string& given) {
  if (!given.empty()) return given;
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && state[0] == '/') return std::string(state) + "/hga/kv";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.local/state/hga/kv";
  return InvalidArgument("neither XDG_STATE_HOME nor HOME says where K/V can go; give --kv-dir");
}

Result<KvOptions> MakeKvOptions(const KvFlags& flags, bool session) {
  KvOptions kv;
  kv.host_bytes = static_cast<int64_t>(flags.host_bytes);
  kv.device_bytes = static_cast<int64_t>(flags.device_bytes);
  kv.disk_bytes = static_cast<int64_t>(flags.disk_bytes);
  kv.allow_ram_directory = flags.allow_ram_directory;
  kv.io = flags.io;
  const bool beyond_memory = kv.host_bytes > 0 || kv.device_bytes > 0;
  if (!session && !beyond_memory) return kv;
  HGA_ASSIGN_OR_RETURN(kv.directory, KvDirectory(flags.directory));
  if (flags.directory.empty()) HGA_RETURN_IF_ERROR(MakeParents(kv.directory));
  return kv;
}

}  // namespace hga::cli
