// SPDX-License-Identifier: Apache-2.0
// Keeping tokens of a conversation and K/V of a sequence in step.
#include "chat_conversation.h"

#include <algorithm>

namespace hga::cli {
namespace {

void Append(const std::vector<int32_t>& from, std::vector<int32_t>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

}  // namespace

Status Conversation::SetSystem(std::string_view text) {
  system_.clear();
  if (text.empty()) return OkStatus();
  HGA_ASSIGN_OR_RETURN(system_, chat_.Message("system", text));
  return OkStatus();
}

Status Conversation::AddUser(std::string_view text) {
  Turn turn;
  HGA_ASSIGN_OR_RETURN(turn.user, chat_.Message("user", text));
  HGA_ASSIGN_OR_RETURN(const auto start, chat_.AnswerStart());
  Append(start, &turn.user);
  turns_.push_back(std::move(turn));
  return OkStatus();
}

void Conversation::DropTurn() { turns_.pop_back(); }

Result<std::vector<int32_t>> Conversation::Tokens() const {
  std::vector<int32_t> tokens = system_;
  for (size_t i = 0; i < turns_.size(); ++i) {
    Append(turns_[i].user, &tokens);
    if (i + 1 < turns_.size()) Append(turns_[i].answer, &tokens);
  }
  return tokens;
}

Result<std::vector<int32_t>> Conversation::Align(Sequence* sequence, std::vector<int32_t>* kept) {
  HGA_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, Tokens());
  size_t common = 0;
  const size_t most = std::min(fed_.size(), tokens.size() - 1);  // the last token gives the logits
  while (common < most && fed_[common] == tokens[common]) ++common;
  HGA_RETURN_IF_ERROR(sequence->Truncate(static_cast<int64_t>(common)));
  fed_.resize(common);
  *kept = fed_;
  return std::vector<int32_t>(tokens.begin() + static_cast<std::ptrdiff_t>(common), tokens.end());
}

Status Conversation::AddAnswer(const std::vector<int32_t>& prompt, const Generated& generated,
                               int64_t sequence_length) {
  Append(prompt, &fed_);
  Append(generated.tokens, &fed_);
  fed_.resize(std::min(fed_.size(), static_cast<size_t>(sequence_length)));
  if (generated.prompt_fed < static_cast<int64_t>(prompt.size())) {
    if (turns_.back().answer.empty()) DropTurn();  // else it was another try: the old answer stays
    return OkStatus();
  }
  Turn& turn = turns_.back();
  turn.answer = generated.tokens;
  HGA_ASSIGN_OR_RETURN(const auto end, chat_.AnswerEnd());
  Append(end, &turn.answer);
  return OkStatus();
}

}  // namespace hga::cli
