// SPDX-License-Identifier: Apache-2.0
// Both ways to merge: a scan for short pieces (words), a queue over a linked list for long ones.
#include "model/tokenizer_bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace hga {
namespace {

// Up to here finding the best pair by looking at all of them is faster than a queue.
constexpr size_t kShortPiece = 64;
// A bucket larger than this gives its memory back when it is empty.
constexpr size_t kKeptPositions = 4096;

}  // namespace

MergeTable::MergeTable(std::span<const MergeRule> rules) : rank_count_(rules.size()) {
  const size_t slots = std::bit_ceil(std::max<size_t>(rules.size() * 2, 16));
  shift_ = 64 - std::countr_zero(slots);
  slots_.resize(slots);
  for (size_t rank = 0; rank < rules.size(); ++rank) {
    const MergeRule& rule = rules[rank];
    size_t slot = Slot(rule.left, rule.right);
    while (slots_[slot].result >= 0 &&
           (slots_[slot].left != rule.left || slots_[slot].right != rule.right)) {
      slot = (slot + 1) & (slots - 1);
    }
    slots_[slot] = {rule.left, rule.right, static_cast<uint32_t>(rank), rule.result};
  }
}

size_t MergeTable::Slot(int32_t left, int32_t right) const {
  const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  uint64_t mixed = key * 0x9E3779B97F4A7C15u;
  mixed ^= mixed >> 29;
  return static_cast<size_t>((mixed * 0xBF58476D1CE4E5B9u) >> shift_);
}

const MergeTable::Entry* MergeTable::Find(int32_t left, int32_t right) const {
  size_t slot = Slot(left, right);
  while (slots_[slot].result >= 0) {
    if (slots_[slot].left == left && slots_[slot].right == right) return &slots_[slot];
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return nullptr;
}

void MergeQueue::Push(uint32_t rank, int32_t position) {
  int32_t& index = bucket_of_rank_[rank];
  if (index < 0) {
    if (free_buckets_.empty()) {
      free_buckets_.push_back(static_cast<int32_t>(buckets_.size()));
      buckets_.emplace_back();
    }
    index = free_buckets_.back();
    free_buckets_.pop_back();
    ranks_.push_back(rank);
    std::push_heap(ranks_.begin(), ranks_.end(), std::greater<>());
  }
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  if (bucket.ascending.empty() || bucket.ascending.back() <= position) {
    bucket.ascending.push_back(position);
  } else {
    bucket.late.push_back(position);
    std::push_heap(bucket.late.begin(), bucket.late.end(), std::greater<>());
  }
}

MergeQueue::Candidate MergeQueue::Pop() {
  const uint32_t rank = ranks_.front();
  const int32_t index = bucket_of_rank_[rank];
  Bucket& bucket = buckets_[static_cast<size_t>(index)];
  const bool has_ascending = bucket.taken < bucket.ascending.size();
  int32_t position = 0;
  if (has_ascending &&
      (bucket.late.empty() || bucket.ascending[bucket.taken] <= bucket.late.front())) {
    position = bucket.ascending[bucket.taken++];
  } else {
    std::pop_heap(bucket.late.begin(), bucket.late.end(), std::greater<>());
    position = bucket.late.back();
    bucket.late.pop_back();
  }
  if (bucket.taken == bucket.ascending.size() && bucket.late.empty()) {
    if (bucket.ascending.capacity() > kKeptPositions) std::vector<int32_t>().swap(bucket.ascending);
    bucket.ascending.clear();
    bucket.taken = 0;
    free_buckets_.push_back(index);
    bucket_of_rank_[rank] = -1;
    std::pop_heap(ranks_.begin(), ranks_.end(), std::greater<>());
    ranks_.pop_back();
  }
  return {rank, position};
}

void BpeScratch::Encode(std::string_view piece, std::vector<int32_t>* ids) {
  if (piece.size() <= kShortPiece) {
    EncodeShort(piece, ids);
  } else {
    EncodeLong(piece, ids);
  }
}

void BpeScratch::EncodeShort(std::string_view piece, std::vector<int32_t>* ids) {
  std::array<int32_t, kShortPiece> symbols;
  std::array<const MergeTable::Entry*, kShortPiece> pairs;  // pairs[i]: symbols i and i + 1
  size_t count = piece.size();
  for (size_t i = 0; i < count; ++i) symbols[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_.Find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = count;
    uint32_t best_rank = UINT32_MAX;
    for (size_t i = 0; i + 1 < count; ++i) {
      if (pairs[i] != nullptr && pairs[i]->rank < best_rank) {
        best = i;
        best_rank = pairs[i]->rank;
      }
    }
    if (best == count) break;
    symbols[best] = pairs[best]->result;
    std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
    std::copy(pairs.begin() + best + 1, pairs.begin() + (count - 1), pairs.begin() + best);
    --count;
    if (best > 0) pairs[best - 1] = merges_.Find(symbols[best - 1], symbols[best]);
    if (best + 1 < count) pairs[best] = merges_.Find(symbols[best], symbols[best + 1]);
  }
  ids->insert(ids->end(), symbols.begin(), symbols.begin() + count);
}

void BpeScratch::PushPair(int32_t position) {
  const size_t left = static_cast<size_t>(position);
  const size_t right = static_cast<size_t>(next_[left]);
  if (right >= symbols_.size()) return;
  const MergeTable::Entry* merge = merges_.Find(symbols_[left], symbols_[right]);
  if (merge != nullptr) queue_[0].Push(merge->rank, position);
}

void BpeScratch::EncodeLong(std::string_view piece, std::vector<int32_t>* ids) {
  if (queue_.empty()) queue_.emplace_back(merges_.rank_count());
  const size_t count = piece.size();
  symbols_.resize(count);
  next_.resize(count);
  previous_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    symbols_[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
    next_[i] = static_cast<int32_t>(i + 1);
    previous_[i] = static_cast<int32_t>(i) - 1;
  }
  for (size_t i = 0; i + 1 < count; ++i) PushPair(static_cast<int32_t>(i));
  while (!queue_[0].empty()) {
    const MergeQueue::Candidate candidate = queue_[0].Pop();
    const size_t left = static_cast<size_t>(candidate.position);
    const size_t right = static_cast<size_t>(next_[left]);
    if (symbols_[left] < 0 || right >= count) continue;
    // A candidate is stale once either side has merged with something else.
    const MergeTable::Entry* merge = merges_.Find(symbols_[left], symbols_[right]);
    if (merge == nullptr || merge->rank != candidate.rank) continue;
    symbols_[left] = merge->result;
    symbols_[right] = -1;
    next_[left] = next_[right];
    if (static_cast<size_t>(next_[left]) < count) {
      previous_[static_cast<size_t>(next_[left])] = candidate.position;
    }
    if (previous_[left] >= 0) PushPair(previous_[left]);
    PushPair(candidate.position);
  }
  for (size_t i = 0; i < count; i = static_cast<size_t>(next_[i])) ids->push_back(symbols_[i]);
}

}  // namespace hga
