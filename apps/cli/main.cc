// SPDX-License-Identifier: Apache-2.0
// The program `hga`: collects the verbs, parses, and turns outcomes into exit codes.
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>

#include "commands.h"
#include "common.h"
#include "options_config.h"
#include "options_sampling.h"
#include "report_machine.h"

namespace hga::cli {
namespace {

const auto kEveryVerb = [](const CLI::App*) { return true; };

// To verbs that run something: those without verbs of their own.
void AddGlobalOptionsToLeaves(CLI::App* app, GlobalOptions* global) {
  for (CLI::App* verb : app->get_subcommands(kEveryVerb)) {
    if (verb->get_subcommands(kEveryVerb).empty()) AddGlobalOptions(*verb, global);
    AddGlobalOptionsToLeaves(verb, global);
  }
}

void AddRootOptions(CLI::App* app) {
  app->set_help_flag("-h,--help", "What there is");
  app->set_help_all_flag("--help-all", "The same for every verb");
  app->set_version_flag(
      "--version", [] { return VersionText(); }, "Version, commit, instructions");
  app->add_flag_callback(
         "--list-devices",
         [] {
           std::fputs(DeviceText().c_str(), stdout);
           throw CLI::Success();
         },
         "What hga can compute on here")
      ->configurable(false);
  const char* named = std::getenv("HGA_CONFIG");
  const bool is_named = named != nullptr && named[0] != '\0';
  app->set_config("--config", is_named ? named : "",
                  "TOML file of option values, see docs/cli.md (Env:HGA_CONFIG)", is_named)
      ->type_name("FILE");
  app->allow_config_extras(CLI::config_extras_mode::error);
  app->config_formatter(std::make_shared<VerbConfig>(app));
}

void AddVerbs(CLI::App* app, GlobalOptions* global, int* exit_code) {
  AddRunCommand(*app, *global, exit_code);
  AddChatCommand(*app, *global, exit_code);
  AddServeCommand(*app, *global, exit_code);
  AddEvalCommand(*app, *global, exit_code);
  AddBenchCommand(*app, *global, exit_code);
  AddDemoCommand(*app, *global, exit_code);
  AddSessionCommand(*app, *global, exit_code);
  AddInfoCommand(*app, *global, exit_code);
  AddTokenizeCommand(*app, *global, exit_code);
}

// Between parsing and running: messages start, --print-config ends the run.
void BeforeVerb(const CLI::App& app, const GlobalOptions& global) {
  if (global.print_config) {
    const CLI::App* verb = ChosenVerbs(app).back();
    std::fputs(DescribeConfig(*verb, SamplingNotes(*verb)).c_str(), stdout);
    throw CLI::Success();
  }
  if (const Status status = StartMessages(global); !status.ok()) {
    throw CLI::RuntimeError(Fail(status));
  }
}

// The first word that should be a verb and is none; "": there is no word.
std::string UnknownVerb(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc && !at->get_subcommands(kEveryVerb).empty(); ++i) {
    const std::string word = argv[i];
    if (word.empty() || word.front() == '-') continue;
    const auto named =
        at->get_subcommands([&](const CLI::App* verb) { return verb->check_name(word); });
    if (named.empty()) return word;
    at = named.front();
  }
  return "";
}

int Main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");  // for line editing; numbers stay as in C
  CatchInterrupts();
  GlobalOptions global;
  int exit_code = kExitOk;
  CLI::App app(
      "Runs pretrained checkpoints over very long contexts with Hierarchical Global "
      "Attention.\nText goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 "
      "failed, 2 usage, 130 interrupted.",
      "hga");
  app.fallthrough();  // so that --config may stand behind the verb
  app.require_subcommand(1);
  AddRootOptions(&app);
  AddVerbs(&app, &global, &exit_code);
  AddGlobalOptionsToLeaves(&app, &global);
  AddEnvironmentNames(&app);
  app.footer(
      "Every option of a verb also has a variable HGA_<NAME>; a flag wins over it, and it "
      "wins over --config.");
  app.parse_complete_callback([&] { BeforeVerb(app, global); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();
  } catch (const CLI::RequiredError& error) {
    const std::string word = UnknownVerb(app, argc, argv);
    if (word.empty()) return app.exit(error) == 0 ? kExitOk : kExitUsage;
    return FailUsage(InvalidArgument("no verb \"" + word + "\"; hga --help lists what there is"));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (std::fflush(stdout) != 0) return Fail(IoError("stdout: cannot be written"));
  return exit_code;
}

}  // namespace
}  // namespace hga::cli

int main(int argc, char** argv) {
  try {
    return hga::cli::Main(argc, argv);
  } catch (const std::exception& error) {  // only from the argument parser or lack of memory
    hga::cli::Error(error.what());
    return hga::cli::kExitFailed;
  }
}
