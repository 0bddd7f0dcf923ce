// SPDX-License-Identifier: Apache-2.0
// Turns come and go as tokens; a note of them can be read back.
#include "chat_conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace hga::cli {
namespace {

using nlohmann::json;

constexpr int kNoteVersion = 1;

void Append(const std::vector<int32_t>& from, std::vector<int32_t>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

Status NoNote(const std::string& what) {
  return DataLoss("the session's conversation cannot be read: " + what);
}

// A list of token ids below `vocab`.
std::optional<std::vector<int32_t>> Ids(const json& turn, const char* name, int vocab) {
  const auto list = turn.find(name);
  if (list == turn.end() || !list->is_array()) return std::nullopt;
  std::vector<int32_t> ids;
  ids.reserve(list->size());
  for (const json& id : *list) {
    if (!id.is_number_integer()) return std::nullopt;
    const auto value = id.get<int64_t>();
    if (value < 0 || value >= vocab) return std::nullopt;
    ids.push_back(static_cast<int32_t>(value));
  }
  return ids;
}

std::optional<std::string> Text(const json& object, const char* name) {
  const auto text = object.find(name);
  if (text == object.end() || !text->is_string()) return std::nullopt;
  return text->get<std::string>();
}

}  // namespace

Status Conversation::SetSystem(std::string_view text) {
  system_.clear();
  system_text_.clear();
  if (text.empty()) return OkStatus();
  HGA_ASSIGN_OR_RETURN(system_, chat_.Message("system", text));
  system_text_ = text;
  return OkStatus();
}

Status Conversation::AddUser(std::string_view text) {
  Turn turn;
  turn.text = text;
  HGA_ASSIGN_OR_RETURN(turn.user, chat_.Message("user", text));
  HGA_ASSIGN_OR_RETURN(const auto start, chat_.AnswerStart());
  Append(start, &turn.user);
  turns_.push_back(std::move(turn));
  return OkStatus();
}

void Conversation::DropTurn() { turns_.pop_back(); }

std::vector<int32_t> Conversation::Prompt() const {
  std::vector<int32_t> tokens = system_;
  for (size_t i = 0; i < turns_.size(); ++i) {
    Append(turns_[i].user, &tokens);
    if (i + 1 < turns_.size()) Append(turns_[i].answer, &tokens);
  }
  return tokens;
}

std::vector<int32_t> Conversation::Tokens() const {
  std::vector<int32_t> tokens = Prompt();
  if (!turns_.empty()) Append(turns_.back().answer, &tokens);
  return tokens;
}

Status Conversation::AddAnswer(int64_t prompt_tokens, const Generated& generated) {
  Turn& turn = turns_.back();
  if (generated.prompt_fed < prompt_tokens) {
    if (turn.answer.empty()) DropTurn();  // else it was another try: the old answer stays
    return OkStatus();
  }
  turn.answer = generated.tokens;
  HGA_ASSIGN_OR_RETURN(const auto end, chat_.AnswerEnd());
  Append(end, &turn.answer);
  return OkStatus();
}

std::string Conversation::Note(const Tokenizer& tokenizer, std::span<const int32_t> part) const {
  json turns = json::array();
  for (const Turn& turn : turns_) {
    std::vector<int32_t> answer = turn.answer;
    if (&turn == &turns_.back() && !part.empty()) answer.assign(part.begin(), part.end());
    const Result<std::string> text = tokenizer.Decode(answer, /*keep_special=*/false);
    turns.push_back({{"user", turn.text},
                     {"user_ids", turn.user},
                     {"answer", text.ok() ? *text : ""},
                     {"answer_ids", answer}});
  }
  const json note = {{"chat", kNoteVersion}, {"system", system_text_}, {"turns", turns}};
  return note.dump(-1, ' ', false, json::error_handler_t::replace);
}

Status Conversation::Restore(const std::string& note, int vocab) {
  const json parsed = json::parse(note, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return NoNote("it is no JSON object");
  const auto version = parsed.find("chat");
  if (version == parsed.end() || *version != kNoteVersion) {
    return NoNote("it is of another version");
  }
  const std::optional<std::string> system = Text(parsed, "system");
  const auto turns = parsed.find("turns");
  if (!system || turns == parsed.end() || !turns->is_array()) return NoNote("fields are missing");
  HGA_ASSIGN_OR_RETURN(const auto end, chat_.AnswerEnd());
  std::vector<Turn> restored;
  for (const json& item : *turns) {
    std::optional<std::string> text = item.is_object() ? Text(item, "user") : std::nullopt;
    if (!text) return NoNote("a turn has no text");
    std::optional<std::vector<int32_t>> user = Ids(item, "user_ids", vocab);
    std::optional<std::vector<int32_t>> answer = Ids(item, "answer_ids", vocab);
    if (!user || user->empty() || !answer) return NoNote("a turn has no or wrong token ids");
    // An answer that was being written ends where it was saved.
    const bool ended =
        answer->size() >= end.size() && std::equal(end.rbegin(), end.rend(), answer->rbegin());
    if (!ended) Append(end, &*answer);
    restored.push_back({*std::move(text), *std::move(user), *std::move(answer)});
  }
  HGA_RETURN_IF_ERROR(SetSystem(*system));
  turns_ = std::move(restored);
  return OkStatus();
}

}  // namespace hga::cli
