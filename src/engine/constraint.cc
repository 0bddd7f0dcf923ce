// SPDX-License-Identifier: Apache-2.0
// Grammars of the public API: a machine with its root rule, and the masks of states that several
// answers come through.
#include "hga/constraint.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "engine/constraint_compile.h"
#include "engine/constraint_walk.h"

namespace hga {
namespace {

constexpr size_t kMostMasks = 512;         // kept per grammar
constexpr int64_t kCharWork = 64'000'000;  // steps on all patterns of a grammar
constexpr size_t kMostTools = 128;
constexpr size_t kLongestName = 256;  // bytes of a tool's name
constexpr std::string_view kCallTag = "<tool_call>";
constexpr std::string_view kCallEndTag = "\n</tool_call>";
constexpr std::string_view kAnyObject = R"({"type":"object"})";

class MachineGrammar final : public Grammar, public std::enable_shared_from_this<MachineGrammar> {
 public:
  MachineGrammar(std::shared_ptr<const Vocabulary> vocabulary, Machine machine, int root)
      : vocabulary_(std::move(vocabulary)), machine_(std::move(machine)), root_(root) {}

  std::unique_ptr<Constraint> Start() const override;
  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const Machine& machine() const { return machine_; }
  int32_t start() const { return machine_.rule(root_).start; }

  // The mask of a state with `depth` frames below it.
  std::shared_ptr<const StateMask> MaskOf(int32_t state, int depth) const {
    const Machine::Rule& rule = machine_.rule(machine_.state(state).rule);
    if (depth + rule.height <= kDeepestStack) depth = 0;  // the bound makes no difference
    const std::pair key(state, depth);
    {
      const std::lock_guard lock(mutex_);
      if (const auto known = masks_.find(key); known != masks_.end()) return known->second;
    }
    auto mask = std::make_shared<StateMask>();
    Stacks(machine_, depth).FillLocal(*vocabulary_, state, mask.get());
    const std::lock_guard lock(mutex_);
    if (masks_.size() >= kMostMasks) masks_.clear();
    masks_[key] = mask;
    return mask;
  }

 private:
  const std::shared_ptr<const Vocabulary> vocabulary_;
  const Machine machine_;
  const int root_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int32_t, int>, std::shared_ptr<const StateMask>> masks_;
};

class MachineConstraint final : public Constraint {
 public:
  explicit MachineConstraint(std::shared_ptr<const MachineGrammar> grammar)
      : grammar_(std::move(grammar)),
        stacks_(grammar_->machine()),
        threads_{{grammar_->start(), -1, -1, 0}},
        mask_(grammar_->vocabulary().mask_words(), 0) {}

  std::span<const uint64_t> Allowed() override {
    if (std::exchange(is_current_, true)) return mask_;
    std::fill(mask_.begin(), mask_.end(), 0);
    for (const Thread& thread : threads_) AddThread(thread);
    return mask_;
  }

  bool MayEnd() const override {
    return std::any_of(threads_.begin(), threads_.end(),
                       [this](const Thread& thread) { return stacks_.MayEnd(thread); });
  }

  Status Accept(int32_t id) override {
    const Grammar::Vocabulary& vocabulary = grammar_->vocabulary();
    if (id < 0 || id >= vocabulary.size() || vocabulary.text(id).empty() ||
        !stacks_.Read(vocabulary.text(id), &threads_)) {
      return InvalidArgument(fmt::format("token {} is not allowed here by the grammar", id));
    }
    is_current_ = false;
    return OkStatus();
  }

 private:
  void AddThread(const Thread& thread) {
    const Grammar::Vocabulary& vocabulary = grammar_->vocabulary();
    const Machine::State& state = grammar_->machine().state(thread.state);
    // Which names an object has differs from answer to answer.
    if (grammar_->machine().rule(state.rule).has_keys) {
      stacks_.AddTokens(vocabulary, thread, &mask_);
      return;
    }
    const auto local = grammar_->MaskOf(thread.state, stacks_.Depth(thread.stack));
    for (size_t i = 0; i < mask_.size(); ++i) mask_[i] |= local->words[i];
    if (thread.stack < 0) return;
    if (state.accepts) stacks_.AddTokensBehind(vocabulary, 0, thread, &mask_);
    for (const int32_t node : local->exits) {
      stacks_.AddTokensBehind(vocabulary, node, thread, &mask_);
    }
  }

  const std::shared_ptr<const MachineGrammar> grammar_;
  Stacks stacks_;
  std::vector<Thread> threads_;
  std::vector<uint64_t> mask_;
  bool is_current_ = false;
};

std::unique_ptr<Constraint> MachineGrammar::Start() const {
  return std::make_unique<MachineConstraint>(shared_from_this());
}

Status CheckTools(std::span<const ToolSpec> tools) {
  if (tools.empty() || tools.size() > kMostTools) {
    return InvalidArgument(fmt::format("{} tools; must be 1 to {}", tools.size(), kMostTools));
  }
  std::set<std::string_view> names;
  for (const ToolSpec& tool : tools) {
    if (tool.name.empty() || tool.name.size() > kLongestName || FindInvalidUtf8(tool.name)) {
      return InvalidArgument(
          fmt::format("a tool's name must be UTF-8 of 1 to {} bytes", kLongestName));
    }
    if (!names.insert(tool.name).second) {
      return InvalidArgument(fmt::format("two tools are called {}", tool.name));
    }
  }
  return OkStatus();
}

// Free text: all bytes up to a whole tag, which ends in `behind`; may end anywhere. Returns where
// it starts.
int AddFreeText(RuleDraft* draft, int behind) {
  const size_t length = kCallTag.size();
  std::vector<int> states;  // by bytes of the tag just read
  for (size_t i = 0; i < length; ++i) {
    states.push_back(draft->NewState());
    draft->AddEmpty(states.back(), RuleDraft::kEnd);
  }
  for (size_t i = 0; i < length; ++i) {
    const std::string_view read = kCallTag.substr(0, i);
    for (unsigned byte = 0; byte < 256; ++byte) {
      std::string seen(read);
      seen += static_cast<char>(byte);
      while (!kCallTag.starts_with(seen)) seen.erase(0, 1);
      draft->AddByte(states[i], static_cast<uint8_t>(byte), static_cast<uint8_t>(byte),
                     seen.size() == length ? behind : states[seen.size()]);
    }
  }
  return states[0];
}

class ToolGrammarMaker {
 public:
  ToolGrammarMaker() : rules_(&machine_) {}

  Result<int> RuleOfTools(std::span<const ToolSpec> tools, bool required, bool parallel) {
    const int root = machine_.NewRule();
    RuleDraft draft;
    const int call = draft.NewState(),
              behind = draft.NewState();  // behind <tool_call>, </tool_call>
    for (const ToolSpec& tool : tools) {
      HGA_RETURN_IF_ERROR(AddTool(tool, &draft, call, behind));
    }
    draft.AddEmpty(behind, RuleDraft::kEnd);
    if (required) {
      draft.AddTextTo(RuleDraft::kStart, kCallTag, call);
      if (parallel) draft.AddTextTo(draft.AddText(behind, "\n"), kCallTag, call);
    } else {
      const int text = AddFreeText(&draft, call);
      draft.AddEmpty(RuleDraft::kStart, text);
      if (parallel) draft.AddEmpty(behind, text);
    }
    HGA_RETURN_IF_ERROR(machine_.SetRule(root, draft));
    machine_.Finish();
    return root;
  }
  // A tool that can't be called is an error of its schema; after RuleOfTools.
  Status CheckPossible(std::span<const ToolSpec> tools) const {
    for (size_t i = 0; i < tools.size(); ++i) {
      if (machine_.IsPossible(arguments_[i])) continue;
      return InvalidArgument(fmt::format(
          "tool {}: no arguments that this grammar can write fulfil its schema", tools[i].name));
    }
    return OkStatus();
  }
  Machine& machine() { return machine_; }

 private:
  Status AddTool(const ToolSpec& tool, RuleDraft* draft, int from, int to) {
    const std::string_view text = tool.parameters.empty() ? kAnyObject : tool.parameters;
    HGA_ASSIGN_OR_RETURN(const auto schema, Schema::Parse(text, "tool " + tool.name));
    HGA_ASSIGN_OR_RETURN(const auto object, Schema::Parse(kAnyObject, "arguments"));
    // The addresses of nodes name rules while compiling, so both must live as long.
    SchemaCompiler compiler(schema.get(), &machine_, &rules_, &char_work_);
    HGA_ASSIGN_OR_RETURN(const int rule, compiler.Compile({&schema->root(), &object->root()}));
    const auto add_spaced = [draft](int at, std::string_view piece) {
      const int next = draft->AddText(at, piece);
      const int behind = draft->AddText(next, " ");
      draft->AddEmpty(next, behind);
      return behind;
    };
    int at = add_spaced(draft->AddText(from, "\n"), "{\"name\":");
    at = add_spaced(draft->AddText(at, QuoteJson(tool.name)), ",");
    at = add_spaced(at, "\"arguments\":");
    const int value = draft->NewState();
    draft->AddCall(at, rule, value);
    draft->AddTextTo(draft->AddText(value, "}"), kCallEndTag, to);
    arguments_.push_back(rule);
    return OkStatus();
  }

  Machine machine_;
  JsonRules rules_;
  int64_t char_work_ = kCharWork;
  std::vector<int> arguments_;  // rules by tool
};

}  // namespace

Result<std::shared_ptr<const Grammar>> Grammar::JsonObject(
    std::shared_ptr<const Vocabulary> vocabulary) {
  return JsonSchema(std::move(vocabulary), kAnyObject);
}

Result<std::shared_ptr<const Grammar>> Grammar::JsonSchema(
    std::shared_ptr<const Vocabulary> vocabulary, std::string_view schema_text) {
  HGA_ASSIGN_OR_RETURN(const auto schema, Schema::Parse(schema_text, "schema"));
  Machine machine;
  JsonRules rules(&machine);
  int64_t char_work = kCharWork;
  SchemaCompiler compiler(schema.get(), &machine, &rules, &char_work);
  HGA_ASSIGN_OR_RETURN(const int root, compiler.Compile({&schema->root()}));
  machine.Finish();
  if (!machine.IsPossible(root)) {
    return InvalidArgument("schema: no value that this grammar can write fulfils it");
  }
  return std::shared_ptr<const Grammar>(
      std::make_shared<MachineGrammar>(std::move(vocabulary), std::move(machine), root));
}

Result<std::shared_ptr<const Grammar>> Grammar::ToolCalls(
    std::shared_ptr<const Vocabulary> vocabulary, std::span<const ToolSpec> tools, bool required,
    bool parallel) {
  HGA_RETURN_IF_ERROR(CheckTools(tools));
  ToolGrammarMaker maker;
  HGA_ASSIGN_OR_RETURN(const int root, maker.RuleOfTools(tools, required, parallel));
  HGA_RETURN_IF_ERROR(maker.CheckPossible(tools));
  return std::shared_ptr<const Grammar>(
      std::make_shared<MachineGrammar>(std::move(vocabulary), std::move(maker.machine()), root));
}

}  // namespace hga
