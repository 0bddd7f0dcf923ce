// SPDX-License-Identifier: Apache-2.0
// The list of backends of one process.
#include "backend/registry.h"

namespace hga {

void BackendRegistry::Add(std::string name, BackendFactory factory) {
  factories_.emplace_back(std::move(name), std::move(factory));
}

Result<std::unique_ptr<Ops>> BackendRegistry::Open(const std::string& name,
                                                   const BackendOptions& options) const {
  std::string known;
  for (const auto& [key, factory] : factories_) {
    if (key == name) return factory(options);
    known += (known.empty() ? "" : ", ") + key;
  }
  return NotFound("no backend '" + name + "'; known: " + known);
}

}  // namespace hga
