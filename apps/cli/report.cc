// SPDX-License-Identifier: Apache-2.0
// How the figures of a run are derived and worded.
#include "report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>

#include "hga/version.h"
#include "report_kv.h"
#include "report_machine.h"

namespace hga::cli {
namespace {

using nlohmann::json;

// The value below which `share` of the sorted values lie (nearest rank); 0 without values.
double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(last * share + 0.5)];
}

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

json Shares(const AttentionStats& stats) {
  if (stats.queries == 0) return nullptr;
  return {{"queries", stats.queries},
          {"visible", Ratio(stats.all.visible, stats.all.context)},
          {"fetched", Ratio(stats.all.fetched, stats.all.context)},
          {"visible_routed", Ratio(stats.routed.visible, stats.routed.context)},
          {"fetched_routed", Ratio(stats.routed.fetched, stats.routed.context)},
          {"bytes_per_token", stats.bytes_read / static_cast<double>(stats.queries)}};
}

std::string SharesLine(const char* name, const AttentionStats& stats) {
  return fmt::format(
      "{}: visible {:.1f} %, fetched {:.1f} % of the context (routed layers {:.1f} %, {:.1f} %), "
      "{} read per token",
      name, 100 * Ratio(stats.all.visible, stats.all.context),
      100 * Ratio(stats.all.fetched, stats.all.context),
      100 * Ratio(stats.routed.visible, stats.routed.context),
      100 * Ratio(stats.routed.fetched, stats.routed.context),
      FormatBytes(stats.bytes_read / static_cast<double>(stats.queries)));
}

double DecodeSeconds(const Generated& generated) {
  return std::accumulate(generated.step_seconds.begin(), generated.step_seconds.end(), 0.0);
}

KvWork PromptWork(const Generated& g) {
  return WorkSince(g.kv_start, g.kv_fed, g.prompt_fed, g.prompt_seconds);
}

KvWork DecodeWork(const Generated& g) {
  return WorkSince(g.kv_fed, g.kv_end, g.decode_stats.queries, DecodeSeconds(g));
}

json TierJson(const RunReport& report) {
  json tier = KvJson(report.kv);
  if (report.kv.slots == 0) return tier;  // a session, but all K/V is in memory
  tier["prompt"] = WorkJson(PromptWork(report.generated));
  tier["decode"] = WorkJson(DecodeWork(report.generated));
  return tier;
}

void AddTierLines(const RunReport& report, std::vector<std::string>* lines) {
  const KvWork prompt = PromptWork(report.generated), decode = DecodeWork(report.generated);
  const bool tiered = report.kv.slots > 0;
  if (tiered && prompt.tokens > 0) lines->push_back(WorkLine("K/V, prefill", prompt));
  if (tiered && decode.tokens > 0) lines->push_back(WorkLine("K/V, decode", decode));
  lines->push_back(KvLine(report.kv));
}

bool IsStats(const std::string& text) {
  return text == "none" || text == "text" || text == "json" ||
         (text.rfind("json:", 0) == 0 && text.size() > 5);
}

json SamplingJson(const SamplingOptions& options) {
  json bias = json::object();
  for (const auto& [id, value] : options.logit_bias) bias[std::to_string(id)] = value;
  return {{"temperature", options.temperature},
          {"top_k", options.top_k},
          {"top_p", options.top_p},
          {"min_p", options.min_p},
          {"repetition_penalty", options.repetition_penalty},
          {"presence_penalty", options.presence_penalty},
          {"frequency_penalty", options.frequency_penalty},
          {"logit_bias", bias},
          {"seed", options.seed}};
}

}  // namespace

void AddStatsOption(CLI::App& verb, std::string* stats) {
  verb.add_option("--stats", *stats, "End report: none, text or json on stderr, or json:FILE")
      ->check(CLI::Validator(
          [](const std::string& text) {
            return IsStats(text) ? "" : "'" + text + "' is not none, text, json or json:FILE";
          },
          "none|text|json[:FILE]"))
      ->capture_default_str()
      ->group("Output");
}

json ReportJson(const RunReport& report) {
  const Generated& g = report.generated;
  const double decode_seconds = DecodeSeconds(g);
  const auto steps = static_cast<double>(g.step_seconds.size());
  const auto fed = static_cast<double>(g.prompt_fed);
  json all = {{"version", HGA_VERSION},
              {"commit", CommitText()},
              {"model", report.model},
              {"attention", report.attention},
              {"threads", report.threads},
              {"isa", report.isa},
              {"context", report.context},
              {"load",
               {{"seconds", report.load_seconds},
                {"bytes", report.weight_bytes},
                {"bytes_per_second",
                 Ratio(static_cast<double>(report.weight_bytes), report.load_seconds)}}},
              {"prompt",
               {{"tokens", report.cached_tokens + g.prompt_fed},
                {"cached_tokens", report.cached_tokens},
                {"seconds", g.prompt_seconds},
                {"tokens_per_second", Ratio(fed, g.prompt_seconds)}}},
              {"first_token_ms", g.first_token_seconds * 1e3},
              {"decode",
               {{"tokens", g.tokens.size()},
                {"seconds", decode_seconds},
                {"tokens_per_second", Ratio(steps, decode_seconds)},
                {"ms_p50", 1e3 * Percentile(g.step_seconds, 0.5)},
                {"ms_p95", 1e3 * Percentile(g.step_seconds, 0.95)}}},
              {"shares", {{"prompt", Shares(g.prompt_stats)}, {"decode", Shares(g.decode_stats)}}},
              {"sampling", SamplingJson(report.sampling)},
              {"finish", FinishName(g.finish)},
              {"peak_memory_bytes", PeakMemoryBytes()}};
  if (!report.kv.io.empty()) all["kv"] = TierJson(report);
  if (!report.session.name.empty()) all["session"] = SessionJson(report.session);
  return all;
}

std::vector<std::string> ReportLines(const RunReport& report) {
  const Generated& g = report.generated;
  const double decode_seconds = DecodeSeconds(g);
  std::vector<std::string> lines;
  lines.push_back(fmt::format("load {}, {}; attention {}, {} threads, {}",
                              FormatSeconds(report.load_seconds),
                              FormatBytes(static_cast<double>(report.weight_bytes)),
                              report.attention, report.threads, report.isa));
  lines.push_back(fmt::format(
      "prompt: {} tokens ({} cached), {}, {:.1f} t/s; first token after {}",
      FormatCount(report.cached_tokens + g.prompt_fed), FormatCount(report.cached_tokens),
      FormatSeconds(g.prompt_seconds), Ratio(static_cast<double>(g.prompt_fed), g.prompt_seconds),
      g.first_token_seconds > 0 ? FormatSeconds(g.first_token_seconds) : "-"));
  lines.push_back(
      fmt::format("answer: {} tokens, {}, {:.1f} t/s, {:.1f} ms p50, {:.1f} ms p95; ended by {}",
                  FormatCount(static_cast<int64_t>(g.tokens.size())), FormatSeconds(decode_seconds),
                  Ratio(static_cast<double>(g.step_seconds.size()), decode_seconds),
                  1e3 * Percentile(g.step_seconds, 0.5), 1e3 * Percentile(g.step_seconds, 0.95),
                  FinishName(g.finish)));
  if (g.prompt_stats.queries > 0) lines.push_back(SharesLine("prefill", g.prompt_stats));
  if (g.decode_stats.queries > 0) lines.push_back(SharesLine("decode", g.decode_stats));
  if (!report.kv.io.empty()) AddTierLines(report, &lines);
  if (!report.session.name.empty()) lines.push_back(SessionLine(report.session));
  lines.push_back(
      fmt::format("peak memory {}", FormatBytes(static_cast<double>(PeakMemoryBytes()))));
  if (report.sampling.temperature > 0) {
    lines.back() += fmt::format("; seed {}", report.sampling.seed);
  }
  return lines;
}

Status PrintReport(const std::string& stats, const RunReport& report) {
  if (stats == "none") return OkStatus();
  if (stats == "text") {
    for (const std::string& line : ReportLines(report)) Info(line);
    return OkStatus();
  }
  const std::string object =
      ReportJson(report).dump(2, ' ', false, json::error_handler_t::replace) + "\n";
  if (stats != "json") return WriteTextFile(stats.substr(5), object);
  if (std::fputs(object.c_str(), stderr) < 0) return IoError("stderr: cannot be written");
  return OkStatus();
}

}  // namespace hga::cli
