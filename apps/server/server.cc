// SPDX-License-Identifier: Apache-2.0
// Puts network, router and service together.
#include "apps/server/server.h"

#include <fmt/core.h>

#include "apps/server/http_server.h"
#include "apps/server/routes.h"
#include "apps/server/service.h"

namespace hga::server {
namespace {

class HgaServer : public Server {
 public:
  explicit HgaServer(const ServerOptions& options) : service_(options), router_(&service_) {}
  ~HgaServer() override { Stop(0); }

  Status Listen() {
    HttpOptions http;
    http.host = service_.options.host == "localhost" ? "127.0.0.1" : service_.options.host;
    http.port = service_.options.port;
    http.workers = service_.options.workers;
    HGA_ASSIGN_OR_RETURN(http_, HttpServer::Start(http, &router_));
    service_.post = [this](std::function<void()> work) { http_->Post(std::move(work)); };
    return OkStatus();
  }

  int port() const override { return http_->port(); }
  std::string url() const override {
    const std::string& host = service_.options.host;
    const bool v6 = host.find(':') != std::string::npos;
    return fmt::format("http://{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port());
  }

  void Ready(std::unique_ptr<ServedModel> model, Scheduler* scheduler) override {
    service_.model = std::move(model);
    service_.scheduler = scheduler;
    service_.state = ServiceState::kReady;
  }
  void Refuse() override { service_.state = ServiceState::kDraining; }
  void Stop(double seconds) override {
    Refuse();
    if (http_) http_->Stop(seconds);
  }

 private:
  Service service_;
  Router router_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace

void Service::LogUnknown(const std::string& path, const std::vector<std::string>& fields) {
  constexpr size_t kMost = 256;  // names remembered: a client must not fill memory with them
  for (const std::string& field : fields) {
    {
      const std::lock_guard lock(mutex_);
      if (told_.size() >= kMost || field.size() > kMost) continue;
      if (!told_.insert(path + " " + field).second) continue;
    }
    Log(LogLevel::kWarn,
        fmt::format("{}: the field {} is not known and has no effect", path, Quoted(field)));
  }
}

Result<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  if (!IsLoopback(options.host) && options.api_keys.empty() && !options.allow_insecure_bind) {
    return InvalidArgument(
        fmt::format("--host {} can be reached from other machines and there is no --api-key; "
                    "--allow-insecure-bind starts all the same",
                    options.host));
  }
  auto server = std::make_unique<HgaServer>(options);
  HGA_RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace hga::server
