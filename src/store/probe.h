// SPDX-License-Identifier: Apache-2.0
// What the disk under a directory gives: the figures that decide whether K/V can live there.
#ifndef HGA_STORE_PROBE_H_
#define HGA_STORE_PROBE_H_

#include <cstdint>
#include <string>

#include "store/io.h"

namespace hga {

// Transfers of one size with a fixed number in flight.
struct ProbeFigures {
  int queue_depth = 0;
  int64_t transfer_bytes = 0;
  int64_t transfers = 0;
  double seconds = 0;
  double bytes_per_second = 0;
  double transfers_per_second = 0;
  double median_us = 0;  // from submission to completion
  double p99_us = 0;
};

struct DiskProbe {
  std::string backend;  // its name
  FileSystemFacts file_system;
  bool direct = false;  // false: the figures are those of the page cache
  int64_t file_bytes = 0;
  ProbeFigures random_reads_1;   // 4 KiB, one at a time
  ProbeFigures random_reads_64;  // 4 KiB, 64 in flight or the back end's depth
  ProbeFigures reads;            // 1 MiB, one after the other
  ProbeFigures writes;           // 1 MiB, one after the other; into room made before
};

struct ProbeOptions {
  int64_t file_bytes = int64_t{256} << 20;  // a multiple of 1 MiB
  double seconds = 1;                       // for each figure
  uint64_t seed = 1;
};

// Measures on a temporary file in `directory`, which vanishes. Nothing may be in flight on the back
// end. Errors are those of the file operations, kIoError for a transfer that failed, and
// kInvalidArgument.
Result<DiskProbe> ProbeDisk(IoBackend* io, const std::string& directory,
                            const ProbeOptions& options);

}  // namespace hga

#endif  // HGA_STORE_PROBE_H_
