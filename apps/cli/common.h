// SPDX-License-Identifier: Apache-2.0
// What the verbs share: option groups, exit codes, messages on stderr, opening an engine.
#ifndef HGA_APPS_CLI_COMMON_H_
#define HGA_APPS_CLI_COMMON_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hga/config.h"
#include "hga/engine.h"
#include "hga/status.h"

namespace hga::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;

// The same for every verb. Added to each by main.
struct GlobalOptions {
  bool quiet = false;          // only errors on stderr
  int verbose = 0;             // -v: also details
  std::string color = "auto";  // auto, on, off; NO_COLOR is obeyed by auto
  std::string log_file;        // messages go here as well
  bool log_json = false;       // the log file as JSON lines
  bool print_config = false;   // show the settings and leave
};

// Which checkpoint, on what.
struct ModelOptions {
  std::string model;     // directory or ORG/NAME
  std::string revision;  // "" is "main"
  bool dummy = false;    // random weights (--load-format dummy)
  int threads = 0;
  std::string isa = "auto";
  int span = 256;
};

// A preset's name and the fields given on top of it; an empty optional leaves the preset's value.
struct AttentionOptions {
  std::string preset = "default";
  std::optional<int> group, key_span, chunk_key_span, value_span, sink_chunks, local_chunks;
  std::optional<int> groups_budget, chunk_beam;
  std::optional<double> beam_share, trust;
  std::optional<bool> tail;
  std::optional<std::string> key_mean, scope, summary_dtype;
  std::optional<std::string> dense_layers;    // "0,3"; "none"
  std::optional<std::string> sampled_layers;  // "0:1024,5:512"; "none"
};

// -m/--model, --revision, --threads, --isa, --span; with `allow_dummy` also --load-format; with
// `positional` the model may also stand alone.
void AddModelOptions(CLI::App& verb, ModelOptions* options, bool allow_dummy = false,
                     bool positional = false);
// --attention and one flag per RoutingConfig field. `preset_flag` false leaves --attention to the
// verb (for lists of presets).
// The names of all presets, comma separated.
std::string PresetList();
void AddAttentionOptions(CLI::App& verb, AttentionOptions* options, bool preset_flag = true);
// --quiet, -v, --color, --log-file, --log-json, --print-config.
void AddGlobalOptions(CLI::App& verb, GlobalOptions* options);

// The preset with the given fields put over it. The name becomes NAME+custom if a field differs.
// Layer numbers are checked against a model only by Validate(config, layers). Fields given
// together with "dense" are refused.
Result<AttentionConfig> MakeAttention(const AttentionOptions& options);
// The same for another preset's name; for verbs that compare several, so "dense" takes no field.
Result<AttentionConfig> MakeAttention(const AttentionOptions& options, std::string_view preset);

// Finds the directory (see ResolveModel), loads with a progress display, says with -v how records
// reach the disk. `load_seconds` and `directory` may be null.
Result<std::unique_ptr<Engine>> OpenEngine(const GlobalOptions& global, const ModelOptions& options,
                                           const KvOptions& kv, double* load_seconds,
                                           std::string* directory);
// One warning when records could not be written; to be called once.
void WarnOfDisk(const Engine& engine);

// Messages on stderr (and in the log file). Info is silent with --quiet, Detail needs -v.
// Reply answers what a person just asked for and is never silent. StartMessages is called by main
// once the options are known.
Status StartMessages(const GlobalOptions& global);
void Detail(std::string_view message);
void Info(std::string_view message);
void Reply(std::string_view message);
void Warn(std::string_view message);
void Error(std::string_view message);
// Prints the error; 130 for kCancelled after an interrupt, else 1.
int Fail(const Status& status);
// Prints the error of a wrong command line; 2.
int FailUsage(const Status& status);
// The bar that Progress draws on the last line of the terminal; messages go above it.
void DrawBar(std::string_view bar);
void ClearBar();

// Ctrl-C (SIGINT). The first sets a flag that loops must ask for; the second ends the process with
// 130.
void CatchInterrupts();
// SIGTERM counts as an interrupt too.
void CatchTermination();
bool Interrupted();
void ClearInterrupt();
// Waits until `fd` has something to read or has ended; false when an interrupt came first. A plain
// read() would miss one that comes just before it.
bool WaitForInput(int fd);

// A name that somebody else chose, within a line: what a terminal could obey and what is no UTF-8
// is written as \xNN.
std::string OneLine(std::string_view name);

bool StderrIsTerminal();
bool UseColor(const GlobalOptions& global);  // on stderr

// Writes all of `text` to stdout and flushes; kIoError (for instance a closed pipe).
Status WriteStdout(std::string_view text);
// Whole file, "-" is stdin; at most `limit` bytes (kResourceExhausted names both numbers).
Result<std::string> ReadTextFile(const std::string& path, int64_t limit);
Status WriteTextFile(const std::string& path, std::string_view text);

// "1.50 GiB", "12.3 s", "1,234,567".
std::string FormatBytes(double bytes);
std::string FormatSeconds(double seconds);
std::string FormatCount(int64_t value);

// Seconds of a steady clock.
double Now();

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_COMMON_H_
