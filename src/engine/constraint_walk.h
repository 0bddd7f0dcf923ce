// SPDX-License-Identifier: Apache-2.0
// Runs a machine: a bounded set of stacks that all fit the bytes so far, and their walk over the
// token trie.
#ifndef HGA_ENGINE_CONSTRAINT_WALK_H_
#define HGA_ENGINE_CONSTRAINT_WALK_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constraint_machine.h"
#include "engine/constraint_vocabulary.h"

namespace hga {

// One way to read the bytes so far.
struct Thread {
  int32_t state;
  int32_t stack;      // top frame, -1: none
  int32_t keys;       // last name of the object whose rule this is in, -1: none
  int32_t key_begin;  // offset of the name being read, in a key's rule
  bool operator==(const Thread&) const = default;
};

// What tokens do from one state as long as its rule has not ended.
struct StateMask {
  std::vector<uint64_t> words;  // tokens that end inside the rule
  std::vector<int32_t> exits;   // nodes of the trie behind whose bytes the rule may end, ascending
};

// The stacks of one answer. Threads are values that point into it.
class Stacks {
 public:
  // `base`: frames below the bottom one, for StateMask.
  explicit Stacks(const Machine& machine, int base = 0) : machine_(machine), base_(base) {}

  // Reads `bytes`. False if no thread is left; everything is then as before.
  bool Read(std::string_view bytes, std::vector<Thread>* threads);
  // Whether the answer may end here.
  bool MayEnd(const Thread& thread) const;
  // Sets the tokens that `thread` allows.
  void AddTokens(const Grammar::Vocabulary& vocabulary, const Thread& thread,
                 std::vector<uint64_t>* mask);
  // The part of it that goes on where the rule of `thread` ends behind trie node `node`.
  void AddTokensBehind(const Grammar::Vocabulary& vocabulary, int32_t node, const Thread& thread,
                       std::vector<uint64_t>* mask);
  // For the bottom frame, of which nothing but the state is known: names of its object are not
  // compared.
  void FillLocal(const Grammar::Vocabulary& vocabulary, int32_t state, StateMask* local);

  int Depth(int32_t stack) const {
    return stack < 0 ? base_ : frames_[static_cast<size_t>(stack)].depth;
  }

 private:
  struct Frame {
    int32_t state;  // to go on in
    int32_t below;
    int32_t keys, key_begin;  // of the thread that called
    int32_t depth;
  };
  struct Key {
    int32_t before;
    int32_t begin, end;  // in text_
  };
  struct Mark {
    size_t frames, keys;
  };

  void Walk(const Grammar::Vocabulary& vocabulary, int32_t from, std::string_view prefix,
            const Thread& thread, std::vector<uint64_t>* mask, StateMask* local);
  // The threads that `byte` leaves; `out` is another vector.
  void Step(std::span<const Thread> in, uint8_t byte, std::vector<Thread>* out);
  // The thread behind the end of `thread`'s rule, as if `prefix` came after the bytes so far. False
  // at the bottom, and for a name that its object has.
  bool Leave(const Thread& thread, std::string_view prefix, Thread* out);
  // Drops frames that no thread needs.
  void Compact(std::vector<Thread>* threads);
  void Explore(const Thread& thread, uint8_t byte, std::vector<Thread>* out);
  void Add(const Thread& thread, std::vector<Thread>* out);
  bool IsNewKey(int32_t keys, std::string_view name) const;
  int32_t Push(const Thread& caller, int32_t state, size_t first_new);
  std::string ReadFrom(int32_t begin) const;
  void Append(std::string_view bytes);
  int32_t AddKey(int32_t before, int32_t begin, int32_t end);
  void SetTokens(const Grammar::Vocabulary& vocabulary, int32_t node,
                 std::span<const Thread> threads, std::vector<uint64_t>* mask, StateMask* local);

  const Machine& machine_;
  const int base_;
  std::string text_;  // bytes so far; behind read_ there is room for those being tried
  size_t read_ = 0;
  std::vector<Frame> frames_;
  std::vector<Key> keys_;
  size_t step_frames_ = 0;   // frames from here on were made in this step
  size_t most_threads_ = 0;  // of this step; further ways to read the bytes are given up
  std::vector<std::vector<Thread>> levels_;  // of Walk, by bytes
  std::vector<Mark> marks_;
};

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_WALK_H_
