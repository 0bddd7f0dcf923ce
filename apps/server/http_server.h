// SPDX-License-Identifier: Apache-2.0
// The network side: accepts connections, reads requests within limits, writes answers.
#ifndef HGA_APPS_SERVER_HTTP_SERVER_H_
#define HGA_APPS_SERVER_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "apps/server/http.h"
#include "apps/server/limits.h"
#include "hga/status.h"

namespace hga::server {

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address
  int port = 0;                    // 0: any free one
  int workers = 4;                 // threads for handlers
  Limits limits;
};

// One thread for the network, some for handlers. Thread-safe.
class HttpServer {
 public:
  // Listens when this returns. `handler` must outlive it.
  static Result<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                   HttpHandler* handler);
  virtual ~HttpServer() = default;  // Stop(0)
  virtual int port() const = 0;
  // Runs `work` on a worker's thread.
  virtual void Post(std::function<void()> work) = 0;
  // No more connections; answers under way have `seconds` to be written. Idempotent.
  virtual void Stop(double seconds) = 0;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_HTTP_SERVER_H_
