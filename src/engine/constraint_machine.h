// SPDX-License-Identifier: Apache-2.0
// Pushdown automata over bytes: rules that are deterministic automata whose edges are byte ranges
// or calls of rules, and the builder that makes them from non-deterministic ones.
#ifndef HGA_ENGINE_CONSTRAINT_MACHINE_H_
#define HGA_ENGINE_CONSTRAINT_MACHINE_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "hga/status.h"

namespace hga {

inline constexpr int kMostStates = 200'000;  // of a whole machine, and of one rule being built
inline constexpr int kMostRules = 20'000;
inline constexpr int kDeepestStack = 100;  // calls within calls of one answer
inline constexpr int kNever = 1 << 20;     // more levels than any stack has

// One rule being built, non-deterministic: states are numbers, 0 starts and 1 ends.
class RuleDraft {
 public:
  struct Edge {
    int target;
    int rule;  // -1: the bytes low..high, or no byte at all where low > high
    uint8_t low, high;
  };
  static constexpr int kStart = 0, kEnd = 1;

  RuleDraft() : states_(2) {}
  int NewState();
  void AddByte(int from, uint8_t low, uint8_t high, int to) { Add(from, {to, -1, low, high}); }
  void AddEmpty(int from, int to) { Add(from, {to, -1, 1, 0}); }
  void AddCall(int from, int rule, int to) { Add(from, {to, rule, 1, 0}); }
  // A chain of new states for `text`; returns the last.
  int AddText(int from, std::string_view text);
  // Such a chain that ends in `to`; `text` is not empty.
  void AddTextTo(int from, std::string_view text, int to);
  // False once the draft is larger than any rule may be: later additions are lost.
  bool fits() const { return fits_; }
  std::span<const Edge> edges(int state) const { return states_[static_cast<size_t>(state)]; }
  int size() const { return static_cast<int>(states_.size()); }

 private:
  void Add(int from, Edge edge);

  std::vector<std::vector<Edge>> states_;
  int edge_count_ = 0;
  bool fits_ = true;
};

// Immutable once finished.
class Machine {
 public:
  struct Range {
    uint8_t low, high;
    int32_t target;
  };
  struct Call {
    int32_t rule, target;
  };
  struct State {
    std::vector<Range> ranges;  // ascending
    std::vector<Call> calls;
    int32_t rule = 0;
    int32_t need = kNever;  // least depth of calls on a way to the rule's end; 0: none
    // As many plain bytes (Vocabulary::IsPlain) may follow, whichever they are, and keep the stack
    // as it is.
    int32_t plain_run = 0;
    bool accepts = false;  // the rule may end here
  };
  struct Rule {
    int32_t start = -1;       // state
    bool is_key = false;      // a key that must differ from the others of its object
    bool has_keys = false;    // calls such a rule
    int32_t height = kNever;  // most calls within calls below it; kNever: without bound
    std::bitset<256> first;   // bytes a text of it begins with
  };

  // Names a rule before it is built, so that rules can call each other. -1 when there are too many.
  int NewRule(bool is_key = false);
  // Texts of `draft` are not empty. kInvalidArgument: too many states.
  Status SetRule(int rule, const RuleDraft& draft);
  // After the last rule: removes what can't be completed. Every rule is set.
  void Finish();
  // Whether rule `rule` has any text at all; after Finish.
  bool IsPossible(int rule) const { return NeedOfRule(rule) < kDeepestStack; }

  const State& state(int32_t id) const { return states_[static_cast<size_t>(id)]; }
  const Rule& rule(int32_t id) const { return rules_[static_cast<size_t>(id)]; }
  int NeedOfRule(int rule_id) const { return state(rule(rule_id).start).need; }
  int state_count() const { return static_cast<int>(states_.size()); }

 private:
  void ComputeNeeds();
  void Prune();
  void MarkRules();
  void FindRuns();
  void FindFirst(int rule, std::vector<char>* done);

  std::vector<State> states_;
  std::vector<Rule> rules_;
  int64_t work_ = 64'000'000;  // steps left for making rules deterministic
};

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_MACHINE_H_
