// SPDX-License-Identifier: Apache-2.0
// The CPU backend.
#ifndef HGA_CPU_CPU_BACKEND_H_
#define HGA_CPU_CPU_BACKEND_H_

#include <memory>

#include "backend/registry.h"

namespace hga {

// Instruction sets by name: "ssse3" (or "neon"), "avx2", "avx3" (AVX-512), "avx3_bf16" (with its
// dot products of bf16). kUnsupported when the machine lacks the one asked for.
Result<std::unique_ptr<Ops>> OpenCpu(const BackendOptions& options);

}  // namespace hga

#endif  // HGA_CPU_CPU_BACKEND_H_
