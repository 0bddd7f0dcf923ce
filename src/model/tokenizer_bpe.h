// SPDX-License-Identifier: Apache-2.0
// Byte-pair merging of one piece of text, in time close to linear for pieces of any length.
#ifndef HGA_MODEL_TOKENIZER_BPE_H_
#define HGA_MODEL_TOKENIZER_BPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hga {

struct MergeRule {
  int32_t left;
  int32_t right;
  int32_t result;
};

// (left, right) -> rank and result; open addressing at most half full. Immutable once made.
class MergeTable {
 public:
  struct Entry {
    int32_t left = -1;
    int32_t right = -1;
    uint32_t rank = 0;
    int32_t result = -1;
  };

  // `rules` [count] in order of rank; of a pair that comes twice the last rank counts.
  explicit MergeTable(std::span<const MergeRule> rules);
  // Null when the pair does not merge.
  const Entry* Find(int32_t left, int32_t right) const;
  size_t rank_count() const { return rank_count_; }

 private:
  size_t Slot(int32_t left, int32_t right) const;

  std::vector<Entry> slots_;
  int shift_ = 0;
  size_t rank_count_ = 0;
};

// The candidates of one long piece: always gives back the lowest rank, of equal ranks the lowest
// position. Positions of a rank mostly arrive ascending, so each rank keeps them in a plain list
// and only the latecomers in a heap: 16 MB of one letter cost no logarithm.
class MergeQueue {
 public:
  explicit MergeQueue(size_t rank_count) : bucket_of_rank_(rank_count, -1) {}
  void Push(uint32_t rank, int32_t position);
  bool empty() const { return ranks_.empty(); }
  struct Candidate {
    uint32_t rank;
    int32_t position;
  };
  Candidate Pop();

 private:
  struct Bucket {
    std::vector<int32_t> ascending;
    size_t taken = 0;
    std::vector<int32_t> late;  // min-heap
  };

  std::vector<int32_t> bucket_of_rank_;
  std::vector<Bucket> buckets_;
  std::vector<int32_t> free_buckets_;
  std::vector<uint32_t> ranks_;  // min-heap of the ranks that have positions
};

// One per call of Encode: memory that long pieces share.
class BpeScratch {
 public:
  BpeScratch(const MergeTable& merges, const std::array<int32_t, 256>& byte_ids)
      : merges_(merges), byte_ids_(byte_ids) {}
  // Appends the ids of `piece` (any bytes, fewer than 2^31) to `ids`.
  void Encode(std::string_view piece, std::vector<int32_t>* ids);

 private:
  void EncodeShort(std::string_view piece, std::vector<int32_t>* ids);
  void EncodeLong(std::string_view piece, std::vector<int32_t>* ids);
  void PushPair(int32_t position);

  const MergeTable& merges_;
  const std::array<int32_t, 256>& byte_ids_;
  std::vector<MergeQueue> queue_;  // none until the first long piece
  std::vector<int32_t> symbols_;   // [piece bytes] token at a position, -1 once merged away
  std::vector<int32_t> next_;      // [piece bytes] position of the next living symbol, or the end
  std::vector<int32_t> previous_;  // [piece bytes] of the previous one, or -1
};

}  // namespace hga

#endif  // HGA_MODEL_TOKENIZER_BPE_H_
