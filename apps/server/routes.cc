// SPDX-License-Identifier: Apache-2.0
// Routing and the checks that need no body: host, origin, key, state, size.
#include "apps/server/routes.h"

#include <fmt/core.h>

#include <algorithm>
#include <exception>

#include "apps/server/chat_request.h"
#include "apps/server/completion_request.h"
#include "apps/server/http_head.h"

namespace hga::server {
namespace {

constexpr std::string_view kVariable = "{id}";

void ChatFields(Fields& fields, const ServedModel& model) { ReadChatRequest(fields, model); }
void TemplateFields(Fields& fields, const ServedModel&) { ReadChatPrompt(fields); }
void CompletionFields(Fields& fields, const ServedModel& model) {
  ReadCompletionRequest(fields, model);
}

constexpr Route kRoutes[] = {
    // method, path, key, model
    {"GET", "/", false, false, GetPage, nullptr},
    {"GET", "/page.css", false, false, GetPage, nullptr},
    {"GET", "/page.js", false, false, GetPage, nullptr},
    {"GET", "/health", false, false, GetHealth, nullptr},
    {"GET", "/version", false, false, GetVersion, nullptr},
    {"GET", "/metrics", true, false, GetMetrics, nullptr},
    {"GET", "/props", true, true, GetProps, nullptr},
    {"GET", "/v1/models", true, true, GetModels, nullptr},
    {"GET", "/v1/models/{id}", true, true, GetModel, nullptr},
    {"POST", "/v1/chat/completions", true, true, PostChat, ChatFields},
    {"POST", "/v1/completions", true, true, PostCompletion, CompletionFields},
    {"POST", "/tokenize", true, true, PostTokenize, ReadTokenizeFields},
    {"POST", "/detokenize", true, true, PostDetokenize, ReadDetokenizeFields},
    {"POST", "/apply-template", true, true, PostApplyTemplate, TemplateFields},
    {"GET", "/slots", true, true, GetSlots, nullptr},
    {"POST", "/slots/{id}", true, true, PostSlot, ReadSlotFields},
};

bool Matches(std::string_view pattern, std::string_view path, std::string* id) {
  if (!pattern.ends_with(kVariable)) return pattern == path;
  pattern.remove_suffix(kVariable.size());
  if (!path.starts_with(pattern) || path.size() == pattern.size()) return false;
  return PercentDecode(path.substr(pattern.size()), id);
}

// Of an Origin, the part behind "http://".
bool IsSameOrigin(std::string_view origin, const HttpRequest& request) {
  const std::string* host = request.Find("host");
  const size_t scheme = origin.find("://");
  return host != nullptr && scheme != std::string_view::npos && origin.substr(scheme + 3) == *host;
}

}  // namespace

std::span<const Route> Routes() { return kRoutes; }

std::vector<RouteInfo> ListRoutes() {
  ServedModel model;
  model.names = {"model"};
  const Json nothing = Json::object();
  std::vector<RouteInfo> list;
  for (const Route& route : kRoutes) {
    RouteInfo info{route.method, route.path, route.needs_key, {}};
    if (route.read_fields != nullptr) {
      Fields fields(nothing);
      route.read_fields(fields, model);
      info.fields.assign(fields.known().begin(), fields.known().end());
    }
    list.push_back(std::move(info));
  }
  return list;
}

const Route* FindRoute(std::string_view method, std::string_view path, std::string* id, int* status,
                       std::string* allow) {
  *status = 404;
  // Where GET is, HEAD is.
  const std::string_view wanted = method == "HEAD" ? "GET" : method;
  for (const Route& route : kRoutes) {
    if (!Matches(route.path, path, id)) continue;
    if (route.method == wanted) return &route;
    *status = 405;
    if (!allow->empty()) *allow += ", ";
    *allow += route.method;
    if (route.method == std::string_view("GET")) *allow += ", HEAD";
  }
  return nullptr;
}

std::optional<ApiError> Router::CheckOrigin(HttpRequest& request) const {
  const std::string* host = request.Find("host");
  const bool guarded = IsLoopback(service_.options.host) || !service_.options.allowed_hosts.empty();
  if (guarded && host != nullptr && !IsAllowedHost(*host, service_.options.allowed_hosts)) {
    return ApiError{403, "this server does not answer as that host; --allowed-hosts adds names", "",
                    "wrong_host"};
  }
  const std::string* origin = request.Find("origin");
  if (origin == nullptr || IsSameOrigin(*origin, request)) return std::nullopt;
  const auto& allowed = service_.options.cors_origins;
  const bool any = std::ranges::find(allowed, "*") != allowed.end();
  if (!any && std::ranges::find(allowed, *origin) == allowed.end()) {
    return ApiError{403, "pages of other origins are not served; --cors-origins allows them", "",
                    "wrong_origin"};
  }
  request.reply_headers.push_back({"Access-Control-Allow-Origin", any ? "*" : *origin});
  request.reply_headers.push_back({"Vary", "Origin"});
  return std::nullopt;
}

std::optional<ApiError> Router::CheckState(const Route& route) const {
  if (!route.needs_model) return std::nullopt;
  switch (service_.state) {
    case ServiceState::kLoading:
      return ApiError{503, "the model is being loaded", "", "loading", 5};
    case ServiceState::kDraining:
      return ApiError{503, "the server is ending", "", "shutting_down", 5};
    case ServiceState::kReady:
      return std::nullopt;
  }
  return std::nullopt;
}

std::optional<HttpResponse> Router::CheckHead(HttpRequest& request, const BodyHead& body) {
  if (const auto error = CheckOrigin(request)) return ErrorResponse(*error);
  std::string id, allow;
  int status = 0;
  const Route* route = FindRoute(request.method, request.path, &id, &status, &allow);
  if (request.method == "OPTIONS" && status == 405) {
    HttpResponse answer;
    answer.status = 204;
    answer.headers = {{"Allow", allow + ", OPTIONS"}};
    if (!request.reply_headers.empty()) {
      answer.headers.push_back({"Access-Control-Allow-Methods", allow + ", OPTIONS"});
      answer.headers.push_back(
          {"Access-Control-Allow-Headers", "Authorization, X-Api-Key, Content-Type, *"});
      answer.headers.push_back({"Access-Control-Max-Age", "600"});
    }
    return answer;
  }
  if (route == nullptr) {
    HttpResponse answer = ErrorResponse(
        {status, status == 404 ? "there is no such path" : "this path has other methods", "",
         status == 404 ? "not_found" : "method_not_allowed"});
    if (status == 405) answer.headers.push_back({"Allow", allow + ", OPTIONS"});
    return answer;
  }
  if (route->needs_key) {
    const auto owner = service_.keys.Check(request);
    if (!owner)
      return ErrorResponse({401, "the API key is missing or wrong", "", "invalid_api_key"});
    request.owner = *owner;
  }
  if (const auto error = CheckState(*route)) return ErrorResponse(*error);
  const std::string* coding = request.Find("content-encoding");
  if (coding != nullptr && *coding != "identity") {
    return ErrorResponse({415, "compressed bodies are not taken", "", "unsupported_encoding"});
  }
  if (route->read_fields == nullptr && (body.chunked || body.length > 0)) {
    return ErrorResponse({413, "this path takes no body", "", "body_too_large"});
  }
  if (body.length > kLimits.body_bytes) {
    return ErrorResponse({413,
                          fmt::format("the body has {} bytes, at most {} are taken", body.length,
                                      kLimits.body_bytes),
                          "", "body_too_large"});
  }
  return std::nullopt;
}

void Router::Handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
  RouteCall call{std::move(request), "", writer};
  std::string allow;
  int status = 0;
  const Route* route = FindRoute(call.request.method, call.request.path, &call.id, &status, &allow);
  try {
    if (route != nullptr) return route->handle(&service_, std::move(call));
    writer->Respond(ErrorResponse({status, "there is no such path"}));
  } catch (const std::exception& error) {  // lack of memory, most likely
    service_.Log(LogLevel::kError, fmt::format("a handler failed: {}", error.what()));
    writer->Respond(ErrorResponse({500, "the server failed", "", "internal_error"}));
  }
}

HttpResponse Router::Malformed(int status, const std::string& message) {
  return ErrorResponse({status, message, "", "bad_request"});
}

void Router::Log(const HttpRequest& request, int status, double seconds, const std::string& note) {
  service_.metrics->CountResponse(status);
  const auto level =
      request.path == "/health" || request.path == "/metrics" ? LogLevel::kDetail : LogLevel::kInfo;
  const std::string path = Quoted(request.path);
  service_.Log(level,
               fmt::format("{} {} {} {} {:.0f} ms{}", request.peer, request.method.substr(0, 16),
                           path.substr(1, path.size() - 2), status, seconds * 1e3, note));
}

bool ReadBody(const RouteCall& call, Json* body) {
  auto parsed = ParseJson(call.request.body, kLimits);
  if (!parsed.ok()) {
    Fail(call, {400, parsed.status().message(), "", "invalid_json"});
    return false;
  }
  if (!parsed->is_object()) {
    Fail(call, {400, "the body is no JSON object", "", "invalid_json"});
    return false;
  }
  *body = std::move(*parsed);
  return true;
}

bool CheckFields(Service* service, const RouteCall& call, const Fields& fields) {
  if (!fields.ok()) {
    Fail(call, fields.error());
    return false;
  }
  service->LogUnknown(call.request.path, fields.Unknown());
  return true;
}

void Fail(const RouteCall& call, const ApiError& error) {
  call.writer->Respond(ErrorResponse(error));
}

void RespondJson(const RouteCall& call, const Json& body) {
  call.writer->Respond({200, "application/json", Dump(body)});
}

}  // namespace hga::server
