// SPDX-License-Identifier: Apache-2.0
// `hga info`: what a checkpoint is and what it would need, without loading weights.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.h"
#include "common.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using nlohmann::json;

struct InfoFlags {
  ModelOptions model;
  AttentionOptions attention;
  int64_t context = 0;
  bool json = false;
  bool check = false;
};

struct Facts {
  ModelInfo model;
  MemoryPlan plan;
  AttentionConfig attention;
};

std::string Bytes(int64_t value) { return FormatBytes(static_cast<double>(value)); }

Result<Facts> Gather(const InfoFlags& flags) {
  Facts facts;
  HGA_ASSIGN_OR_RETURN(const std::string directory,
                       ResolveModel(flags.model.model, flags.model.revision));
  HGA_ASSIGN_OR_RETURN(facts.model, ReadModelInfo(directory));
  HGA_ASSIGN_OR_RETURN(facts.attention, MakeAttention(flags.attention));
  HGA_RETURN_IF_ERROR(Validate(facts.attention, facts.model.layers));
  const int64_t context = flags.context > 0 ? flags.context : facts.model.max_position;
  HGA_ASSIGN_OR_RETURN(facts.plan, PlanMemory(directory, facts.attention, KvOptions(), context, flags.model.span,
                                              flags.model.threads));
  return facts;
}

json ToJson(const Facts& facts) {
  const ModelInfo& m = facts.model;
  const MemoryPlan& p = facts.plan;
  return {{"model",
           {{"directory", m.directory},
            {"family", m.family},
            {"weight_format", m.weight_format},
            {"layers", m.layers},
            {"hidden", m.hidden},
            {"heads", m.heads},
            {"kv_heads", m.kv_heads},
            {"head_dim", m.head_dim},
            {"vocab", m.vocab},
            {"experts", m.experts},
            {"experts_per_token", m.experts_per_token},
            {"ffn_width", m.ffn_width},
            {"tied_embeddings", m.tied_embeddings},
            {"rope_theta", m.rope_theta},
            {"max_position", m.max_position},
            {"parameters", m.parameters},
            {"weight_bytes", m.weight_bytes},
            {"tensors", m.tensors},
            {"shards", m.shards},
            {"eos_ids", m.eos_ids}}},
          {"attention", facts.attention.name},
          {"memory",
           {{"context", p.context},
            {"weight_bytes", p.weight_bytes},
            {"kv_bytes_per_token", p.kv_bytes_per_token},
            {"kv_bytes", p.kv_bytes},
            {"summary_bytes", p.summary_bytes},
            {"scratch_bytes", p.scratch_bytes},
            {"total_bytes", p.total_bytes},
            {"available_bytes", p.available_bytes},
            {"fits", p.fits}}}};
}

std::string ModelText(const ModelInfo& m) {
  Table table;
  table.AddColumn("model", Table::Align::kLeft);
  table.AddColumn(m.directory, Table::Align::kLeft);
  table.AddRow({"family", m.family});
  table.AddRow({"parameters", FormatCount(m.parameters)});
  table.AddRow({"weights", fmt::format("{}, {} in {} tensors, {} files", m.weight_format,
                                       Bytes(m.weight_bytes), FormatCount(m.tensors), m.shards)});
  table.AddRow({"shape", fmt::format("{} layers, hidden {}, {} query and {} KV heads of {}",
                                     m.layers, m.hidden, m.heads, m.kv_heads, m.head_dim)});
  table.AddRow({"feed-forward", m.experts > 0
                                    ? fmt::format("{} experts of {}, {} per token", m.experts,
                                                  m.ffn_width, m.experts_per_token)
                                    : fmt::format("dense, {}", m.ffn_width)});
  table.AddRow({"vocabulary", fmt::format("{}{}", FormatCount(m.vocab),
                                          m.tied_embeddings ? ", tied embeddings" : "")});
  table.AddRow(
      {"positions", fmt::format("{}, RoPE theta {}", FormatCount(m.max_position), m.rope_theta)});
  return table.Text();
}

std::string PlanText(const Facts& facts) {
  const MemoryPlan& p = facts.plan;
  Table table;
  table.AddColumn(fmt::format("memory for {} tokens, attention {}", FormatCount(p.context),
                              facts.attention.name),
                  Table::Align::kLeft);
  table.AddColumn("");
  table.AddRow({"weights", Bytes(p.weight_bytes)});
  table.AddRow({fmt::format("K/V ({} per token)", Bytes(p.kv_bytes_per_token)), Bytes(p.kv_bytes)});
  table.AddRow({"summaries", Bytes(p.summary_bytes)});
  table.AddRow({"scratch", Bytes(p.scratch_bytes)});
  table.AddRow({"total", Bytes(p.total_bytes)});
  table.AddRow({"available", Bytes(p.available_bytes)});
  std::string text = table.Text();
  if (p.fits) return text + "fits\n";
  const int64_t fixed = p.weight_bytes + p.scratch_bytes;
  text +=
      fmt::format("does not fit: {} more than available", Bytes(p.total_bytes - p.available_bytes));
  if (fixed >= p.available_bytes) return text + "; weights and scratch alone are too large\n";
  const double per_token = static_cast<double>(p.kv_bytes + p.summary_bytes) /
                           static_cast<double>(p.context > 0 ? p.context : 1);
  return text + fmt::format("; about {} tokens would fit (--ctx)\n",
                            FormatCount(static_cast<int64_t>(
                                static_cast<double>(p.available_bytes - fixed) / per_token)));
}

int Check(const GlobalOptions& global, const InfoFlags& flags) {
  const auto directory = ResolveModel(flags.model.model, flags.model.revision);
  if (!directory.ok()) return Fail(directory.status());
  Progress progress(global, "check", Progress::Unit::kBytes);
  const Status status = CheckModel(*directory, [&progress](const LoadProgress& p) {
    progress.Update(p.bytes_done, p.bytes_total);
  });
  progress.Finish();
  if (!status.ok()) return Fail(status);
  const Status written =
      WriteStdout(flags.json ? json({{"directory", *directory}, {"ok", true}}).dump() + "\n"
                             : *directory +
                                   ": every tensor has its shape and dtype, and every value is a "
                                   "number\n");
  return written.ok() ? kExitOk : Fail(written);
}

int Info(const GlobalOptions& global, const InfoFlags& flags) {
  const auto attention = MakeAttention(flags.attention);
  if (!attention.ok()) return FailUsage(attention.status());
  if (flags.check) return Check(global, flags);
  const Result<Facts> facts = Gather(flags);
  if (!facts.ok()) return Fail(facts.status());
  const Status written = WriteStdout(
      flags.json ? ToJson(*facts).dump(2, ' ', false, json::error_handler_t::replace) + "\n"
                 : ModelText(facts->model) + "\n" + PlanText(*facts));
  return written.ok() ? kExitOk : Fail(written);
}

}  // namespace

void AddInfoCommand(CLI::App& app, GlobalOptions& global, int* exit_code) {
  CLI::App* verb = app.add_subcommand("info", "What a checkpoint is and needs; loads no weights");
  const auto flags = std::make_shared<InfoFlags>();
  AddModelOptions(*verb, &flags->model, false, true);
  AddAttentionOptions(*verb, &flags->attention);
  verb->add_option("-c,--ctx", flags->context, "Tokens to plan memory for; 0: the model's")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->type_name("N")
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "One JSON object");
  verb->add_flag("--check", flags->check,
                 "Read all weights: shapes, dtypes, scales, values that are no number");
  verb->callback([flags, &global, exit_code] { *exit_code = Info(global, *flags); });
}

}  // namespace hga::cli
