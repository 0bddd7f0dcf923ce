// SPDX-License-Identifier: Apache-2.0
// The last checks between a parsed request and the scheduler.
#ifndef HGA_APPS_SERVER_SUBMIT_H_
#define HGA_APPS_SERVER_SUBMIT_H_

#include <cstddef>
#include <string>

#include "apps/server/answer_job.h"
#include "apps/server/routes.h"

namespace hga::server {

// Each false once an error was sent.
// Room in the queue, looked at before the work of parsing.
bool CheckQueue(Service* service, const RouteCall& call);
// Whether text of that size could be a prompt.
bool CheckBytes(const ServedModel& model, const RouteCall& call, size_t bytes);

// Lengths against the context, then the scheduler.
void Submit(Service* service, const RouteCall& call, AnswerJob job);

// `prefix` and 24 random digits.
std::string NewId(const std::string& prefix);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_SUBMIT_H_
