// SPDX-License-Identifier: Apache-2.0
// The steps of the story.
#include "tests/fault/rig_script.h"

#include <fmt/format.h>

#include <algorithm>

#include "store/catalog.h"

namespace hga::rigs {
namespace {

constexpr int kPassing = 2;  // number of the sequence without a session

}  // namespace

RigScript::RigScript(RigDisk* disk, uint64_t seed) : disk_(disk), seed_(seed) {
  config_.slots = 34 + static_cast<int64_t>(seed * 7 % 40);
  config_.single_buffers = 2 + static_cast<int>(seed % 4);
  config_.whole_buffers = 1 + static_cast<int>(seed % 3);
  config_.span = 64 * (1 + static_cast<int>(seed % 3));
  config_.capacity = 1024;
  config_.disk_bytes = seed % 4 == 3 ? int64_t{64} << 20 : 0;
  stretch_ = static_cast<int64_t>(seed * 11 % 37);
}

RigScript::~RigScript() = default;

// Runs of tokens of one age, one after another.
std::vector<int32_t> RigScript::Tokens(const std::vector<std::pair<int64_t, int32_t>>& runs) const {
  std::vector<int32_t> tokens;
  for (const auto& [count, age] : runs) {
    tokens.insert(tokens.end(), static_cast<size_t>(count + stretch_), age);
  }
  return tokens;
}

std::vector<RigScript::Step> RigScript::Steps() {
  const auto prompt = Tokens({{215, 1}});
  const auto other = Tokens({{150, 2}});
  const auto more = Tokens({{215, 1}, {60, 3}});
  const auto other_more = Tokens({{150, 2}, {70, 4}});
  const auto edited = Tokens({{90, 1}, {110, 5}});
  const auto longer = Tokens({{90, 1}, {110, 5}, {75, 6}});
  const auto shorter = Tokens({{90, 1}, {110, 5}, {10, 6}});
  const auto checkpoint = [this] { return engine_->Checkpoint(*saved_); };
  return {
      {"a prompt", [=, this] { return Reach(saved_, prompt); }},
      {"a checkpoint", checkpoint},
      {"another sequence", [=, this] { return Reach(passing_, other); }},
      {"both at once", [=, this] { return ReachBoth(more, other_more); }},
      {"a checkpoint", checkpoint},
      {"reading the other", [this] { return engine_->Verify(*passing_); }},
      {"an edited prompt", [=, this] { return Reach(saved_, edited); }},
      {"a checkpoint", checkpoint},
      {"resuming", [=, this] { return Restart(); }},
      {"going on", [=, this] { return Reach(saved_, longer); }},
      {"a checkpoint", checkpoint},
      {kRepair,
       [=, this] {
         HGA_RETURN_IF_ERROR(Reach(saved_, Tokens({{40, 1}})));
         return Reach(saved_, shorter);
       }},
      {"a checkpoint", checkpoint},
      {"reading all", [this] { return engine_->Verify(*saved_); }},
      {kDelete, [this] { return Delete(); }},
  };
}

Status RigScript::Play(int retries) {
  const std::vector<Step> steps = Steps();
  for (const Step& step : steps) {
    step_ = step.name;
    if (on_step) on_step(step.name);
    repairing_ = repairing_ || step.name == kRepair;
    Status status;
    for (int attempt = 0; attempt <= retries; ++attempt) {
      status = attempt > 0 && attempt == retries ? Restart() : OpenAll();
      if (status.ok()) status = step.take();
      if (status.ok()) break;
      ++retried_;
    }
    HGA_RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

Status RigScript::Restart() {
  saved_.reset();
  passing_.reset();
  engine_.reset();
  return OpenAll();
}

Status RigScript::OpenAll() {
  if (engine_ == nullptr) {
    HGA_ASSIGN_OR_RETURN(engine_, RigEngine::Open(disk_, config_, seed_, &report_));
    engine_->on_checkpoint = [this](const RigSequence& s, bool done) {
      if (on_checkpoint) on_checkpoint(s.tokens, done);
      if (!done) return begun_.push_back(s.tokens);
      acknowledged_ = s.tokens;
      begun_.clear();
      repairing_ = false;
    };
  }
  if (saved_ == nullptr && !deleted_) {
    HGA_ASSIGN_OR_RETURN(saved_, engine_->OpenSession(kNumber, kSession));
  }
  if (passing_ == nullptr) {
    HGA_ASSIGN_OR_RETURN(passing_, engine_->NewSequence(kPassing));
  }
  return OkStatus();
}

Status RigScript::Reach(std::unique_ptr<RigSequence>& sequence,
                        const std::vector<int32_t>& tokens) {
  const auto differs = std::ranges::mismatch(sequence->tokens, tokens).in1;
  const int64_t common = differs - sequence->tokens.begin();
  if (common < sequence->length()) HGA_RETURN_IF_ERROR(engine_->Truncate(*sequence, common));
  return engine_->Feed(*sequence, std::span(tokens).subspan(static_cast<size_t>(common)));
}

// Short pieces of both in each call.
Status RigScript::ReachBoth(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  static constexpr size_t kPiece = 23;
  const auto shares = [](const RigSequence& s, const std::vector<int32_t>& tokens) {
    return s.tokens.size() <= tokens.size() &&
           std::equal(s.tokens.begin(), s.tokens.end(), tokens.begin());
  };
  const auto rest = [](const RigSequence& s, const std::vector<int32_t>& tokens) {
    const auto behind = std::span(tokens).subspan(s.tokens.size());
    return behind.first(std::min(behind.size(), kPiece));
  };
  while (shares(*saved_, a) && shares(*passing_, b)) {
    const RigEngine::Item items[] = {{saved_.get(), rest(*saved_, a)},
                                     {passing_.get(), rest(*passing_, b)}};
    if (items[0].tokens.empty() || items[1].tokens.empty()) break;
    HGA_RETURN_IF_ERROR(engine_->Run(items));
  }
  HGA_RETURN_IF_ERROR(Reach(saved_, a));
  return Reach(passing_, b);
}

Status RigScript::Delete() {
  saved_.reset();
  engine_->space().Drain();
  const Status status = Catalog(&engine_->tiers().io(), disk_->root()).Delete(kSession);
  deleted_ = deleted_ || status.ok();
  // A second attempt may find that the first one had done it.
  return status.code() == StatusCode::kNotFound ? OkStatus() : status;
}

std::string RigScript::CheckClosed() {
  saved_.reset();
  passing_.reset();
  if (engine_ == nullptr) return "";
  engine_->space().Drain();
  CellPool& pool = engine_->tiers().pool();
  std::string text;
  if (pool.slots() != config_.slots || pool.available() != config_.slots || pool.touched() != 0) {
    text = fmt::format("{} slots of {} are available, {} have memory; ", pool.available(),
                       config_.slots, pool.touched());
  }
  engine_.reset();
  if (disk_->simulated() != nullptr && disk_->simulated()->open_files() != 0) {
    text += fmt::format("{} files are open; ", disk_->simulated()->open_files());
  }
  return text;
}

// Without faults: the last checkpoint is there, whole.
std::string RigScript::CheckSaved() {
  const int64_t before = report_.recomputed;
  if (Status status = OpenAll(); !status.ok()) return "reopening: " + status.message();
  if (saved_ == nullptr) return "";
  const int64_t recomputed = report_.recomputed - before;
  if (recomputed > 0 && saved_->tokens == acknowledged_ && !repairing_) {
    return fmt::format("{} tokens of an acknowledged checkpoint were computed again", recomputed);
  }
  const bool begun = std::ranges::find(begun_, saved_->tokens) != begun_.end();
  if (saved_->tokens != acknowledged_ && !begun) {
    return fmt::format("{} tokens came back, {} were acknowledged", saved_->tokens.size(),
                       acknowledged_.size());
  }
  const Status status = engine_->Verify(*saved_);
  return status.ok() ? "" : "reading all: " + status.message();
}

std::string RigScript::End() {
  std::string text = CheckClosed();
  disk_->faults().Set({});
  // Of an interrupted deletion nothing needs to come back.
  if (step_ != kDelete) text += CheckSaved();
  if (Status status = OpenAll(); !status.ok()) text += "at the end: " + status.message();
  if (engine_ != nullptr) {
    if (Status status = Delete(); !status.ok()) text += "deleting: " + status.message();
  }
  text += CheckClosed();
  if (disk_->UsedBytes() != 0) text += fmt::format("{} bytes are left; ", disk_->UsedBytes());
  for (const std::string& name : disk_->Leftovers()) text += name + " is left; ";
  if (report_.wrong != 0) text += fmt::format("{} wrong words: {}", report_.wrong, report_.first);
  return text;
}

}  // namespace hga::rigs
