// SPDX-License-Identifier: Apache-2.0
// Facts of the program and the machine it runs on.
#ifndef HGA_APPS_CLI_REPORT_MACHINE_H_
#define HGA_APPS_CLI_REPORT_MACHINE_H_

#include <cstdint>
#include <string>

namespace hga::cli {

std::string VersionText();    // "hga 0.1.0 (commit), AVX2"
std::string CommitText();     // "" outside a git checkout
std::string DeviceText();     // one line per device, for --list-devices
std::string ProcessorName();  // "" where the system does not say
int64_t PeakMemoryBytes();    // most resident memory of this process so far

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_REPORT_MACHINE_H_
