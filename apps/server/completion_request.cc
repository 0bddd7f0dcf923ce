// SPDX-License-Identifier: Apache-2.0
// One prompt or several, as text or as token ids.
#include "apps/server/completion_request.h"

#include <fmt/core.h>

namespace hga::server {
namespace {

// Checkpoints that can fill a gap have tokens for it.
std::string FillIn(Fields& fields, const ServedModel& model, const std::string& prompt,
                   const std::string& suffix) {
  for (const char* mark : {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}) {
    if (!model.tokenizer->TokenId(mark)) {
      fields.Fail("suffix", "this model has no tokens for filling a gap");
      return "";
    }
  }
  return "<|fim_prefix|>" + prompt + "<|fim_suffix|>" + suffix + "<|fim_middle|>";
}

void ReadPromptList(Fields& fields, const Json& list, const ServedModel& model,
                    CompletionRequest* out) {
  if (list.empty()) return fields.Fail("prompt", "must not be empty");
  if (list.front().is_number()) {
    out->prompts.emplace_back();
    ReadIds(fields, "prompt", list, model.info.vocab, &out->prompts.back());
    return;
  }
  if (static_cast<int64_t>(list.size()) > kLimits.prompts) {
    return fields.Fail("prompt", fmt::format("has {} prompts, at most {} are taken", list.size(),
                                             kLimits.prompts));
  }
  const bool texts = list.front().is_string();
  for (const Json& item : list) {
    if (texts && item.is_string()) {
      out->texts.push_back(item.get<std::string>());
    } else if (!texts && item.is_array() && !item.empty()) {
      out->prompts.emplace_back();
      if (!ReadIds(fields, "prompt", item, model.info.vocab, &out->prompts.back())) return;
    } else {
      return fields.Fail("prompt", "must be a string, strings, token ids, or lists of token ids");
    }
  }
}

void ReadPrompt(Fields& fields, const ServedModel& model, CompletionRequest* out) {
  const Json* prompt = fields.Find("prompt");
  const auto suffix = fields.Text("suffix", kLimits.text_bytes);
  if (prompt == nullptr) return fields.Fail("prompt", "is missing");
  if (prompt->is_string()) {
    out->texts.push_back(prompt->get<std::string>());
  } else if (prompt->is_array()) {
    ReadPromptList(fields, *prompt, model, out);
  } else {
    fields.Fail("prompt", "must be a string, strings, token ids, or lists of token ids");
  }
  if (!suffix || suffix->empty() || !fields.ok()) return;
  if (out->texts.size() != 1) return fields.Fail("suffix", "needs one prompt that is a string");
  out->texts.front() = FillIn(fields, model, out->texts.front(), *suffix);
}

}  // namespace

CompletionRequest ReadCompletionRequest(Fields& fields, const ServedModel& model) {
  CompletionRequest out;
  out.echo = fields.Bool("echo").value_or(false);
  out.common = ReadCommon(fields, model, 0);
  // Harnesses that score a prompt ask for no answer at all.
  out.no_answer = out.common.max_tokens == 0;
  if (out.no_answer) out.common.max_tokens = 1;
  if (out.no_answer && !out.echo) fields.Fail("max_tokens", "0 needs echo");
  ReadPrompt(fields, model, &out);
  if (const auto logprobs = fields.Integer("logprobs", 0, kLimits.top_logprobs)) {
    out.common.top_logprobs = static_cast<int>(*logprobs);
  }
  if (const auto best = fields.Integer("best_of", 1, kLimits.n); best && *best != out.common.n) {
    fields.Fail("best_of", "must be n: answers are not ranked");
  }
  return out;
}

}  // namespace hga::server
