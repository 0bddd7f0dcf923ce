// SPDX-License-Identifier: Apache-2.0
// Probabilities of a token are given away with the text it belongs to, and never for a stop string.
#include "apps/server/choice_text.h"

#include <utility>

namespace hga::server {
namespace {

std::string BytesOf(const Tokenizer& tokenizer, int32_t id, bool special) {
  const auto bytes = tokenizer.Decode({&id, 1}, special);
  return bytes.ok() ? *bytes : "";
}

}  // namespace

TokenText Describe(const Tokenizer& tokenizer, const GeneratedToken& token) {
  TokenText text;
  text.bytes = BytesOf(tokenizer, token.id, true);
  text.logprob = token.logprob;
  for (const TokenLogprob& other : token.top) {
    text.top.push_back({BytesOf(tokenizer, other.id, true), other.logprob});
  }
  return text;
}

ChoiceText::ChoiceText(const Tokenizer& tokenizer, std::vector<std::string> stops, bool logprobs,
                       ToolCalls tool_calls)
    : tokenizer_(tokenizer),
      filter_(std::move(stops)),
      logprobs_(logprobs),
      undecided_(tool_calls == ToolCalls::kOnlyCalls) {
  if (tool_calls != ToolCalls::kNone) tools_ = std::make_unique<ToolCallParser>();
}

ChoicePiece ChoiceText::Push(const GeneratedToken& token) {
  ChoicePiece piece;
  if (logprobs_) held_.push_back(Describe(tokenizer_, token));
  Release(filter_.Push(characters_.Push(BytesOf(tokenizer_, token.id, false))), &piece);
  return piece;
}

ChoicePiece ChoiceText::Finish() {
  ChoicePiece piece;
  std::string rest = filter_.Push(characters_.Finish());
  rest += filter_.Finish();
  Release(rest, &piece);
  if (tools_ != nullptr) AddEvents(tools_->Finish(), &piece);
  if (!filter_.stopped()) {
    for (TokenText& token : held_) piece.tokens.push_back(std::move(token));
  }
  held_.clear();
  return piece;
}

void ChoiceText::Release(const std::string& shown, ChoicePiece* piece) {
  owed_ += shown.size();
  while (!held_.empty() && owed_ >= held_.front().bytes.size() &&
         (owed_ > 0 || held_.front().bytes.empty())) {
    owed_ -= held_.front().bytes.size();
    piece->tokens.push_back(std::move(held_.front()));
    held_.pop_front();
  }
  if (undecided_) DecideCallsOrJson(shown);
  if (tools_ == nullptr) {
    piece->text += shown;
    return;
  }
  AddEvents(tools_->Push(shown), piece);
}

void ChoiceText::DecideCallsOrJson(const std::string& shown) {
  const size_t first = shown.find_first_not_of(" \t\r\n");
  if (first == shown.npos) return;
  undecided_ = false;
  if (shown[first] != '<') tools_.reset();
}

void ChoiceText::AddEvents(std::vector<ToolCallEvent> events, ChoicePiece* piece) {
  for (ToolCallEvent& event : events) {
    switch (event.kind) {
      case ToolCallEvent::kText:
        piece->text += event.text;
        break;
      case ToolCallEvent::kCallStart:
        piece->tools.push_back({event.index, true, std::move(event.text), ""});
        break;
      case ToolCallEvent::kArguments:
        if (piece->tools.empty() || piece->tools.back().index != event.index) {
          piece->tools.push_back({event.index, false, "", ""});
        }
        piece->tools.back().arguments += event.text;
        break;
      case ToolCallEvent::kCallEnd:
        ++calls_;
        break;
    }
  }
}

}  // namespace hga::server
