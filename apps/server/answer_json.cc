// SPDX-License-Identifier: Apache-2.0
// Pieces of JSON that whole answers and streams have in common.
#include <fmt/core.h>

#include <algorithm>

#include "apps/server/answer_output.h"

namespace hga::server {
namespace {

Json Bytes(const std::string& bytes) {
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

// Names of alternatives must differ although two tokens can look alike as text.
std::string Text(const std::string& bytes) {
  Utf8Stream stream;
  std::string text = stream.Push(bytes);
  return text + stream.Finish();
}

int64_t Characters(const std::string& text) {
  return std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; });
}

// JSON has no minus infinity.
double Finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

}  // namespace

Json UsageJson(const AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.answer_tokens},
          {"total_tokens", usage.prompt_tokens + usage.answer_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

Json TimingsJson(const AnswerUsage& usage) {
  const auto rate = [](int64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  const int64_t computed = usage.prompt_tokens - usage.cached_tokens;
  return {{"cache_n", usage.cached_tokens},
          {"prompt_n", computed},
          {"prompt_ms", usage.prefill_seconds * 1e3},
          {"prompt_per_second", rate(computed, usage.prefill_seconds)},
          {"predicted_n", usage.answer_tokens},
          {"predicted_ms", usage.decode_seconds * 1e3},
          {"predicted_per_second", rate(usage.answer_tokens, usage.decode_seconds)},
          {"queue_ms", usage.queue_seconds * 1e3}};
}

// A group is its first token over its length; all but the first are distances from the one before,
// which keeps an event of a deep context in a few kilobytes.
Json LensJson(const GeneratedToken& token, int64_t context) {
  Json layers = Json::array();
  for (const GeneratedToken::LayerPlan& plan : token.plans) {
    const int64_t size = plan.groups.empty() ? 1 : plan.groups.front().tokens;
    Json groups = Json::array();
    int64_t before = 0;
    for (const Sequence::OpenedGroup& group : plan.groups) {
      groups.push_back(group.first / size - before);
      before = group.first / size;
    }
    layers.push_back({{"layer", plan.layer}, {"tokens", size}, {"groups", std::move(groups)}});
  }
  return {{"context", context},
          {"visible_share", token.visible_share},
          {"cells_wanted", token.cells_wanted},
          {"cells_in_memory", token.cells_in_memory},
          {"layers", std::move(layers)}};
}

Json ChatLogprobs(const std::vector<TokenText>& tokens) {
  Json content = Json::array();
  for (const TokenText& token : tokens) {
    Json top = Json::array();
    for (const TokenText::Other& other : token.top) {
      top.push_back({{"token", Text(other.bytes)},
                     {"logprob", Finite(other.logprob)},
                     {"bytes", Bytes(other.bytes)}});
    }
    content.push_back({{"token", Text(token.bytes)},
                       {"logprob", Finite(token.logprob)},
                       {"bytes", Bytes(token.bytes)},
                       {"top_logprobs", std::move(top)}});
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json CompletionLogprobs(const std::vector<TokenText>& tokens, int64_t* offset) {
  Json names = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const TokenText& token : tokens) {
    names.push_back(Text(token.bytes));
    offsets.push_back(*offset);
    *offset += Characters(names.back().get_ref<const std::string&>());
    if (!token.has_logprob) {
      values.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    values.push_back(Finite(token.logprob));
    Json top = Json::object();
    for (const TokenText::Other& other : token.top) top[Text(other.bytes)] = Finite(other.logprob);
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json ToolCallsJson(const std::vector<ToolDelta>& deltas, const std::string& answer_id, bool whole) {
  Json calls = Json::array();
  for (const ToolDelta& delta : deltas) {
    Json function = Json::object();
    if (delta.starts) function["name"] = delta.name;
    function["arguments"] = delta.arguments;
    Json call = Json::object();
    if (!whole) call["index"] = delta.index;
    if (delta.starts) {
      call["id"] =
          fmt::format("call_{}_{}", answer_id.substr(answer_id.find('-') + 1), delta.index);
      call["type"] = "function";
    }
    call["function"] = std::move(function);
    calls.push_back(std::move(call));
  }
  return calls;
}

}  // namespace hga::server
