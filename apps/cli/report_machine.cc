// SPDX-License-Identifier: Apache-2.0
// What --version and --list-devices say, and how much memory was used.
#include "report_machine.h"

#include <fmt/core.h>
#include <sys/resource.h>

#include <fstream>

#include "commit.h"
#include "common.h"
#include "hga/engine.h"
#include "hga/version.h"

namespace hga::cli {

std::string CommitText() { return HGA_COMMIT; }

std::string VersionText() {
  std::string text = "hga " HGA_VERSION;
  if (!CommitText().empty()) text += " (" + CommitText() + ")";
  if (const auto devices = ListDevices(); devices.ok()) {
    for (const DeviceInfo& device : *devices) text += ", " + device.name + " " + device.isa;
  }
  return text;
}

std::string DeviceText() {
  const auto devices = ListDevices();
  if (!devices.ok()) return devices.status().message() + "\n";
  std::string text;
  for (const DeviceInfo& device : *devices) {
    const std::string processor = device.name == "cpu" ? ProcessorName() : "";
    text += fmt::format("{}: {}{}{}, {} threads, {} of {} memory available\n", device.name,
                        processor, processor.empty() ? "" : ", ", device.isa, device.threads,
                        FormatBytes(static_cast<double>(device.available_bytes)),
                        FormatBytes(static_cast<double>(device.memory_bytes)));
  }
  return text;
}

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "";
}

int64_t PeakMemoryBytes() {
  struct rusage usage = {};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss * int64_t{1024} : 0;
}

}  // namespace hga::cli
