// SPDX-License-Identifier: Apache-2.0
// Turns come and go; their tokens follow from rendering, a note of them can be read back.
#include "chat_conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace hga::cli {
namespace {

using nlohmann::json;

constexpr int kNoteVersion = 2;  // 1 kept the tokens of messages as well

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

void Conversation::SetSystem(std::string_view text) {
  if (text == system_) return;
  system_ = text;
  known_ = {};
  marks_.clear();
}

void Conversation::AddUser(std::string_view text) {
  turns_.emplace_back();
  turns_.back().user = text;
}

void Conversation::DropTurn() { turns_.pop_back(); }

std::string Conversation::AnswerText(std::span<const int32_t> ids) const {
  const Result<std::string> bytes = tokenizer_->Decode(ids, /*keep_special=*/false);
  if (!bytes.ok()) return "";
  Utf8Stream stream;
  std::string text = stream.Push(*bytes);
  text += stream.Finish();
  return text;
}

Result<Conversation::Known> Conversation::PromptOf(size_t turn, bool* extends) const {
  std::vector<Message> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  for (size_t i = 0; i <= turn; ++i) {
    messages.push_back({"user", turns_[i].user});
    if (i < turn) messages.push_back({"assistant", turns_[i].answer});
  }
  HGA_ASSIGN_OR_RETURN(ChatText chat, chat_.Render(messages));
  Known prompt;
  *extends = chat.text.starts_with(known_.text);
  if (*extends) {
    const size_t cut = known_.text.size();
    ChatText rest;
    rest.text = chat.text.substr(cut);
    for (const TextRange& range : chat.trusted) {
      if (range.end > cut)
        rest.trusted.push_back({std::max(range.begin, cut) - cut, range.end - cut});
    }
    HGA_ASSIGN_OR_RETURN(const auto ids, EncodeChat(*tokenizer_, rest));
    prompt.ids = known_.ids;
    prompt.ids.insert(prompt.ids.end(), ids.begin(), ids.end());
  } else {
    HGA_ASSIGN_OR_RETURN(prompt.ids, EncodeChat(*tokenizer_, chat));
  }
  if (prompt.ids.empty()) return InvalidArgument("the chat template makes no prompt of this");
  prompt.text = std::move(chat.text);
  return prompt;
}

Status Conversation::Know(size_t count) {
  if (count < marks_.size()) {
    const bool back = std::all_of(marks_.begin() + static_cast<std::ptrdiff_t>(count), marks_.end(),
                                  [](const Mark& mark) { return mark.extends; });
    marks_.resize(back ? count : 0);
    known_.text.resize(marks_.empty() ? 0 : marks_.back().bytes);
    known_.ids.resize(marks_.empty() ? 0 : marks_.back().ids);
  }
  while (marks_.size() < count) {
    const Turn& turn = turns_[marks_.size()];
    Mark mark;
    HGA_ASSIGN_OR_RETURN(known_, PromptOf(marks_.size(), &mark.extends));
    known_.text += turn.answer;
    known_.ids.insert(known_.ids.end(), turn.answer_ids.begin(), turn.answer_ids.end());
    mark.bytes = known_.text.size();
    mark.ids = known_.ids.size();
    marks_.push_back(mark);
  }
  return OkStatus();
}

Result<std::vector<int32_t>> Conversation::Prompt() {
  HGA_RETURN_IF_ERROR(Know(turns_.size() - 1));
  bool extends = false;
  HGA_ASSIGN_OR_RETURN(Known prompt, PromptOf(turns_.size() - 1, &extends));
  return std::move(prompt.ids);
}

Result<std::vector<int32_t>> Conversation::Tokens() {
  HGA_RETURN_IF_ERROR(Know(turns_.size()));
  return known_.ids;
}

void Conversation::AddAnswer(int64_t prompt_tokens, const Generated& generated) {
  Turn& turn = turns_.back();
  if (generated.prompt_fed < prompt_tokens) {
    if (!turn.answered) DropTurn();  // else it was another try: the old answer stays
    return;
  }
  turn.answered = true;
  turn.answer_ids = generated.tokens;
  turn.answer = AnswerText(turn.answer_ids);
}

std::string Conversation::Note(std::span<const int32_t> part) const {
  json turns = json::array();
  for (const Turn& turn : turns_) {
    std::vector<int32_t> ids = turn.answer_ids;
    if (&turn == &turns_.back() && !part.empty()) ids.assign(part.begin(), part.end());
    turns.push_back({{"user", turn.user}, {"answer", AnswerText(ids)}, {"answer_ids", ids}});
  }
  const json note = {{"chat", kNoteVersion}, {"system", system_}, {"turns", turns}};
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
  std::vector<Turn> restored;
  for (const json& item : *turns) {
    std::optional<std::string> text = item.is_object() ? Text(item, "user") : std::nullopt;
    if (!text) return NoNote("a turn has no text");
    std::optional<std::vector<int32_t>> answer = Ids(item, "answer_ids", vocab);
    if (!answer) return NoNote("a turn has no or wrong token ids");
    // An answer that was being written ends where it was saved.
    std::string shown = AnswerText(*answer);
    restored.push_back({*std::move(text), true, std::move(shown), *std::move(answer)});
  }
  SetSystem(*system);
  known_ = {};
  marks_.clear();
  turns_ = std::move(restored);
  return OkStatus();
}

}  // namespace hga::cli
