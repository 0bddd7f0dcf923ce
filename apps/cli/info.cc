// SPDX-License-Identifier: Apache-2.0
// `hga info`: what a checkpoint is and what it would need, without loading weights.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.h"
#include "common.h"
#include "memory_plan.h"
#include "options_kv.h"
#include "progress.h"
#include "table.h"

namespace hga::cli {
namespace {

using nlohmann::json;

struct InfoFlags {
  ModelOptions model;
  AttentionOptions attention;
  KvFlags kv;
  int64_t context = 0;
  bool session = false;
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
  HGA_ASSIGN_OR_RETURN(const KvOptions kv, MakeKvOptions(flags.kv, flags.session));
  HGA_ASSIGN_OR_RETURN(facts.plan, PlanMemory(directory, facts.attention, kv, flags.session,
                                              context, flags.model.span, flags.model.threads));
  return facts;
}

json ToJson(const Facts& facts) {
  const ModelInfo& m = facts.model;
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
          {"memory", PlanJson(facts.plan)}};
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

// How many tokens the memory would hold, if that is what is missing; "" otherwise.
std::string WouldFit(const MemoryPlan& p) {
  if (p.available_bytes <= 0 || p.total_bytes <= p.available_bytes) return "";
  const int64_t fixed = p.program_bytes + p.weight_bytes + p.host_bytes + p.staging_bytes;
  if (fixed >= p.available_bytes) {
    return "; what does not grow with the context is too large alone";
  }
  const double per_token = static_cast<double>(p.device_bytes + p.table_bytes + p.scratch_bytes) /
                           static_cast<double>(std::max<int64_t>(p.context, 1));
  return fmt::format("; about {} tokens would fit (--ctx)",
                     FormatCount(static_cast<int64_t>(
                         static_cast<double>(p.available_bytes - fixed) / per_token)));
}

std::string PlanText(const Facts& facts) {
  const MemoryPlan& p = facts.plan;
  Table table;
  table.AddColumn(fmt::format("memory for {} tokens, attention {}", FormatCount(p.context),
                              facts.attention.name),
                  Table::Align::kLeft);
  table.AddColumn("");
  for (const auto& [name, bytes] : MemoryShares(p)) table.AddRow({name, Bytes(bytes)});
  table.AddRow({"total", Bytes(p.total_bytes)});
  table.AddRow({"available", Bytes(p.available_bytes)});
  table.AddRow(
      {fmt::format("all K/V ({} per token)", Bytes(p.kv_bytes_per_token)), Bytes(p.kv_bytes)});
  if (p.disk_bytes > 0) table.AddRow({"on disk", Bytes(p.disk_bytes)});
  if (p.disk_bytes > 0 && p.disk_available_bytes > 0) {
    table.AddRow({"available there", Bytes(p.disk_available_bytes)});
  }
  if (p.fits) return table.Text() + "fits\n";
  return table.Text() + "does not fit: " + p.why + WouldFit(p) + "\n";
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
  AddKvOptions(*verb, &flags->kv);
  verb->add_flag("--for-session", flags->session, "Plan for K/V that is kept as a session")
      ->group("Key/value store");
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
