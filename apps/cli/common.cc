// SPDX-License-Identifier: Apache-2.0
// Files, figures and the opening of an engine.
#include "common.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "progress.h"

namespace hga::cli {
namespace {

// Closes a descriptor it owns.
class Descriptor {
 public:
  Descriptor(int fd, bool owned) : fd_(fd), owned_(owned) {}
  ~Descriptor() {
    if (owned_ && fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
  bool owned_;
};

Status WriteAll(int fd, std::string_view text, const std::string& name) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return IoError(fmt::format("{}: write: {}", name, std::strerror(errno)));
    text.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

}  // namespace

Result<std::unique_ptr<Engine>> OpenEngine(const GlobalOptions& global, const ModelOptions& options,
                                           const KvOptions& kv, double* load_seconds,
                                           std::string* directory) {
  HGA_ASSIGN_OR_RETURN(const std::string found, ResolveModel(options.model, options.revision));
  if (directory != nullptr) *directory = found;
  Progress progress(global, "load", Progress::Unit::kBytes);
  EngineOptions engine_options;
  engine_options.threads = options.threads;
  engine_options.isa = options.isa;
  engine_options.span = options.span;
  engine_options.kv = kv;
  engine_options.on_load = [&progress](const LoadProgress& p) {
    progress.Update(p.bytes_done, p.bytes_total);
  };
  const double start = Now();
  auto engine = options.dummy ? Engine::OpenDummy(found, engine_options, 1)
                              : Engine::Open(found, engine_options);
  progress.Finish();
  if (load_seconds != nullptr) *load_seconds = Now() - start;
  if (engine.ok() && !kv.directory.empty()) {
    const KvStats stats = (*engine)->kv_stats();
    Detail(fmt::format("K/V records: {} in {}{}{}", stats.io, kv.directory,
                       stats.io_note.empty() ? "" : "; ", stats.io_note));
  }
  return engine;
}

void WarnOfDisk(const Engine& engine) {
  const std::string error = engine.kv_stats().error;
  if (!error.empty()) Warn("K/V cannot be written to the disk: " + error);
}

Status WriteStdout(std::string_view text) { return WriteAll(STDOUT_FILENO, text, "stdout"); }

Result<std::string> ReadTextFile(const std::string& path, int64_t limit) {
  const bool standard_input = path == "-";
  const std::string name = standard_input ? "stdin" : path;
  const Descriptor file(standard_input ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC),
                        !standard_input);
  if (file.get() < 0) {
    const StatusCode code = errno == ENOENT ? StatusCode::kNotFound : StatusCode::kIoError;
    return Status(code, fmt::format("{}: {}", name, std::strerror(errno)));
  }
  std::string text;
  std::string buffer(1 << 16, '\0');
  for (;;) {
    if (!WaitForInput(file.get())) return Cancelled(fmt::format("{}: interrupted", name));
    const ssize_t got = read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return IoError(
          fmt::format("{}: read at byte {}: {}", name, text.size(), std::strerror(errno)));
    }
    if (got == 0) return text;
    if (static_cast<int64_t>(text.size()) + got > limit) {
      return ResourceExhausted(
          fmt::format("{}: more than {} bytes, the most that is read", name, limit));
    }
    text.append(buffer, 0, static_cast<size_t>(got));
  }
}

Status WriteTextFile(const std::string& path, std::string_view text) {
  if (path == "-") return WriteStdout(text);
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), true);
  if (file.get() < 0) return IoError(fmt::format("{}: {}", path, std::strerror(errno)));
  return WriteAll(file.get(), text, path);
}

std::string FormatBytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.2f} {}", bytes, kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (seconds < 0.1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 100) return fmt::format("{:.2f} s", seconds);
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string FormatCount(int64_t value) {
  std::string digits = fmt::format("{}", value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace hga::cli
