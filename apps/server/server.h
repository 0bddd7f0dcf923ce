// SPDX-License-Identifier: Apache-2.0
// The OpenAI-compatible server as a whole: what `hga serve` starts, fills and ends.
#ifndef HGA_APPS_SERVER_SERVER_H_
#define HGA_APPS_SERVER_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hga/scheduler.h"
#include "hga/status.h"

namespace hga::server {

struct ServedModel;

enum class LogLevel { kDetail, kInfo, kWarn, kError };

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: any free one
  std::vector<std::string> api_keys;
  bool allow_insecure_bind = false;        // an address others reach, without a key
  std::vector<std::string> allowed_hosts;  // further values of Host; "*": any
  std::vector<std::string> cors_origins;   // "*": any
  double ping_seconds = 30;                // of silence in a stream; 0: none
  double request_seconds = 0;              // all answers of a request, waiting included; 0: any
  int workers = 4;
  std::string version;                                    // for /version
  std::string metrics_name;                               // value of the label model_name
  std::function<void(LogLevel, const std::string&)> log;  // thread-safe; may be empty
};

// One row of the table of routes, as documents are compared with it.
struct RouteInfo {
  std::string method;
  std::string path;  // with {id} for one variable part
  bool needs_key = true;
  std::vector<std::string> fields;  // of the body, sorted
};
std::vector<RouteInfo> ListRoutes();

class Server {
 public:
  // Listens when this returns; all but /health, /version and /metrics answer 503 until Ready.
  // kInvalidArgument for an address others reach without a key.
  static Result<std::unique_ptr<Server>> Start(const ServerOptions& options);
  virtual ~Server() = default;
  virtual int port() const = 0;
  virtual std::string url() const = 0;  // "http://127.0.0.1:8080"
  // Routes work from now on. `scheduler` must live until Stop has returned.
  virtual void Ready(std::unique_ptr<ServedModel> model, Scheduler* scheduler) = 0;
  // New requests get 503; what runs goes on.
  virtual void Refuse() = 0;
  // Ends all connections; answers that are ready have `seconds` to be written.
  virtual void Stop(double seconds) = 0;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_SERVER_H_
