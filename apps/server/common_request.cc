// SPDX-License-Identifier: Apache-2.0
// The checkpoint's defaults with a request's fields over them.
#include "apps/server/common_request.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <random>

namespace hga::server {
namespace {

void ReadModelName(Fields& fields, const ServedModel& model, CommonRequest* out) {
  const auto name = fields.Text("model", kLimits.model_bytes);
  out->model = model.names.front();
  if (!name) return;
  if (!model.HasName(*name)) {
    fields.Fail({404,
                 fmt::format("the model {} is not served here; GET /v1/models lists what is",
                             Quoted(*name)),
                 "model", "model_not_found"});
    return;
  }
  out->model = *name;
}

void ReadSeed(Fields& fields, SamplingOptions* sampling) {
  const Json* seed = fields.Find("seed");
  if (seed == nullptr) {
    std::random_device device;
    sampling->seed = (uint64_t{device()} << 32) | device();
  } else if (!seed->is_number_integer()) {
    fields.Fail("seed", "must be an integer of 64 bits");
  } else {
    sampling->seed = seed->is_number_unsigned() ? seed->get<uint64_t>()
                                                : static_cast<uint64_t>(seed->get<int64_t>());
  }
}

void ReadBias(Fields& fields, int vocab, SamplingOptions* sampling) {
  const Json* bias = fields.Object("logit_bias");
  if (bias == nullptr) return;
  if (static_cast<int64_t>(bias->size()) > kLimits.logit_bias) {
    fields.Fail("logit_bias", fmt::format("has {} entries, at most {} are taken", bias->size(),
                                          kLimits.logit_bias));
    return;
  }
  for (const auto& [key, value] : bias->items()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= vocab) {
      fields.Fail("logit_bias",
                  fmt::format("{} is no token id from 0 to {}", Quoted(key), vocab - 1));
      return;
    }
    const double amount = value.is_number() ? value.get<double>() : NAN;
    if (!(amount >= -100 && amount <= 100)) {
      fields.Fail("logit_bias", fmt::format("the value of {} is no number from -100 to 100", id));
      return;
    }
    sampling->logit_bias[id] = amount;
  }
}

void ReadSampling(Fields& fields, const ServedModel& model, SamplingOptions* sampling) {
  *sampling = model.sampling;
  const auto number = [&](const char* name, double least, double most, double* to) {
    if (const auto value = fields.Number(name, least, most)) *to = *value;
  };
  number("temperature", 0, 2, &sampling->temperature);
  number("top_p", 0, 1, &sampling->top_p);
  number("min_p", 0, 1, &sampling->min_p);
  number("presence_penalty", -2, 2, &sampling->presence_penalty);
  number("frequency_penalty", -2, 2, &sampling->frequency_penalty);
  number("repetition_penalty", 0.01, 100, &sampling->repetition_penalty);
  number("repeat_penalty", 0.01, 100, &sampling->repetition_penalty);
  if (fields.ok() && sampling->top_p == 0) fields.Fail("top_p", "must be greater than 0");
  // -1 means "all" to clients of vLLM.
  if (const auto top_k = fields.Integer("top_k", -1, kLimits.top_k)) {
    sampling->top_k = static_cast<int>(*top_k < 0 ? 0 : *top_k);
  }
  ReadSeed(fields, sampling);
  ReadBias(fields, model.info.vocab, sampling);
  if (!fields.ok()) return;
  if (const Status status = Validate(*sampling); !status.ok()) fields.Fail("", status.message());
}

void ReadStops(Fields& fields, CommonRequest* out) {
  const Json* stop = fields.Find("stop");
  if (stop == nullptr) return;
  std::vector<Json> texts;
  if (stop->is_string()) {
    texts.push_back(*stop);
  } else if (const Json* list = fields.Array("stop", kLimits.stops)) {
    texts.assign(list->begin(), list->end());
  }
  for (const Json& text : texts) {
    if (!text.is_string()) return fields.Fail("stop", "must be a string or an array of strings");
    const auto& value = text.get_ref<const std::string&>();
    if (value.empty()) return fields.Fail("stop", "an empty string would stop every answer");
    if (static_cast<int64_t>(value.size()) > kLimits.stop_bytes) {
      return fields.Fail("stop", fmt::format("a string has {} bytes, at most {} are taken",
                                             value.size(), kLimits.stop_bytes));
    }
    out->stops.push_back(value);
  }
}

void ReadStopIds(Fields& fields, const ServedModel& model, CommonRequest* out) {
  if (!fields.Bool("ignore_eos").value_or(false)) {
    out->stop_ids = model.info.eos_ids;
  }
  if (const Json* ids = fields.Array("stop_token_ids", kLimits.stop_ids)) {
    ReadIds(fields, "stop_token_ids", *ids, model.info.vocab, &out->stop_ids);
  }
}

void ReadLengths(Fields& fields, int64_t least, CommonRequest* out) {
  // The newer name wins, as at OpenAI.
  const auto newer = fields.Integer("max_completion_tokens", least, kLimits.max_tokens);
  const auto older = fields.Integer("max_tokens", least, kLimits.max_tokens);
  out->max_tokens = newer ? newer : older;
  out->n = static_cast<int>(fields.Integer("n", 1, kLimits.n).value_or(1));
}

void ReadStreaming(Fields& fields, CommonRequest* out) {
  out->stream = fields.Bool("stream").value_or(false);
  out->return_progress = fields.Bool("return_progress").value_or(false);
  out->timings_per_token = fields.Bool("timings_per_token").value_or(false);
  out->trace = fields.Bool("hga_trace").value_or(false);
  out->reuse_prefix = fields.Bool("cache_prompt").value_or(true);
  if (const Json* options = fields.Object("stream_options")) {
    Fields inner(*options, "stream_options.");
    out->include_usage = inner.Bool("include_usage").value_or(false);
    if (!inner.ok()) return fields.Fail(inner.error());
    if (!out->stream) fields.Fail("stream_options", "needs stream");
  }
}

}  // namespace

CommonRequest ReadCommon(Fields& fields, const ServedModel& model, int64_t least) {
  CommonRequest out;
  ReadModelName(fields, model, &out);
  ReadSampling(fields, model, &out.sampling);
  ReadStops(fields, &out);
  ReadStopIds(fields, model, &out);
  ReadLengths(fields, least, &out);
  ReadStreaming(fields, &out);
  fields.Ignore({"user", "metadata", "store", "id_slot", "service_tier", "safety_identifier",
                 "prompt_cache_key", "add_special_tokens"});
  if (fields.Find("chat_template") != nullptr) {
    fields.Fail("chat_template", "a template of the request's own is not run");
  }
  return out;
}

}  // namespace hga::server
