// SPDX-License-Identifier: Apache-2.0
// Routed attention alone, for engines that have their own model code: queries, keys and values in,
// attention outputs out, over a history this library keeps.
#ifndef HGA_ATTENTION_H_
#define HGA_ATTENTION_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "hga/config.h"
#include "hga/status.h"

namespace hga {

struct AttentionShape {
  int layers = 1;
  int heads = 0;  // query heads, a multiple of kv_heads
  int kv_heads = 0;
  int head_dim = 0;         // 64 or 128
  double rope_theta = 1e7;  // used only by rules with key_mean = kMixedRope
};

struct AttentionOptions {
  int threads = 0;  // 0: one per core the process may use
  std::string isa;  // "" or "auto": the machine's best
  int span = 256;   // most tokens of one Step; scratch grows with it
};

// The attention of one sequence through all layers. Not thread-safe; several objects are
// independent of each other.
class Attention {
 public:
  // Reserves room for `capacity` tokens (address space; memory is taken as tokens arrive).
  // kInvalidArgument for a bad shape or rule, kResourceExhausted for memory.
  static Result<std::unique_ptr<Attention>> Create(const AttentionShape& shape,
                                                   const AttentionConfig& config, int64_t capacity,
                                                   const AttentionOptions& options);
  virtual ~Attention() = default;

  // Appends `rows` tokens to `layer` and attends from them. Each layer advances by itself; a
  // model's forward pass calls every layer once with the same rows.
  //   q   [rows][heads][head_dim]     after norm and RoPE
  //   k, v [rows][kv_heads][head_dim] k after norm and RoPE
  //   out [rows][heads][head_dim]     written
  // q, k and v are rounded to bf16. Synchronous. The outputs of a token are the same bits however
  // the tokens are cut into steps.
  virtual Status Step(int layer, int rows, std::span<const float> q, std::span<const float> k,
                      std::span<const float> v, std::span<float> out) = 0;
  virtual int64_t length(int layer) const = 0;  // tokens held
  virtual int64_t capacity() const = 0;
};

}  // namespace hga

#endif  // HGA_ATTENTION_H_
