// SPDX-License-Identifier: Apache-2.0
// Carries out one request for text: its choices one after another, each through the scheduler.
#ifndef HGA_APPS_SERVER_ANSWER_H_
#define HGA_APPS_SERVER_ANSWER_H_

#include <memory>

#include "apps/server/answer_job.h"
#include "apps/server/http.h"
#include "apps/server/service.h"

namespace hga::server {

// Answers through `writer`, now or later. Prompts are not empty and fit the context; when the
// client leaves, the rest is cancelled.
void StartAnswer(Service* service, AnswerJob job, std::shared_ptr<ResponseWriter> writer);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_ANSWER_H_
