// SPDX-License-Identifier: Apache-2.0
// The total order of selection: score descending, then index ascending. Pure, host and device.
#ifndef HGA_SPEC_ORDER_H_
#define HGA_SPEC_ORDER_H_

#include <cstdint>
#include <cstring>

#include "spec/layout.h"

namespace hga::spec {

// An unsigned key that orders like the score: larger key, larger score. NaN counts as minus
// infinity, -0 as +0.
HGA_HD inline uint32_t ScoreKey(float score) {
  uint32_t bits;
  memcpy(&bits, &score, sizeof(bits));
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) bits = 0xFF800000u;
  if (bits == 0x80000000u) bits = 0;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Whether (score a, index i) comes before (score b, index j).
HGA_HD inline bool Before(float a, int64_t i, float b, int64_t j) {
  const uint32_t ka = ScoreKey(a), kb = ScoreKey(b);
  return ka != kb ? ka > kb : i < j;
}

}  // namespace hga::spec

#endif  // HGA_SPEC_ORDER_H_
