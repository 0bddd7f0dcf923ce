// SPDX-License-Identifier: Apache-2.0
// How the server is: for load balancers, dashboards and people.
#include <fmt/core.h>

#include "apps/server/routes.h"

namespace hga::server {

void GetHealth(Service* service, RouteCall call) {
  switch (service->state) {
    case ServiceState::kReady:
      return RespondJson(call, {{"status", "ok"}});
    case ServiceState::kLoading:
      return Fail(call, {503, "the model is being loaded", "", "loading", 5});
    case ServiceState::kDraining:
      return Fail(call, {503, "the server is ending", "", "shutting_down", 5});
  }
}

void GetVersion(Service* service, RouteCall call) {
  RespondJson(call, {{"version", service->options.version}});
}

void GetMetrics(Service* service, RouteCall call) {
  HttpResponse response{200, "text/plain; version=0.0.4; charset=utf-8", ""};
  if (service->state == ServiceState::kReady) {
    const SchedulerStats stats = service->scheduler->stats();
    const SchedulerOptions& options = service->scheduler->options();
    response.body = service->metrics->Text(&stats, options.context * options.slots);
  } else {
    response.body = service->metrics->Text(nullptr, 0);
  }
  call.writer->Respond(std::move(response));
}

void GetProps(Service* service, RouteCall call) {
  const ServedModel& model = *service->model;
  const SamplingOptions& sampling = model.sampling;
  RespondJson(call, {{"default_generation_settings",
                      {{"n_ctx", model.context},
                       {"params",
                        {{"temperature", sampling.temperature},
                         {"top_k", sampling.top_k},
                         {"top_p", sampling.top_p},
                         {"min_p", sampling.min_p},
                         {"repetition_penalty", sampling.repetition_penalty}}}}},
                     {"total_slots", service->scheduler->options().slots},
                     {"model_path", model.names.front()},
                     {"chat_template",
                      model.chat_template ? Json(model.chat_template->source()) : Json(nullptr)},
                     {"attention", service->scheduler->options().attention.name},
                     {"build_info", service->options.version},
                     {"limits",
                      {{"body_bytes", kLimits.body_bytes},
                       {"messages", kLimits.messages},
                       {"n", kLimits.n},
                       {"stops", kLimits.stops},
                       {"top_logprobs", kLimits.top_logprobs},
                       {"logit_bias", kLimits.logit_bias},
                       {"json_depth", kLimits.json_depth}}}});
}

}  // namespace hga::server
