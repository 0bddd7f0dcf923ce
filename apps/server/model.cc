// SPDX-License-Identifier: Apache-2.0
// Reads what a checkpoint says about text, and guards the tokenizer against prompts that cannot
// fit.
#include "apps/server/model.h"

#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <filesystem>

namespace hga::server {
namespace {

int64_t LongestToken(const Tokenizer& tokenizer) {
  size_t longest = 1;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto bytes = tokenizer.Decode({&id, 1}, true);
    if (bytes.ok()) longest = std::max(longest, bytes->size());
  }
  return static_cast<int64_t>(longest);
}

// Checkpoints do not always name the end of a turn among their end-of-text tokens.
std::vector<int32_t> TurnEnd(const Tokenizer& tokenizer, const ChatTemplate& chat) {
  std::vector<int32_t> ids;
  for (const char* mark : {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>"}) {
    const auto id = tokenizer.TokenId(mark);
    if (id && chat.source().find(mark) != std::string::npos) ids.push_back(*id);
  }
  return ids;
}

}  // namespace

Result<std::unique_ptr<ServedModel>> LoadServedModel(const std::string& directory,
                                                     const std::string& given_name,
                                                     std::vector<std::string> names) {
  auto model = std::make_unique<ServedModel>();
  HGA_ASSIGN_OR_RETURN(model->info, ReadModelInfo(directory));
  HGA_ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::Load(directory));
  HGA_ASSIGN_OR_RETURN(model->sampling, ReadSamplingDefaults(directory));
  HGA_ASSIGN_OR_RETURN(model->vocabulary, Grammar::MakeVocabulary(*model->tokenizer));
  auto chat = ChatTemplate::Load(directory);
  if (chat.ok()) {
    model->turn_end = TurnEnd(*model->tokenizer, **chat);
    model->chat_template = std::move(chat).value();
  } else {
    model->no_template = chat.status().message();
  }
  if (names.empty()) {
    // ORG/NAME as it was asked for; of a directory the last part.
    const bool is_directory = std::filesystem::exists(given_name);
    const auto path = std::filesystem::path(given_name).lexically_normal();
    const auto last = path.has_filename() ? path.filename() : path.parent_path().filename();
    names.push_back(is_directory ? last.string() : given_name);
  }
  model->names = std::move(names);
  model->created = static_cast<int64_t>(std::time(nullptr));
  model->longest_token = LongestToken(*model->tokenizer);
  return model;
}

bool CouldFit(const ServedModel& model, size_t bytes) {
  return static_cast<int64_t>(bytes) / model.longest_token <= model.context;
}

ApiError TooLong(int64_t tokens, bool at_least, int64_t context) {
  return {400,
          fmt::format("the prompt has {}{} tokens, but the context holds {} with at least one for "
                      "the answer; nothing was cut off",
                      at_least ? "at least " : "", tokens, context),
          "", "context_length_exceeded"};
}

Result<std::vector<int32_t>> EncodePrompt(const ServedModel& model, const std::string& text,
                                          bool special, bool prefix) {
  std::vector<int32_t> ids;
  if (prefix) {
    const auto front = model.tokenizer->prefix_ids();
    ids.assign(front.begin(), front.end());
  }
  HGA_ASSIGN_OR_RETURN(const auto rest, model.tokenizer->Encode(text, special));
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

}  // namespace hga::server
