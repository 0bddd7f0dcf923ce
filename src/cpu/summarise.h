// SPDX-License-Identifier: Apache-2.0
// Summaries of one closed chunk.
#ifndef HGA_CPU_SUMMARISE_H_
#define HGA_CPU_SUMMARISE_H_

#include "backend/ops.h"

namespace hga::cpu {

void Summarise(const SummariseParams& p);

}  // namespace hga::cpu

#endif  // HGA_CPU_SUMMARISE_H_
