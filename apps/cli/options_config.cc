// SPDX-License-Identifier: Apache-2.0
// Precedence of settings: flag, then environment, then --config, then the checkpoint's own.
#include "options_config.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

namespace hga::cli {
namespace {

std::string LongName(const CLI::Option& option) {
  const std::vector<std::string>& names = option.get_lnames();
  return names.empty() ? "" : names.front();
}

bool IsSet(const CLI::Option& option) {
  const char* value = std::getenv(option.get_envname().c_str());
  return !option.get_envname().empty() && value != nullptr && value[0] != '\0';
}

const CLI::Option* Find(const CLI::App& app, const std::string& key) {
  return app.get_option_no_throw("--" + key);
}

// Whether any verb below `app` has the option.
bool FindBelow(const CLI::App& app, const std::string& key) {
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (Find(*verb, key) != nullptr || FindBelow(*verb, key)) return true;
  }
  return false;
}

// The verb that a section [a.b] is of; null: none.
const CLI::App* VerbAt(const CLI::App& app, const std::vector<std::string>& section) {
  const CLI::App* at = &app;
  for (const std::string& name : section) {
    const auto below =
        at->get_subcommands([&](const CLI::App* verb) { return verb->check_name(name); });
    if (below.empty()) return nullptr;
    at = below.front();
  }
  return at;
}

std::string WhyUnknown(const CLI::App& app, const CLI::ConfigItem& item) {
  if (item.parents.empty()) return "--config: no verb has the option \"" + item.name + "\"";
  std::string section = item.parents.front();
  for (size_t i = 1; i < item.parents.size(); ++i) section += "." + item.parents[i];
  if (VerbAt(app, item.parents) == nullptr) return "--config: [" + section + "] is no verb";
  return "--config: [" + section + "] has no option \"" + item.name + "\"";
}

bool IsNumberOrFlag(const std::string& text) {
  if (text == "true" || text == "false") return true;
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0';
}

std::string Quoted(const std::string& text) {
  if (IsNumberOrFlag(text)) return text;
  const bool has_double = text.find('"') != std::string::npos;
  return has_double ? "'" + text + "'" : "\"" + text + "\"";
}

std::string ValueOf(const CLI::Option& option) {
  const bool flag = option.get_expected_min() == 0;
  if (option.count() == 0) {
    if (flag) return option.get_fnames().empty() ? "false" : "";  // one with a negation is open
    return option.get_default_str().empty() ? "" : Quoted(option.get_default_str());
  }
  if (flag) return option.as<std::string>();
  const std::vector<std::string>& results = option.results();
  if (results.size() == 1) return Quoted(results.front());
  std::string list;
  for (const std::string& result : results) list += (list.empty() ? "" : ", ") + Quoted(result);
  return "[" + list + "]";
}

}  // namespace

void AddEnvironmentNames(CLI::App* app) {
  for (CLI::Option* option : app->get_options()) {
    std::string name = LongName(*option);
    if (name.empty() || !option->get_configurable() || option == app->get_help_ptr()) continue;
    std::string variable = "HGA_";
    for (char c : name) {
      variable += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    option->envname(variable);
  }
  for (CLI::App* verb : app->get_subcommands([](const CLI::App*) { return true; })) {
    AddEnvironmentNames(verb);
  }
}

std::vector<const CLI::App*> ChosenVerbs(const CLI::App& app) {
  std::vector<const CLI::App*> chain;
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    chain.push_back(at);
  }
  return chain;
}

std::vector<CLI::ConfigItem> VerbConfig::from_config(std::istream& input) const {
  const std::vector<const CLI::App*> chain = ChosenVerbs(*app_);
  std::vector<std::string> chosen;
  for (const CLI::App* verb : chain) chosen.push_back(verb->get_name());
  std::vector<CLI::ConfigItem> kept;
  for (CLI::ConfigItem& item : CLI::ConfigBase::from_config(input)) {
    if (item.name == "++" || item.name == "--") continue;  // section marks
    const bool flat = item.parents.empty();
    const bool ours = item.parents.size() <= chosen.size() &&
                      std::equal(item.parents.begin(), item.parents.end(), chosen.begin());
    const CLI::Option* option = nullptr;
    if (flat || ours) {
      for (size_t depth = chain.size(); option == nullptr && depth > item.parents.size(); --depth) {
        option = Find(*chain[depth - 1], item.name);
        if (option == nullptr) continue;
        item.parents.assign(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(depth));
      }
      if (option == nullptr && !flat) option = Find(*chain[item.parents.size() - 1], item.name);
    }
    if (option == nullptr) {
      const CLI::App* verb = VerbAt(*app_, item.parents);
      const bool elsewhere = verb != nullptr && ((!flat && Find(*verb, item.name) != nullptr) ||
                                                 FindBelow(*verb, item.name));
      if (elsewhere) continue;
      throw CLI::ParseError(WhyUnknown(*app_, item), CLI::ExitCodes::ConfigError);
    }
    if (IsSet(*option)) continue;
    kept.push_back(std::move(item));
  }
  return kept;
}

std::string DescribeConfig(const CLI::App& verb, const std::vector<std::string>& notes) {
  std::string text = "# hga " + verb.get_name() + "\n";
  for (const CLI::Option* option : verb.get_options()) {
    const std::string name = LongName(*option);
    if (name.empty() || !option->get_configurable() || option == verb.get_help_ptr()) continue;
    const std::string value = ValueOf(*option);
    text += value.empty() ? "# " + name + " is not set\n" : name + " = " + value + "\n";
  }
  for (const std::string& note : notes) text += "# " + note + "\n";
  return text;
}

}  // namespace hga::cli
