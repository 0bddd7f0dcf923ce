// SPDX-License-Identifier: Apache-2.0
// Lengths, sampling and stops: how flags meet the checkpoint's own settings.
#include "options_sampling.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "common.h"

namespace hga::cli {
namespace {

constexpr const char* kSamplingGroup = "Sampling (left out: the checkpoint's own, --print-config)";
constexpr const char* kLengthGroup = "Length";
constexpr size_t kMaxStops = 256;
constexpr size_t kMaxStopBytes = 4096;
constexpr int64_t kMaxTokens = int64_t{1} << 40;

void Apply(const SamplingFlags& flags, SamplingOptions* options) {
  const auto set = [](const auto& given, auto* field) {
    if (given) *field = *given;
  };
  set(flags.temperature, &options->temperature);
  set(flags.top_k, &options->top_k);
  set(flags.top_p, &options->top_p);
  set(flags.min_p, &options->min_p);
  set(flags.repetition_penalty, &options->repetition_penalty);
  set(flags.presence_penalty, &options->presence_penalty);
  set(flags.frequency_penalty, &options->frequency_penalty);
  if (flags.greedy) options->temperature = 0;
}

Status ParseBias(const std::string& text, int vocab, std::map<int32_t, double>* bias) {
  const size_t equals = text.find('=');
  char* id_end = nullptr;
  char* value_end = nullptr;
  const char* value_start = equals == std::string::npos ? "" : text.c_str() + equals + 1;
  const long long id = std::strtoll(text.c_str(), &id_end, 10);
  const double value = std::strtod(value_start, &value_end);
  if (equals == std::string::npos || equals == 0 || id_end != text.c_str() + equals ||
      *value_start == '\0' || *value_end != '\0') {
    return InvalidArgument(fmt::format("--logit-bias: '{}' is not ID=VALUE", text));
  }
  if (id < 0 || id >= vocab) {
    return InvalidArgument(
        fmt::format("--logit-bias: token {} is outside the vocabulary of {}", id, vocab));
  }
  (*bias)[static_cast<int32_t>(id)] = value;
  return OkStatus();
}

}  // namespace

void AddSamplingOptions(CLI::App& verb, SamplingFlags* flags) {
  const auto add = [&verb](const char* name, auto& field, const char* text) {
    verb.add_option(name, field, text)->group(kSamplingGroup);
  };
  add("--temperature", flags->temperature, "0 is greedy");
  add("--top-k", flags->top_k, "Only the best K tokens; 0: off");
  add("--top-p", flags->top_p, "Only the best tokens that hold this share, (0, 1]");
  add("--min-p", flags->min_p, "Only tokens with this share of the best one's probability");
  add("--repetition-penalty", flags->repetition_penalty, "On tokens of prompt and answer; 1: off");
  add("--presence-penalty", flags->presence_penalty, "On tokens of the answer, [-2, 2]");
  add("--frequency-penalty", flags->frequency_penalty, "The same, times their count, [-2, 2]");
  add("--seed", flags->seed, "Repeats a run; drawn and reported when left out");
  verb.add_option("--logit-bias", flags->logit_bias, "Added to a token's logit; repeatable")
      ->type_name("ID=V")
      ->allow_extra_args(false)
      ->group(kSamplingGroup);
  verb.add_flag("--greedy", flags->greedy, "Always the most likely token")->group(kSamplingGroup);
}

void AddLengthOptions(CLI::App& verb, LengthFlags* flags) {
  verb.add_option("-c,--ctx", flags->context, "Most tokens of prompt and answer; 0: the model's")
      ->check(CLI::Range(int64_t{0}, kMaxTokens))
      ->type_name("N")
      ->capture_default_str()
      ->group(kLengthGroup);
  verb.add_option(
          "-n,--max-tokens", flags->max_tokens,
          fmt::format("Most tokens to write [{}, or what the context leaves]", kDefaultMaxTokens))
      ->check(CLI::Range(int64_t{1}, kMaxTokens))
      ->type_name("N")
      ->group(kLengthGroup);
  verb.add_flag("--allow-past-limit", flags->allow_past_limit,
                "Allow more tokens than the model was made for")
      ->group(kLengthGroup);
  verb.add_flag("--allow-overcommit", flags->allow_overcommit,
                "Start although the memory plan says it does not fit")
      ->group(kLengthGroup);
}

void AddStopOptions(CLI::App& verb, StopFlags* flags) {
  verb.add_option("--stop", flags->stop, "Text that ends the answer, itself not shown; repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group(kLengthGroup);
  verb.add_flag("--ignore-eos", flags->ignore_eos, "Go on after the model's end-of-text token")
      ->group(kLengthGroup);
}

Status CheckSampling(const SamplingFlags& flags) {
  if (flags.greedy && flags.temperature.value_or(0) != 0) {
    return InvalidArgument(
        fmt::format("--greedy contradicts --temperature {}", *flags.temperature));
  }
  SamplingOptions options;
  Apply(flags, &options);
  return Validate(options);
}

Result<SamplingOptions> MakeSampling(const SamplingFlags& flags, const std::string& directory,
                                     int vocab) {
  HGA_ASSIGN_OR_RETURN(SamplingOptions options, ReadSamplingDefaults(directory));
  Apply(flags, &options);
  for (const std::string& text : flags.logit_bias) {
    HGA_RETURN_IF_ERROR(ParseBias(text, vocab, &options.logit_bias));
  }
  options.seed = flags.seed ? *flags.seed : std::random_device{}();
  HGA_RETURN_IF_ERROR(Validate(options));
  return options;
}

std::vector<std::string> SamplingNotes(const CLI::App& verb) {
  const CLI::Option* model = verb.get_option_no_throw("--model");
  if (model == nullptr || model->count() == 0 ||
      verb.get_option_no_throw("--temperature") == nullptr) {
    return {};
  }
  const CLI::Option* revision = verb.get_option_no_throw("--revision");
  const std::string branch =
      revision != nullptr && revision->count() > 0 ? revision->as<std::string>() : "";
  const auto directory = ResolveModel(model->as<std::string>(), branch);
  if (!directory.ok()) return {directory.status().message()};
  const auto defaults = ReadSamplingDefaults(*directory);
  if (!defaults.ok()) return {defaults.status().message()};
  std::vector<std::string> notes;
  const auto note = [&](const std::string& name, double value) {
    const CLI::Option* option = verb.get_option_no_throw("--" + name);
    if (option == nullptr || option->count() > 0) return;
    notes.push_back(fmt::format("{} = {} (the checkpoint's)", name, value));
  };
  note("temperature", defaults->temperature);
  note("top-k", defaults->top_k);
  note("top-p", defaults->top_p);
  note("min-p", defaults->min_p);
  note("repetition-penalty", defaults->repetition_penalty);
  return notes;
}

Result<int64_t> ContextLimit(const LengthFlags& flags, const ModelInfo& info) {
  if (flags.context == 0) return info.max_position;
  if (flags.context > info.max_position && !flags.allow_past_limit) {
    return InvalidArgument(fmt::format(
        "--ctx {} is more than the {} tokens the model was made for; --allow-past-limit runs it",
        flags.context, info.max_position));
  }
  return flags.context;
}

Result<int64_t> AnswerLimit(const LengthFlags& flags, int64_t limit, int64_t prompt) {
  const int64_t room = limit - prompt;
  if (room < 1) {
    return ResourceExhausted(fmt::format(
        "the prompt has {} tokens, the context holds {} and an answer needs at least 1; nothing "
        "was cut off: shorten the prompt or raise --ctx",
        prompt, limit));
  }
  if (!flags.max_tokens) return std::min(room, kDefaultMaxTokens);
  if (*flags.max_tokens > room) {
    return ResourceExhausted(fmt::format(
        "the prompt has {} tokens and --max-tokens is {}: together {}, but the context holds {}; "
        "use --max-tokens {} or less, or raise --ctx",
        prompt, *flags.max_tokens, prompt + *flags.max_tokens, limit, room));
  }
  return *flags.max_tokens;
}

Status CheckStops(const StopFlags& flags) {
  if (flags.stop.size() > kMaxStops) {
    return InvalidArgument(fmt::format("--stop is there {} times, at most {} are taken",
                                       flags.stop.size(), kMaxStops));
  }
  for (const std::string& stop : flags.stop) {
    if (stop.empty()) return InvalidArgument("--stop: an empty text would stop every answer");
    if (stop.size() > kMaxStopBytes) {
      return InvalidArgument(fmt::format("--stop: a text of {} bytes, at most {} are taken",
                                         stop.size(), kMaxStopBytes));
    }
  }
  return OkStatus();
}

}  // namespace hga::cli
