// SPDX-License-Identifier: Apache-2.0
// Opens a backend by name; the only place that knows which ones were built.
#ifndef HGA_BACKEND_REGISTRY_H_
#define HGA_BACKEND_REGISTRY_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "hga/status.h"

namespace hga {

struct BackendOptions {
  int threads = 0;  // 0: one per core the process may use
  std::string isa;  // "" or "auto": the machine's best; "ssse3", "avx2", "avx3"...: at most that
  // Most bytes of a GPU's memory this backend may hold, its scratch included; 0: what is free when
  // it opens, less a reserve for the driver.
  int64_t device_memory = 0;
};

using BackendFactory = std::function<Result<std::unique_ptr<Ops>>(const BackendOptions&)>;

// Backends register by name; the engine adds "cpu" (src/cpu/cpu_backend.h).
class BackendRegistry {
 public:
  void Add(std::string name, BackendFactory factory);
  // kNotFound lists the names.
  Result<std::unique_ptr<Ops>> Open(const std::string& name, const BackendOptions& options) const;

 private:
  std::vector<std::pair<std::string, BackendFactory>> factories_;
};

}  // namespace hga

#endif  // HGA_BACKEND_REGISTRY_H_
