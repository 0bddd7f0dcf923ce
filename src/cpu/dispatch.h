// SPDX-License-Identifier: Apache-2.0
// The kernels of one instruction set as a table, and the choice of a table at run time.
#ifndef HGA_CPU_DISPATCH_H_
#define HGA_CPU_DISPATCH_H_

#include <cstdint>

#include "backend/ops.h"
#include "cpu/attend_kernels.h"
#include "cpu/scan_kernels.h"
#include "hwy/detect_targets.h"

namespace hga::cpu {

// Dense linear algebra and elementwise work.
struct LinearKernels {
  // y[row0..row0+rows) x outputs [n0, n1) of the job; n0 a multiple of 4 (of 128 or a divisor of it
  // for FP8). `scratch`: LinearScratchFloats(cols).
  void (*linear)(const LinearParams& p, int row0, int rows, int64_t n0, int64_t n1, float* scratch);
  void (*norm)(const NormParams& p, int row0, int row1);
  void (*rotate)(const RotateParams& p, int row0, int row1);
  void (*silu)(const SiluParams& p, int64_t begin, int64_t end);
  // y[0..n) += factor * x[0..n)
  void (*add_scaled)(const float* x, int64_t n, float factor, float* y);
  // Softmax of x[0..n) in place.
  void (*softmax)(float* x, int n);
};

// Floats of scratch for one task of `linear`: a de-quantised tile of outputs.
inline constexpr int64_t kLinearTileFloats = 32768;
inline int64_t LinearTileOutputs(int64_t cols) {
  const int64_t outputs = kLinearTileFloats / cols / 4 * 4;
  return outputs < 4 ? 4 : outputs > 64 ? 64 : outputs;
}
inline int64_t LinearScratchFloats(int64_t cols) { return LinearTileOutputs(cols) * cols; }

struct CpuKernels {
  int64_t target = 0;  // a HWY_* bit
  const char* name = nullptr;
  LinearKernels linear;
  ScanKernels scan;
  AttendKernels attend;
};

// Getters of the tables, defined by the macro below in each kernel file.
const LinearKernels& LinearKernelsFor(int64_t target);
const ScanKernels& ScanKernelsFor(int64_t target);
const AttendKernels& AttendKernelsFor(int64_t target);

}  // namespace hga::cpu

// Defines `const Type& Getter(int64_t target)` from `Table` in each target's namespace.
// On x86 the floor is SSSE3 (src/CMakeLists.txt compiles these files for it), else NEON.
#if HWY_ARCH_X86
#define HGA_BASE_NAMESPACE N_SSSE3
#else
#define HGA_BASE_NAMESPACE N_NEON
#endif
#if HWY_TARGETS & HWY_AVX3
#define HGA_CASE_AVX3(Table) \
  case HWY_AVX3:             \
    return ::hga::N_AVX3::Table;
#else
#define HGA_CASE_AVX3(Table)
#endif
#if HWY_TARGETS & HWY_AVX2
#define HGA_CASE_AVX2(Table) \
  case HWY_AVX2:             \
    return ::hga::N_AVX2::Table;
#else
#define HGA_CASE_AVX2(Table)
#endif
#define HGA_DEFINE_KERNEL_GETTER(Type, Getter, Table) \
  const Type& Getter(int64_t target) {                \
    switch (target) {                                 \
      HGA_CASE_AVX3(Table)                            \
      HGA_CASE_AVX2(Table)                            \
      default:                                        \
        return ::hga::HGA_BASE_NAMESPACE::Table;      \
    }                                                 \
  }

#endif  // HGA_CPU_DISPATCH_H_
