// SPDX-License-Identifier: Apache-2.0
// Where option values come from besides the command line: environment, --config, and back out.
#ifndef HGA_APPS_CLI_OPTIONS_CONFIG_H_
#define HGA_APPS_CLI_OPTIONS_CONFIG_H_

#include <CLI/CLI.hpp>
#include <istream>
#include <string>
#include <vector>

namespace hga::cli {

// Gives every long option of `app` and its verbs the variable HGA_<NAME IN CAPITALS>.
void AddEnvironmentNames(CLI::App* app);

// Reads TOML for --config. Keys outside a section belong to the verb that runs; keys of other verbs
// are passed over, unknown ones are refused. A key whose variable is set in the environment yields
// to it, because CLI11 alone would let the file win.
class VerbConfig : public CLI::ConfigBase {
 public:
  explicit VerbConfig(const CLI::App* app) : app_(app) {}
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;

 private:
  const CLI::App* app_;
};

// The verb that runs, innermost last; empty before parsing.
std::vector<const CLI::App*> ChosenVerbs(const CLI::App& app);

// The settings of `verb` as TOML; `notes` are appended as comments.
std::string DescribeConfig(const CLI::App& verb, const std::vector<std::string>& notes);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_OPTIONS_CONFIG_H_
