// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back, in the shapes of llama-server.
#include <optional>
#include <utility>

#include "apps/server/chat_encode.h"
#include "apps/server/chat_request.h"
#include "apps/server/routes.h"

namespace hga::server {
namespace {

struct TokenizeRequest {
  std::optional<ChatPrompt> chat;  // else `content`
  std::string content;
  bool add_special = false;
  bool parse_special = true;
  bool with_pieces = false;
  bool count_only = false;
};

TokenizeRequest ReadTokenize(Fields& fields) {
  TokenizeRequest out;
  // As a text (llama-server), or as a conversation (vLLM).
  if (fields.Find("messages") != nullptr) out.chat = ReadChatPrompt(fields);
  const auto content = fields.Text("content", kLimits.text_bytes);
  if (content.has_value() == out.chat.has_value()) {
    fields.Fail("content", "either this or messages must be there");
  }
  out.content = content.value_or("");
  out.add_special = fields.Bool("add_special").value_or(false);
  out.parse_special = fields.Bool("parse_special").value_or(true);
  out.with_pieces = fields.Bool("with_pieces").value_or(false);
  out.count_only = fields.Bool("count_only").value_or(false);
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
  const ServedModel& model = *service->model;
  std::vector<int32_t> ids;
  if (request.chat) {
    auto encoded = EncodeMessages(model, call, request.chat->input);
    if (!encoded) return;
    ids = std::move(*encoded);
  } else {
    auto encoded = EncodePrompt(model, request.content, request.parse_special, request.add_special);
    if (!encoded.ok()) return Fail(call, FromStatus(encoded.status()));
    ids = std::move(*encoded);
  }
  Json answer = {{"count", ids.size()}, {"max_model_len", model.context}};
  if (request.count_only) return RespondJson(call, answer);
  answer["tokens"] = ids;
  if (request.with_pieces) {
    Json tokens = Json::array();
    for (const int32_t id : ids) {
      tokens.push_back({{"id", id}, {"piece", PieceJson(*model.tokenizer, id)}});
    }
    answer["tokens"] = std::move(tokens);
  }
  RespondJson(call, answer);
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
