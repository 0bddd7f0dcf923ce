// SPDX-License-Identifier: Apache-2.0
// What is served, under every name it has.
#include <fmt/core.h>

#include "apps/server/routes.h"

namespace hga::server {
namespace {

Json ModelJson(const ServedModel& model, const std::string& name) {
  return {{"id", name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "hga"},
          {"root", model.names.front()},
          {"parent", nullptr},
          {"max_model_len", model.context},
          {"meta",
           {{"family", model.info.family},
            {"weight_format", model.info.weight_format},
            {"n_vocab", model.info.vocab},
            {"n_ctx_train", model.info.max_position},
            {"n_embd", model.info.hidden},
            {"n_layer", model.info.layers},
            {"n_params", model.info.parameters},
            {"size", model.info.weight_bytes}}}};
}

}  // namespace

void GetModels(Service* service, RouteCall call) {
  Json list = Json::array();
  for (const std::string& name : service->model->names) {
    list.push_back(ModelJson(*service->model, name));
  }
  RespondJson(call, {{"object", "list"}, {"data", std::move(list)}});
}

void GetModel(Service* service, RouteCall call) {
  if (!service->model->HasName(call.id)) {
    return Fail(call, {404, fmt::format("the model {} is not served here", Quoted(call.id)),
                       "model", "model_not_found"});
  }
  RespondJson(call, ModelJson(*service->model, call.id));
}

}  // namespace hga::server
