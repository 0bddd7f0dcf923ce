// SPDX-License-Identifier: Apache-2.0
// The scan over E4M3 key means with AVX-512's dot products of bf16 pairs.
#ifndef HGA_CPU_SCAN_BF16_H_
#define HGA_CPU_SCAN_BF16_H_

#include "cpu/scan_kernels.h"

namespace hga::cpu {

// Whether the machine has AVX-512 BF16 and VBMI.
bool HasBf16Dot();

// ScanKernels::scan; only where HasBf16Dot(). Queries and E4M3 are exact in bf16 and their products
// in float32; each accumulator adds its dimensions in an order that is the same in every tile.
void ScanBf16(const ScanArgs& args);

}  // namespace hga::cpu

#endif  // HGA_CPU_SCAN_BF16_H_
