// SPDX-License-Identifier: Apache-2.0
// K/V that describes itself: every 8 bytes name the sequence, layer, KV head, cell and word they
// belong to and the token they were computed from, so that a wrong word tells whose it is.
#ifndef HGA_TESTS_FAULT_KV_WORDS_H_
#define HGA_TESTS_FAULT_KV_WORDS_H_

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "spec/layout.h"
#include "store/record.h"

namespace hga::rigs {

// One layer that is resident, one routed, one sampled (rig_engine.h).
inline constexpr HistoryShape kRigShape = {.layers = 3, .kv_heads = 2, .head_dim = 64};

// Ids of tokens are the age of their K/V: whoever feeds something new takes a new one.
inline constexpr int32_t kMostAge = (1 << 22) - 1;

struct Word {
  int sequence = 0;  // from 1
  int layer = 0;
  int kv_head = 0;
  int64_t cell = 0;
  int index = 0;  // in the cell: K [8][head_dim], V [8][head_dim], 4 elements each
  int32_t age = 0;
};

// Bits from the top: sequence 6, layer 3, KV head 3, cell 20, index 10, age 22.
constexpr uint64_t Encode(const Word& w) {
  return static_cast<uint64_t>(w.sequence) << 58 | static_cast<uint64_t>(w.layer) << 55 |
         static_cast<uint64_t>(w.kv_head) << 52 | static_cast<uint64_t>(w.cell) << 32 |
         static_cast<uint64_t>(w.index) << 22 | static_cast<uint64_t>(w.age);
}
constexpr Word Decode(uint64_t bits) {
  return {static_cast<int>(bits >> 58),         static_cast<int>(bits >> 55 & 7),
          static_cast<int>(bits >> 52 & 7),     static_cast<int64_t>(bits >> 32 & 0xFFFFF),
          static_cast<int>(bits >> 22 & 0x3FF), static_cast<int32_t>(bits & 0x3FFFFF)};
}

inline std::string Describe(const Word& w) {
  return fmt::format("sequence {}, layer {}, KV head {}, cell {}, word {}, age {}", w.sequence,
                     w.layer, w.kv_head, w.cell, w.index, w.age);
}
// What is wrong with `found` where `expected` should be.
inline std::string Explain(const Word& expected, uint64_t found) {
  const Word w = Decode(found);
  const char* kind = "another place's";
  if (found == 0) {
    kind = "zero";
  } else if (w.sequence != expected.sequence) {
    kind = "another sequence's, or no word at all";
  } else if (w.age != expected.age) {
    kind = w.age < expected.age ? "stale" : "too new";
  }
  return fmt::format("expected {}; found {:#018x}, which is {}: {}", Describe(expected), found,
                     kind, Describe(w));
}

inline constexpr int kWordsPerRow = kRigShape.head_dim * static_cast<int>(sizeof(Bf16)) / 8;

// The words of a token's key (or value) row, [kWordsPerRow].
inline void WriteRow(Word first, Bf16* row) {
  for (int i = 0; i < kWordsPerRow; ++i, ++first.index) {
    const uint64_t word = Encode(first);
    std::memcpy(reinterpret_cast<std::byte*>(row) + 8 * i, &word, 8);
  }
}
// Index of the first wrong word of a row, or -1; `*found` gets its bits.
inline int WrongWord(Word first, const Bf16* row, uint64_t* found) {
  for (int i = 0; i < kWordsPerRow; ++i, ++first.index) {
    std::memcpy(found, reinterpret_cast<const std::byte*>(row) + 8 * i, 8);
    if (*found != Encode(first)) return i;
  }
  return -1;
}

}  // namespace hga::rigs

#endif  // HGA_TESTS_FAULT_KV_WORDS_H_
