// SPDX-License-Identifier: Apache-2.0
// What all routes share: settings, the model once it is loaded, the scheduler, metrics, the log.
#ifndef HGA_APPS_SERVER_SERVICE_H_
#define HGA_APPS_SERVER_SERVICE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "apps/server/auth.h"
#include "apps/server/limits.h"
#include "apps/server/metrics.h"
#include "apps/server/model.h"
#include "apps/server/server.h"
#include "hga/scheduler.h"

namespace hga::server {

enum class ServiceState { kLoading, kReady, kDraining };

struct Service {
  explicit Service(const ServerOptions& given)
      : options(given), keys(given.api_keys), metrics(Metrics::Make(given.metrics_name)) {}

  const ServerOptions options;
  const ApiKeys keys;
  const std::unique_ptr<Metrics> metrics;
  std::function<void(std::function<void()>)> post;  // to a worker's thread

  std::atomic<ServiceState> state{ServiceState::kLoading};
  // Set before kReady, not changed after it.
  std::unique_ptr<ServedModel> model;
  Scheduler* scheduler = nullptr;

  void Log(LogLevel level, const std::string& line) const {
    if (options.log) options.log(level, line);
  }
  // Says once per field that it is not known.
  void LogUnknown(const std::string& path, const std::vector<std::string>& fields);

 private:
  std::mutex mutex_;
  std::set<std::string> told_;
};

}  // namespace hga::server

#endif  // HGA_APPS_SERVER_SERVICE_H_
