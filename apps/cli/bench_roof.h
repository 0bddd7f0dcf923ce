// SPDX-License-Identifier: Apache-2.0
// What the machine can do at most, measured: the figures that kernels are judged against.
#ifndef HGA_APPS_CLI_BENCH_ROOF_H_
#define HGA_APPS_CLI_BENCH_ROOF_H_

#include <string>

#include "hga/status.h"

namespace hga::cli {

struct Roof {
  double memory_gb_s = 0;      // reads of memory beyond the caches, all threads; 1e9 bytes
  double matrix_gflop_s = 0;   // float32 matrix product (OpenBLAS sgemm), all threads
  std::string matrix_kernels;  // what OpenBLAS ran on, e.g. "Haswell"
};

// Takes about two seconds. `isa` as --isa: OpenBLAS is held to the same instruction set. OpenBLAS
// fixes its kernels when it is loaded, and not always the best ones of the machine: so the
// measurement runs in a process of its own with OPENBLAS_CORETYPE set, unless it is so already.
// threads >= 1.
Result<Roof> MeasureRoof(const std::string& isa, int threads);

// The measurement itself, with OpenBLAS as it was loaded.
Roof MeasureRoofHere(int threads);

}  // namespace hga::cli

#endif  // HGA_APPS_CLI_BENCH_ROOF_H_
