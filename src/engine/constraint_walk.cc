// SPDX-License-Identifier: Apache-2.0
// Steps of the stacks, byte by byte, and the mask of tokens they allow.
#include "engine/constraint_walk.h"

#include <algorithm>

namespace hga {
namespace {

constexpr size_t kMostThreads = 64;
// Reading a token gives up later than a mask, so that what a mask allows can be read.
constexpr size_t kMostThreadsInToken = 4096;
constexpr size_t kCompactFrames = 4096;

const Machine::Range* FindRange(const Machine::State& state, uint8_t byte) {
  for (const Machine::Range& range : state.ranges) {
    if (byte <= range.high) return byte >= range.low ? &range : nullptr;
  }
  return nullptr;
}

void SetBits(const Grammar::Vocabulary& vocabulary, int32_t first, int32_t end,
             std::vector<uint64_t>* mask) {
  for (int32_t rank = first; rank < end; ++rank) {
    const int32_t token = vocabulary.order()[static_cast<size_t>(rank)];
    (*mask)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (token % 64);
  }
}

}  // namespace

void Stacks::Add(const Thread& thread, std::vector<Thread>* out) {
  if (out->size() >= most_threads_) return;
  if (std::find(out->begin(), out->end(), thread) == out->end()) out->push_back(thread);
}

bool Stacks::IsNewKey(int32_t keys, std::string_view name) const {
  for (; keys >= 0; keys = keys_[static_cast<size_t>(keys)].before) {
    const Key& key = keys_[static_cast<size_t>(keys)];
    const auto begin = static_cast<size_t>(key.begin), end = static_cast<size_t>(key.end);
    if (std::string_view(text_).substr(begin, end - begin) == name) return false;
  }
  return true;
}

std::string Stacks::ReadFrom(int32_t begin) const {
  return text_.substr(static_cast<size_t>(begin), read_ - static_cast<size_t>(begin));
}

void Stacks::Append(std::string_view bytes) {
  if (text_.size() < read_ + bytes.size()) text_.resize(2 * (read_ + bytes.size()));
  bytes.copy(text_.data() + read_, bytes.size());
  read_ += bytes.size();
}

int32_t Stacks::AddKey(int32_t before, int32_t begin, int32_t end) {
  keys_.push_back({before, begin, end});
  return static_cast<int32_t>(keys_.size()) - 1;
}

// Equal frames of one step are one, so that threads that differ in nothing else join.
int32_t Stacks::Push(const Thread& caller, int32_t state, size_t first_new) {
  for (size_t i = first_new; i < frames_.size(); ++i) {
    const Frame& frame = frames_[i];
    if (frame.state == state && frame.below == caller.stack && frame.keys == caller.keys &&
        frame.key_begin == caller.key_begin) {
      return static_cast<int32_t>(i);
    }
  }
  frames_.push_back({state, caller.stack, caller.keys, caller.key_begin, Depth(caller.stack) + 1});
  return static_cast<int32_t>(frames_.size()) - 1;
}

// Depth: calls at rules' starts, and frames that end together.
void Stacks::Explore(const Thread& thread, uint8_t byte, std::vector<Thread>* out) {
  const Machine::State& state = machine_.state(thread.state);
  const int depth = Depth(thread.stack);
  if (const Machine::Range* range = FindRange(state, byte); range != nullptr) {
    const Machine::State& target = machine_.state(range->target);
    bool alive = target.need + depth <= kDeepestStack;
    if (target.accepts && thread.stack >= 0 && machine_.rule(state.rule).is_key) {
      // The closing quote, which is part of every name here.
      std::string name = ReadFrom(thread.key_begin);
      name += static_cast<char>(byte);
      alive = alive && IsNewKey(frames_[static_cast<size_t>(thread.stack)].keys, name);
    }
    if (alive) Add({range->target, thread.stack, thread.keys, thread.key_begin}, out);
  }
  for (const Machine::Call& call : state.calls) {
    const Machine::Rule& rule = machine_.rule(call.rule);
    if (!rule.first[byte]) continue;
    if (machine_.state(rule.start).need + depth + 1 > kDeepestStack ||
        machine_.state(call.target).need + depth > kDeepestStack) {
      continue;
    }
    const int32_t frame = Push(thread, call.target, step_frames_);
    Explore({rule.start, frame, -1, static_cast<int32_t>(read_)}, byte, out);
  }
  Thread behind;
  if (state.accepts && Leave(thread, {}, &behind)) Explore(behind, byte, out);
}

bool Stacks::Leave(const Thread& thread, std::string_view prefix, Thread* out) {
  if (thread.stack < 0) return false;
  const Frame frame = frames_[static_cast<size_t>(thread.stack)];
  *out = {frame.state, frame.below, frame.keys, frame.key_begin};
  if (!machine_.rule(machine_.state(thread.state).rule).is_key) return true;
  std::string name = ReadFrom(thread.key_begin);
  name += prefix;
  if (!prefix.empty() && !IsNewKey(frame.keys, name)) return false;
  out->keys =
      AddKey(frame.keys, thread.key_begin, thread.key_begin + static_cast<int32_t>(name.size()));
  return true;
}

void Stacks::Step(std::span<const Thread> in, uint8_t byte, std::vector<Thread>* out) {
  out->clear();
  step_frames_ = frames_.size();
  if (in.size() == 1) {
    // Inside a text, which is nearly always.
    const Machine::State& state = machine_.state(in[0].state);
    const Machine::Range* range = FindRange(state, byte);
    if (range != nullptr && state.calls.empty() && !state.accepts) {
      const Machine::State& target = machine_.state(range->target);
      if (!target.accepts) {
        if (target.need + Depth(in[0].stack) > kDeepestStack) return;
        out->push_back({range->target, in[0].stack, in[0].keys, in[0].key_begin});
        return;
      }
    }
  }
  for (const Thread& thread : in) Explore(thread, byte, out);
}

bool Stacks::MayEnd(const Thread& thread) const {
  int32_t state = thread.state;
  for (int32_t stack = thread.stack;; stack = frames_[static_cast<size_t>(stack)].below) {
    if (!machine_.state(state).accepts) return false;
    if (stack < 0) return true;
    state = frames_[static_cast<size_t>(stack)].state;
  }
}

void Stacks::SetTokens(const Grammar::Vocabulary& vocabulary, int32_t node,
                       std::span<const Thread> threads, std::vector<uint64_t>* mask,
                       StateMask* local) {
  bool allowed = local == nullptr;
  if (local != nullptr) {
    bool leaves = false;
    for (const Thread& thread : threads) {
      const Machine::State& state = machine_.state(thread.state);
      const bool at_end = thread.stack < 0 && state.accepts;
      leaves = leaves || at_end;
      // Whether a name at the bottom is new can't be told here.
      allowed = allowed || !(at_end && machine_.rule(state.rule).is_key);
    }
    if (leaves) local->exits.push_back(node);
  }
  const Grammar::Vocabulary::Node& at = vocabulary.nodes()[static_cast<size_t>(node)];
  if (allowed) SetBits(vocabulary, at.first, at.first + at.count, mask);
}

void Stacks::Walk(const Grammar::Vocabulary& vocabulary, int32_t from, std::string_view prefix,
                  const Thread& thread, std::vector<uint64_t>* mask, StateMask* local) {
  most_threads_ = kMostThreads;
  const auto nodes = vocabulary.nodes();
  const Mark outside = {frames_.size(), keys_.size()};
  const size_t read_before = read_;
  Append(prefix);
  const size_t below = prefix.size(), read = read_;
  if (levels_.empty()) {
    levels_.resize(static_cast<size_t>(vocabulary.longest()) + 1);
    marks_.resize(levels_.size());
  }
  text_.resize(std::max(text_.size(), read + levels_.size()));
  levels_[0].assign(1, thread);
  marks_[0] = outside;
  const int32_t end = nodes[static_cast<size_t>(from)].end;
  for (int32_t i = from + 1; i < end;) {
    const Grammar::Vocabulary::Node& node = nodes[static_cast<size_t>(i)];
    const size_t level = node.length - below;
    frames_.resize(marks_[level - 1].frames);
    keys_.resize(marks_[level - 1].keys);
    read_ = read + level - 1;
    std::vector<Thread>& left = levels_[level];
    Step(levels_[level - 1], node.byte, &left);
    if (left.empty()) {
      i = node.end;
      continue;
    }
    const bool is_plain = node.plain_height > 0 && node.plain_height != vocabulary.kNotPlain;
    if (is_plain && left.size() == 1 &&
        machine_.state(left[0].state).plain_run >= node.plain_height) {
      SetBits(vocabulary, node.first, nodes[static_cast<size_t>(node.end)].first, mask);
      i = node.end;
      continue;
    }
    text_[read_++] = static_cast<char>(node.byte);
    marks_[level] = {frames_.size(), keys_.size()};
    SetTokens(vocabulary, i, left, mask, local);
    ++i;
  }
  frames_.resize(outside.frames);
  keys_.resize(outside.keys);
  read_ = read_before;
}

bool Stacks::Read(std::string_view bytes, std::vector<Thread>* threads) {
  most_threads_ = kMostThreadsInToken;
  const Mark before = {frames_.size(), keys_.size()};
  const size_t read_before = read_;
  std::vector<Thread> now = *threads, next;
  for (const char c : bytes) {
    Step(now, static_cast<uint8_t>(c), &next);
    now.swap(next);
    if (now.empty()) break;
    Append(std::string_view(&c, 1));
  }
  if (now.empty()) {
    frames_.resize(before.frames);
    keys_.resize(before.keys);
    read_ = read_before;
    return false;
  }
  if (now.size() > kMostThreads) now.resize(kMostThreads);
  *threads = std::move(now);
  if (frames_.size() > kCompactFrames) Compact(threads);
  return true;
}

void Stacks::AddTokens(const Grammar::Vocabulary& vocabulary, const Thread& thread,
                       std::vector<uint64_t>* mask) {
  Walk(vocabulary, 0, {}, thread, mask, nullptr);
}

void Stacks::AddTokensBehind(const Grammar::Vocabulary& vocabulary, int32_t node,
                             const Thread& thread, std::vector<uint64_t>* mask) {
  const auto nodes = vocabulary.nodes();
  const Grammar::Vocabulary::Node& at = nodes[static_cast<size_t>(node)];
  std::string_view prefix;
  if (node > 0) {
    prefix = vocabulary.text(vocabulary.order()[static_cast<size_t>(at.first)]);
    prefix = prefix.substr(0, at.length);
  }
  const size_t key_count = keys_.size();
  Thread behind;
  if (Leave(thread, prefix, &behind)) {
    if (node > 0) SetTokens(vocabulary, node, {}, mask, nullptr);
    if (at.end > node + 1) Walk(vocabulary, node, prefix, behind, mask, nullptr);
  }
  keys_.resize(key_count);
}

void Stacks::FillLocal(const Grammar::Vocabulary& vocabulary, int32_t state, StateMask* local) {
  local->words.assign(vocabulary.mask_words(), 0);
  Walk(vocabulary, 0, {}, {state, -1, -1, 0}, &local->words, local);
  if (machine_.rule(machine_.state(state).rule).is_key) return;
  std::erase_if(local->exits, [&vocabulary](int32_t node) {
    return vocabulary.nodes()[static_cast<size_t>(node)].end == node + 1;
  });
}

void Stacks::Compact(std::vector<Thread>* threads) {
  std::vector<Frame> kept;
  std::vector<int32_t> moved(frames_.size(), -1);
  for (Thread& thread : *threads) {
    std::vector<int32_t> chain;
    for (int32_t at = thread.stack; at >= 0 && moved[static_cast<size_t>(at)] < 0;
         at = frames_[static_cast<size_t>(at)].below) {
      chain.push_back(at);
    }
    for (; !chain.empty(); chain.pop_back()) {
      Frame frame = frames_[static_cast<size_t>(chain.back())];
      if (frame.below >= 0) frame.below = moved[static_cast<size_t>(frame.below)];
      moved[static_cast<size_t>(chain.back())] = static_cast<int32_t>(kept.size());
      kept.push_back(frame);
    }
    if (thread.stack >= 0) thread.stack = moved[static_cast<size_t>(thread.stack)];
  }
  frames_ = std::move(kept);
}

}  // namespace hga
