// SPDX-License-Identifier: Apache-2.0
// Nothing is cut to make it fit: a request that is too long is refused with both numbers.
#include "apps/server/submit.h"

#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <utility>

#include "apps/server/answer.h"

namespace hga::server {
namespace {

std::optional<ApiError> CheckLengths(const AnswerJob& job, int64_t context) {
  if (job.choices() > kLimits.answers) {
    return ApiError{
        400,
        fmt::format("n: {} answers in all, at most {} are given", job.choices(), kLimits.answers),
        "n"};
  }
  for (const auto& prompt : job.prompts) {
    const auto tokens = static_cast<int64_t>(prompt.size());
    if (tokens == 0)
      return ApiError{400, "the prompt has no tokens", job.chat ? "messages" : "prompt"};
    if (tokens >= context) return TooLong(tokens, false, context);
    const int64_t most = job.common.max_tokens.value_or(1);
    if (most > context - tokens) {
      return ApiError{400,
                      fmt::format("the prompt has {} tokens and max_tokens is {}: together {}, but "
                                  "the context holds {}",
                                  tokens, most, tokens + most, context),
                      "max_tokens", "context_length_exceeded"};
    }
  }
  return std::nullopt;
}

}  // namespace

bool CheckQueue(Service* service, const RouteCall& call) {
  const SchedulerStats stats = service->scheduler->stats();
  const SchedulerOptions& options = service->scheduler->options();
  // Those that find a free slot do not wait.
  if (stats.waiting < options.max_waiting + std::max(0, options.slots - stats.running)) return true;
  Fail(call, {429, fmt::format("{} requests wait already", stats.waiting), "", "queue_full", 1});
  return false;
}

bool CheckBytes(const ServedModel& model, const RouteCall& call, size_t bytes) {
  if (CouldFit(model, bytes)) return true;
  Fail(call, TooLong(static_cast<int64_t>(bytes) / model.longest_token, true, model.context));
  return false;
}

void Submit(Service* service, const RouteCall& call, AnswerJob job) {
  job.owner = call.request.owner;
  job.created = static_cast<int64_t>(std::time(nullptr));
  if (const auto error = CheckLengths(job, service->model->context)) return Fail(call, *error);
  StartAnswer(service, std::move(job), call.writer);
}

std::string NewId(const std::string& prefix) {
  std::random_device device;
  return fmt::format("{}{:08x}{:08x}{:08x}", prefix, device(), device(), device());
}

}  // namespace hga::server
