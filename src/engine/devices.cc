// SPDX-License-Identifier: Apache-2.0
// What this process can compute on.
#include <unistd.h>

#include <algorithm>

#include "base/memory.h"
#include "cpu/cpu_backend.h"
#include "hga/engine.h"

namespace hga {

Result<std::vector<DeviceInfo>> ListDevices() {
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<Ops> ops, OpenCpu(BackendOptions{}));
  DeviceInfo cpu;
  const std::string name = ops->name();  // "cpu AVX2"
  const size_t blank = name.find(' ');
  cpu.name = name.substr(0, blank);
  cpu.isa = blank == std::string::npos ? "" : name.substr(blank + 1);
  cpu.threads = ops->threads();
  cpu.memory_bytes = std::max<int64_t>(0, sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  cpu.available_bytes = AvailableMemory();
  return std::vector<DeviceInfo>{cpu};
}

}  // namespace hga
