// SPDX-License-Identifier: Apache-2.0
// Answers that one of two grammars describes: both are followed until one alone is left.
#include <algorithm>
#include <array>
#include <utility>

#include "hga/constraint.h"

namespace hga {
namespace {

class EitherConstraint final : public Constraint {
 public:
  explicit EitherConstraint(std::array<std::unique_ptr<Constraint>, 2> states)
      : states_(std::move(states)) {}

  std::span<const uint64_t> Allowed() override {
    if (states_[0] == nullptr) return states_[1]->Allowed();
    if (states_[1] == nullptr) return states_[0]->Allowed();
    const std::span<const uint64_t> first = states_[0]->Allowed();
    const std::span<const uint64_t> second = states_[1]->Allowed();
    bits_.resize(first.size());  // both are of one vocabulary
    std::ranges::transform(first, second, bits_.begin(),
                           [](uint64_t a, uint64_t b) { return a | b; });
    return bits_;
  }

  bool MayEnd() const override {
    return std::ranges::any_of(
        states_, [](const auto& state) { return state != nullptr && state->MayEnd(); });
  }

  Status Accept(int32_t id) override {
    std::array<bool, 2> taken{};
    Status refused;
    for (size_t i = 0; i < states_.size(); ++i) {
      if (states_[i] == nullptr) continue;
      const Status status = states_[i]->Accept(id);
      taken[i] = status.ok();
      if (!taken[i]) refused = status;
    }
    if (!taken[0] && !taken[1]) return refused;
    for (size_t i = 0; i < states_.size(); ++i) {
      if (!taken[i]) states_[i].reset();
    }
    return OkStatus();
  }

 private:
  std::array<std::unique_ptr<Constraint>, 2> states_;  // null: ruled out; never both
  std::vector<uint64_t> bits_;
};

class EitherGrammar final : public Grammar {
 public:
  EitherGrammar(std::shared_ptr<const Grammar> a, std::shared_ptr<const Grammar> b)
      : a_(std::move(a)), b_(std::move(b)) {}

  std::unique_ptr<Constraint> Start() const override {
    return std::make_unique<EitherConstraint>(
        std::array<std::unique_ptr<Constraint>, 2>{a_->Start(), b_->Start()});
  }

 private:
  const std::shared_ptr<const Grammar> a_, b_;
};

}  // namespace

std::shared_ptr<const Grammar> Grammar::Either(std::shared_ptr<const Grammar> a,
                                               std::shared_ptr<const Grammar> b) {
  return std::make_shared<EitherGrammar>(std::move(a), std::move(b));
}

}  // namespace hga
