// SPDX-License-Identifier: Apache-2.0
// The one table of what the server answers, and the gate in front of it. What is not in the table
// does not exist.
#ifndef HGA_APPS_SERVER_ROUTES_H_
#define HGA_APPS_SERVER_ROUTES_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "apps/server/fields.h"
#include "apps/server/http.h"
#include "apps/server/service.h"

namespace hga::server {

struct RouteCall {
  HttpRequest request;
  std::string id;  // the variable part of the path, decoded
  std::shared_ptr<ResponseWriter> writer;
};

struct Route {
  const char* method;
  const char* path;  // "{id}" stands for what is left of the path
  bool needs_key;
  bool needs_model;  // 503 until it is loaded, and once the server ends
  void (*handle)(Service* service, RouteCall call);
  void (*read_fields)(Fields& fields, const ServedModel& model);  // of the body; may be null
};

std::span<const Route> Routes();

// Finds the route; nullptr with the status (404, 405) and for 405 the methods there are.
const Route* FindRoute(std::string_view method, std::string_view path, std::string* id, int* status,
                       std::string* allow);

class Router : public HttpHandler {
 public:
  explicit Router(Service* service) : service_(*service) {}
  std::optional<HttpResponse> CheckHead(HttpRequest& request, const BodyHead& body) override;
  void Handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override;
  HttpResponse Malformed(int status, const std::string& message) override;
  void Log(const HttpRequest& request, int status, double seconds,
           const std::string& note) override;

 private:
  std::optional<ApiError> CheckOrigin(HttpRequest& request) const;
  std::optional<ApiError> CheckState(const Route& route) const;

  Service& service_;
};

// For handlers. The body as a JSON object; false once an error was sent.
bool ReadBody(const RouteCall& call, Json* body);
// False once an error was sent; tells of fields nobody knows.
bool CheckFields(Service* service, const RouteCall& call, const Fields& fields);
void Fail(const RouteCall& call, const ApiError& error);
void RespondJson(const RouteCall& call, const Json& body);

// Handlers, each in the file its name says.
void GetHealth(Service* service, RouteCall call);  // health_routes.cc
void GetVersion(Service* service, RouteCall call);
void GetMetrics(Service* service, RouteCall call);
void GetProps(Service* service, RouteCall call);
void GetPage(Service* service, RouteCall call);    // page_routes.cc
void GetModels(Service* service, RouteCall call);  // models_routes.cc
void GetModel(Service* service, RouteCall call);
void PostChat(Service* service, RouteCall call);  // chat_routes.cc
void PostApplyTemplate(Service* service, RouteCall call);
void PostCompletion(Service* service, RouteCall call);  // completion_routes.cc
void PostTokenize(Service* service, RouteCall call);    // tokens_routes.cc
void PostDetokenize(Service* service, RouteCall call);
void GetSlots(Service* service, RouteCall call);  // slots_routes.cc
void PostSlot(Service* service, RouteCall call);
void ReadSlotFields(Fields& fields, const ServedModel& model);
void ReadTokenizeFields(Fields& fields, const ServedModel& model);
void ReadDetokenizeFields(Fields& fields, const ServedModel& model);

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_ROUTES_H_
