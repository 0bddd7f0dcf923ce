// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back, in the shapes of llama-server.
#include <fmt/core.h>

#include <optional>

#include "apps/server/chat_request.h"
#include "apps/server/routes.h"

namespace hga::server {
namespace {

struct TokenizeRequest {
  std::string content;  // or
  std::optional<ChatPrompt> chat;
  bool count_only = false;
  bool add_special = false;
  bool parse_special = true;
  bool with_pieces = false;
};

TokenizeRequest ReadTokenize(Fields& fields) {
  TokenizeRequest out;
  const auto content = fields.Text("content", kLimits.text_bytes);
  const bool chat = fields.Find("messages") != nullptr;
  if (!content && !chat) fields.Fail("content", "is missing");
  if (content && chat) fields.Fail("messages", "contradicts content");
  out.content = content.value_or("");
  if (chat) out.chat = ReadChatPrompt(fields);
  out.count_only = fields.Bool("count_only").value_or(false);
  out.add_special = fields.Bool("add_special").value_or(false);
  out.parse_special = fields.Bool("parse_special").value_or(true);
  out.with_pieces = fields.Bool("with_pieces").value_or(false);
  fields.Ignore({"model"});
  return out;
}

std::vector<int32_t> ReadDetokenize(Fields& fields, const ServedModel& model) {
  std::vector<int32_t> ids;
  const Json* tokens = fields.Array("tokens", kLimits.json_values);
  if (tokens == nullptr) {
    fields.Fail("tokens", "is missing");
  } else {
    ReadIds(fields, "tokens", *tokens, model.tokenizer->vocab_size(), &ids);
  }
  fields.Ignore({"model"});
  return ids;
}

// A piece that is no UTF-8 by itself is shown as its bytes.
Json PieceJson(const Tokenizer& tokenizer, int32_t id) {
  const auto bytes = tokenizer.Decode({&id, 1}, true);
  if (!bytes.ok()) return nullptr;
  Utf8Stream stream;
  const std::string text = stream.Push(*bytes) + stream.Finish();
  if (text == *bytes) return text;
  Json list = Json::array();
  for (const char c : *bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

Result<std::vector<int32_t>> EncodeMessages(const ServedModel& model, const ChatPrompt& prompt) {
  if (model.chat_template == nullptr) return InvalidArgument(model.no_template);
  HGA_ASSIGN_OR_RETURN(const ChatText text, model.chat_template->Render(prompt.input));
  return EncodeChat(*model.tokenizer, text);
}

}  // namespace

void ReadTokenizeFields(Fields& fields, const ServedModel&) { ReadTokenize(fields); }
void ReadDetokenizeFields(Fields& fields, const ServedModel& model) {
  ReadDetokenize(fields, model);
}

void PostTokenize(Service* service, RouteCall call) {
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  const TokenizeRequest request = ReadTokenize(fields);
  if (!CheckFields(service, call, fields)) return;
  const auto ids = request.chat ? EncodeMessages(*service->model, *request.chat)
                                : EncodePrompt(*service->model, request.content,
                                               request.parse_special, request.add_special);
  if (!ids.ok()) return Fail(call, FromStatus(ids.status()));
  if (request.count_only) return RespondJson(call, {{"count", ids->size()}});
  if (std::ssize(*ids) > kLimits.shown_tokens) {
    return Fail(call,
                {400,
                 fmt::format("the text has {} tokens, at most {} are shown; count_only counts "
                             "more",
                             ids->size(), kLimits.shown_tokens),
                 "content"});
  }
  if (!request.with_pieces) return RespondJson(call, {{"tokens", *ids}});
  Json tokens = Json::array();
  for (const int32_t id : *ids) {
    tokens.push_back({{"id", id}, {"piece", PieceJson(*service->model->tokenizer, id)}});
  }
  RespondJson(call, {{"tokens", std::move(tokens)}});
}

void PostDetokenize(Service* service, RouteCall call) {
  Json body;
  if (!ReadBody(call, &body)) return;
  Fields fields(body);
  const std::vector<int32_t> ids = ReadDetokenize(fields, *service->model);
  if (!CheckFields(service, call, fields)) return;
  const auto text = service->model->tokenizer->Decode(ids, true);
  if (!text.ok()) return Fail(call, FromStatus(text.status()));
  RespondJson(call, {{"content", *text}});
}

}  // namespace hga::server
