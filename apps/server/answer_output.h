// SPDX-License-Identifier: Apache-2.0
// Where the choices of a request go: into one JSON answer, or into a stream of events.
#ifndef HGA_APPS_SERVER_ANSWER_OUTPUT_H_
#define HGA_APPS_SERVER_ANSWER_OUTPUT_H_

#include <memory>
#include <string>
#include <vector>

#include "apps/server/answer_job.h"
#include "apps/server/api_error.h"
#include "apps/server/choice_text.h"
#include "apps/server/http.h"

namespace hga::server {

// Called by one thread at a time. False: nobody wants more.
class AnswerOutput {
 public:
  virtual ~AnswerOutput() = default;
  // The request was taken: `choice` begins.
  virtual bool Begin(int choice) = 0;
  virtual bool Progress(const PrefillProgress& progress) = 0;
  // Tokens of the prompt, its first included; before any piece.
  virtual void PromptTokens(int choice, std::vector<TokenText> tokens) = 0;
  virtual bool Piece(int choice, ChoicePiece piece) = 0;
  virtual bool EndChoice(int choice, const std::string& finish_reason) = 0;
  virtual void End(const AnswerUsage& usage) = 0;
  virtual void Fail(const ApiError& error) = 0;
};

std::unique_ptr<AnswerOutput> MakeWholeOutput(const AnswerJob& job,
                                              std::shared_ptr<ResponseWriter> writer);
// `ping_seconds`: a comment after so much silence; 0: never.
std::unique_ptr<AnswerOutput> MakeStreamOutput(const AnswerJob& job,
                                               std::shared_ptr<ResponseWriter> writer,
                                               double ping_seconds);

// Parts of both.
Json UsageJson(const AnswerUsage& usage);
Json TimingsJson(const AnswerUsage& usage);
// Where a token with `context` tokens before it looked.
Json LensJson(const GeneratedToken& token, int64_t context);
Json ChatLogprobs(const std::vector<TokenText>& tokens);
// `offset`: characters of text in front, which then grows by these tokens.
Json CompletionLogprobs(const std::vector<TokenText>& tokens, int64_t* offset);
Json ToolCallsJson(const std::vector<ToolDelta>& deltas, const std::string& answer_id, bool whole);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_ANSWER_OUTPUT_H_
