// SPDX-License-Identifier: Apache-2.0
// The store's probe of a disk as programs ask for it, without a model.
#include "attention/kv_space.h"
#include "hga/engine.h"
#include "store/probe.h"

namespace hga {

Result<DiskLimits> MeasureDisk(const std::string& directory, const std::string& io,
                               double seconds) {
  constexpr int kDepth = 64;
  HGA_ASSIGN_OR_RETURN(const std::unique_ptr<IoBackend> backend, OpenNamedIo(io, kDepth, nullptr));
  ProbeOptions options;
  options.seconds = seconds;
  HGA_ASSIGN_OR_RETURN(const DiskProbe probe, ProbeDisk(backend.get(), directory, options));
  DiskLimits limits;
  limits.io = probe.backend;
  limits.file_system = probe.file_system.name;
  limits.direct = probe.direct;
  limits.depth = probe.random_reads_64.queue_depth;
  limits.random_reads_per_second = probe.random_reads_64.transfers_per_second;
  limits.random_read_us = probe.random_reads_1.median_us;
  limits.read_bytes_per_second = probe.reads.bytes_per_second;
  limits.write_bytes_per_second = probe.writes.bytes_per_second;
  return limits;
}

}  // namespace hga
