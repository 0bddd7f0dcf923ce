// SPDX-License-Identifier: Apache-2.0
// The verbs of `hga`: one registering function each, called by main.
#ifndef HGA_APPS_CLI_COMMANDS_H_
#define HGA_APPS_CLI_COMMANDS_H_

#include <CLI/CLI.hpp>

#include "common.h"

namespace hga::cli {

// Each adds one verb with its options to `app` and a callback that runs it and leaves the exit code
// in `exit_code`. `app`, `global` and `exit_code` outlive the parse. A verb must not define the
// options that main adds to every verb afterwards (see AddGlobalOptions) nor environment names:
// main gives every long option the variable HGA_<NAME>.
void AddRunCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddChatCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddInfoCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddTokenizeCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddSessionCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddEvalCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddBenchCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddServeCommand(CLI::App& app, GlobalOptions& global, int* exit_code);
void AddDemoCommand(CLI::App& app, GlobalOptions& global, int* exit_code);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_COMMANDS_H_
