// SPDX-License-Identifier: Apache-2.0
// What requests are checked against: the checkpoint, its tokenizer, template and defaults.
#ifndef HGA_APPS_SERVER_MODEL_H_
#define HGA_APPS_SERVER_MODEL_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/server/api_error.h"
#include "hga/chat_template.h"
#include "hga/constraint.h"
#include "hga/engine.h"
#include "hga/sampler.h"
#include "hga/status.h"
#include "hga/tokenizer.h"

namespace hga::server {

struct ServedModel {
  ModelInfo info;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // null: only /v1/completions
  std::string no_template;                      // why
  std::shared_ptr<const Grammar::Vocabulary> vocabulary;
  SamplingOptions sampling;        // the checkpoint's defaults
  int64_t context = 0;             // most tokens of prompt and answer
  std::vector<std::string> names;  // it is served as; the first one is shown
  bool any_name = false;           // a request may call it anything
  int64_t created = 0;             // unix seconds
  int64_t longest_token = 1;       // bytes
  std::vector<int32_t> turn_end;   // tokens with which the template ends a message

  bool HasName(const std::string& name) const {
    return any_name || std::ranges::find(names, name) != names.end();
  }
};

// Everything but the weights. `names` may be empty: then the directory's own.
Result<std::unique_ptr<ServedModel>> LoadServedModel(const std::string& directory,
                                                     const std::string& given_name,
                                                     std::vector<std::string> names);

// Whether text of so many bytes could be a prompt at all, before it is made into tokens.
bool CouldFit(const ServedModel& model, size_t bytes);
ApiError TooLong(int64_t tokens, bool at_least, int64_t context);
// Refuses text that could not fit, then encodes.
Result<std::vector<int32_t>> EncodePrompt(const ServedModel& model, const std::string& text,
                                          bool special, bool prefix);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_MODEL_H_
