// SPDX-License-Identifier: Apache-2.0
// Subset construction of rules, and the removal of states from which no answer can be completed.
#include "engine/constraint_machine.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <utility>

namespace hga {
namespace {

constexpr int kMostDraftEdges = 4 * kMostStates;

Status TooManyStates() {
  return InvalidArgument(
      fmt::format("the schema needs more than {} states of an automaton", kMostStates));
}

using Subset = std::vector<int>;  // ascending

// Makes one rule deterministic.
class Determiniser {
 public:
  // `work`: states in subsets and edges seen are subtracted.
  Determiniser(const RuleDraft& draft, int rule, std::vector<Machine::State>* states, int64_t* work)
      : draft_(draft),
        rule_(rule),
        states_(*states),
        work_(*work),
        seen_(static_cast<size_t>(draft.size()), 0) {}

  Status Run() {
    Number({RuleDraft::kStart});
    for (size_t done = 0; done < order_.size(); ++done) {
      if (states_.size() > kMostStates || work_ < 0) return TooManyStates();
      // A copy: numbering new subsets moves the others.
      const Subset subset = *order_[done];
      Machine::State state;
      state.rule = rule_;
      state.accepts = std::binary_search(subset.begin(), subset.end(), RuleDraft::kEnd);
      AddRanges(subset, &state);
      AddCalls(subset, &state);
      states_[first_ + done] = std::move(state);
    }
    return states_.size() > kMostStates ? TooManyStates() : OkStatus();
  }

 private:
  int32_t Number(Subset subset) {
    Close(&subset);
    work_ -= static_cast<int64_t>(subset.size());
    const auto [it, is_new] =
        ids_.emplace(std::move(subset), static_cast<int32_t>(first_ + ids_.size()));
    if (is_new) {
      order_.push_back(&it->first);
      states_.emplace_back();
    }
    return it->second;
  }

  // Adds what is reached without a byte; sorts.
  void Close(Subset* subset) {
    ++round_;
    size_t kept = 0;
    for (const int id : *subset) {
      if (std::exchange(seen_[static_cast<size_t>(id)], round_) != round_) (*subset)[kept++] = id;
    }
    subset->resize(kept);
    for (size_t i = 0; i < subset->size(); ++i) {
      for (const RuleDraft::Edge& edge : draft_.edges((*subset)[i])) {
        if (edge.rule >= 0 || edge.low <= edge.high) continue;
        if (std::exchange(seen_[static_cast<size_t>(edge.target)], round_) != round_) {
          subset->push_back(edge.target);
        }
      }
    }
    std::sort(subset->begin(), subset->end());
  }

  void AddRanges(const Subset& subset, Machine::State* state) {
    std::vector<RuleDraft::Edge> edges;
    std::bitset<257> cuts;
    for (const int id : subset) {
      for (const RuleDraft::Edge& edge : draft_.edges(id)) {
        if (edge.rule >= 0 || edge.low > edge.high) continue;
        edges.push_back(edge);
        cuts.set(edge.low);
        cuts.set(edge.high + 1U);
      }
    }
    if (edges.empty()) return;
    for (unsigned low = 0; low < 256;) {
      unsigned next = low + 1;
      while (next < 256 && !cuts[next]) ++next;
      Subset targets;
      for (const RuleDraft::Edge& edge : edges) {
        if (edge.low <= low && low <= edge.high) targets.push_back(edge.target);
      }
      work_ -= static_cast<int64_t>(edges.size());
      if (!targets.empty()) AddRange(low, next - 1, Number(std::move(targets)), state);
      low = next;
    }
  }

  static void AddRange(unsigned low, unsigned high, int32_t target, Machine::State* state) {
    std::vector<Machine::Range>& ranges = state->ranges;
    if (!ranges.empty() && ranges.back().target == target && ranges.back().high + 1U == low) {
      ranges.back().high = static_cast<uint8_t>(high);
    } else {
      ranges.push_back({static_cast<uint8_t>(low), static_cast<uint8_t>(high), target});
    }
  }

  void AddCalls(const Subset& subset, Machine::State* state) {
    std::map<int, Subset> targets;
    for (const int id : subset) {
      for (const RuleDraft::Edge& edge : draft_.edges(id)) {
        if (edge.rule >= 0) targets[edge.rule].push_back(edge.target);
      }
    }
    for (auto& [rule, subset_of_rule] : targets) {
      state->calls.push_back({rule, Number(std::move(subset_of_rule))});
    }
  }

  const RuleDraft& draft_;
  const int rule_;
  std::vector<Machine::State>& states_;
  int64_t& work_;
  const size_t first_ = states_.size();
  std::map<Subset, int32_t> ids_;
  std::vector<const Subset*> order_;  // keys of ids_ by number
  std::vector<int> seen_;             // by draft state: the last round that met it
  int round_ = 0;
};

}  // namespace

int RuleDraft::NewState() {
  if (size() >= kMostStates) {
    fits_ = false;
    return kEnd;
  }
  states_.emplace_back();
  return size() - 1;
}

void RuleDraft::Add(int from, Edge edge) {
  if (edge_count_ >= kMostDraftEdges) {
    fits_ = false;
    return;
  }
  ++edge_count_;
  states_[static_cast<size_t>(from)].push_back(edge);
}

int RuleDraft::AddText(int from, std::string_view text) {
  for (const char c : text) {
    const int next = NewState();
    AddByte(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
    from = next;
  }
  return from;
}

void RuleDraft::AddTextTo(int from, std::string_view text, int to) {
  from = AddText(from, text.substr(0, text.size() - 1));
  AddByte(from, static_cast<uint8_t>(text.back()), static_cast<uint8_t>(text.back()), to);
}

int Machine::NewRule(bool is_key) {
  if (rules_.size() >= kMostRules) return -1;
  rules_.emplace_back();
  rules_.back().is_key = is_key;
  return static_cast<int>(rules_.size()) - 1;
}

Status Machine::SetRule(int rule, const RuleDraft& draft) {
  if (!draft.fits()) return TooManyStates();
  rules_[static_cast<size_t>(rule)].start = static_cast<int32_t>(states_.size());
  return Determiniser(draft, rule, &states_, &work_).Run();
}

void Machine::Finish() {
  ComputeNeeds();
  Prune();
  MarkRules();
  std::vector<char> done(rules_.size(), 0);
  for (size_t rule = 0; rule < rules_.size(); ++rule) FindFirst(static_cast<int>(rule), &done);
  FindRuns();
}

// Level by level: a state needs `level` when it gets to its rule's end with calls of rules that
// need less.
void Machine::ComputeNeeds() {
  std::vector<std::vector<int32_t>> sources(states_.size());                     // by any edge
  std::vector<std::vector<std::pair<int32_t, int32_t>>> callers(rules_.size());  // state, target
  for (size_t id = 0; id < states_.size(); ++id) {
    for (const Range& range : states_[id].ranges) {
      sources[static_cast<size_t>(range.target)].push_back(static_cast<int32_t>(id));
    }
    for (const Call& call : states_[id].calls) {
      sources[static_cast<size_t>(call.target)].push_back(static_cast<int32_t>(id));
      callers[static_cast<size_t>(call.rule)].emplace_back(static_cast<int32_t>(id), call.target);
    }
  }
  const auto reaches = [this](const State& state, int level) {
    for (const Range& range : state.ranges) {
      if (states_[static_cast<size_t>(range.target)].need <= level) return true;
    }
    for (const Call& call : state.calls) {
      if (NeedOfRule(call.rule) < level && states_[static_cast<size_t>(call.target)].need <= level)
        return true;
    }
    return false;
  };
  std::vector<int32_t> work;
  for (size_t id = 0; id < states_.size(); ++id) {
    if (!states_[id].accepts) continue;
    states_[id].need = 0;
    work.push_back(static_cast<int32_t>(id));
  }
  for (int level = 0; level <= kDeepestStack; ++level) {
    for (size_t rule = 0; level > 0 && rule < rules_.size(); ++rule) {
      if (NeedOfRule(static_cast<int>(rule)) != level - 1) continue;
      for (const auto& [caller, target] : callers[rule]) {
        State& state = states_[static_cast<size_t>(caller)];
        if (state.need <= level || !reaches(state, level)) continue;
        state.need = level;
        work.push_back(caller);
      }
    }
    while (!work.empty()) {
      const int32_t reached = work.back();
      work.pop_back();
      for (const int32_t id : sources[static_cast<size_t>(reached)]) {
        State& state = states_[static_cast<size_t>(id)];
        if (state.need <= level || !reaches(state, level)) continue;
        state.need = level;
        work.push_back(id);
      }
    }
  }
}

void Machine::Prune() {
  for (State& state : states_) {
    std::erase_if(state.ranges, [this](const Range& range) {
      return states_[static_cast<size_t>(range.target)].need >= kNever;
    });
    std::erase_if(state.calls, [this](const Call& call) {
      return states_[static_cast<size_t>(call.target)].need >= kNever ||
             NeedOfRule(call.rule) >= kNever;
    });
  }
}

void Machine::MarkRules() {
  std::vector<std::vector<int>> callers(rules_.size());
  std::vector<int> calls(rules_.size(), 0);  // to rules of unknown height
  for (const State& state : states_) {
    for (const Call& call : state.calls) {
      callers[static_cast<size_t>(call.rule)].push_back(state.rule);
      ++calls[static_cast<size_t>(state.rule)];
      if (rules_[static_cast<size_t>(call.rule)].is_key) {
        rules_[static_cast<size_t>(state.rule)].has_keys = true;
      }
    }
  }
  // Rules that can get back to themselves, and their callers, are never reached.
  std::vector<int> work;
  std::vector<int32_t> heights(rules_.size(), 0);
  for (size_t rule = 0; rule < rules_.size(); ++rule) {
    if (calls[rule] == 0) work.push_back(static_cast<int>(rule));
  }
  while (!work.empty()) {
    const auto rule = static_cast<size_t>(work.back());
    work.pop_back();
    rules_[rule].height = heights[rule];
    for (const int caller : callers[rule]) {
      int32_t& height = heights[static_cast<size_t>(caller)];
      height = std::max(height, heights[rule] + 1);
      if (--calls[static_cast<size_t>(caller)] == 0) work.push_back(caller);
    }
  }
}

// Chains of states that each go to one next state by all plain bytes.
void Machine::FindRuns() {
  const auto next_of = [this](const State& state) -> int32_t {
    int32_t next = -1;
    for (unsigned byte = 0x20; byte < 0x7f; ++byte) {
      if (byte == '"' || byte == '\\') continue;
      const auto range =
          std::find_if(state.ranges.begin(), state.ranges.end(),
                       [byte](const Range& r) { return r.low <= byte && byte <= r.high; });
      if (range == state.ranges.end() || (next >= 0 && range->target != next)) return -1;
      next = range->target;
      for (const Call& call : state.calls) {
        if (rules_[static_cast<size_t>(call.rule)].first[byte]) return -1;
      }
    }
    const State& target = states_[static_cast<size_t>(next)];
    return state.accepts || target.accepts || target.need > state.need ? -1 : next;
  };
  enum : char { kNew, kOpen, kDone };
  std::vector<char> seen(states_.size(), kNew);
  for (size_t id = 0; id < states_.size(); ++id) {
    std::vector<int32_t> chain;
    auto at = static_cast<int32_t>(id);
    while (at >= 0 && seen[static_cast<size_t>(at)] == kNew) {
      seen[static_cast<size_t>(at)] = kOpen;
      chain.push_back(at);
      at = next_of(states_[static_cast<size_t>(at)]);
    }
    int32_t run = -1;
    if (at >= 0) {
      const bool is_loop = seen[static_cast<size_t>(at)] == kOpen;
      run = is_loop ? kNever : states_[static_cast<size_t>(at)].plain_run;
    }
    for (; !chain.empty(); chain.pop_back()) {
      run = std::min(run + 1, kNever);
      states_[static_cast<size_t>(chain.back())].plain_run = run;
      seen[static_cast<size_t>(chain.back())] = kDone;
    }
  }
}

// Calls at a rule's start go to leaf rules only, so this is shallow.
void Machine::FindFirst(int rule, std::vector<char>* done) {
  if (std::exchange((*done)[static_cast<size_t>(rule)], 1) != 0) return;
  const State& start = states_[static_cast<size_t>(rules_[static_cast<size_t>(rule)].start)];
  std::bitset<256> first;
  for (const Range& range : start.ranges) {
    for (unsigned byte = range.low; byte <= range.high; ++byte) first.set(byte);
  }
  for (const Call& call : start.calls) {
    FindFirst(call.rule, done);
    first |= rules_[static_cast<size_t>(call.rule)].first;
  }
  rules_[static_cast<size_t>(rule)].first = first;
}

}  // namespace hga
