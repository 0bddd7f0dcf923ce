// SPDX-License-Identifier: Apache-2.0
// Token choice with arithmetic of its own (generator and exponential), so that a seed gives the
// same tokens whatever the standard library.
#include "hga/sampler.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace hga {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): passes BigCrush, any seed is a good one.
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// In [0, 1), 53 bits.
double NextUnit(uint64_t* state) {
  return static_cast<double>(NextRandom(state) >> 11) * 0x1.0p-53;
}

// e^x for x <= 0 in basic operations only: libm's last bit differs between versions.
double ExpOfNegative(double x) {
  if (!(x > -708.0)) return 0;
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double k = std::floor(x * kLog2E + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;  // |r| <= 0.35
  constexpr double kInverseFactorials[] = {1.0,
                                           1.0,
                                           1.0 / 2,
                                           1.0 / 6,
                                           1.0 / 24,
                                           1.0 / 120,
                                           1.0 / 720,
                                           1.0 / 5040,
                                           1.0 / 40320,
                                           1.0 / 362880,
                                           1.0 / 3628800,
                                           1.0 / 39916800,
                                           1.0 / 479001600};
  double sum = 0;
  for (int i = 12; i >= 0; --i) sum = sum * r + kInverseFactorials[i];  // error below 1e-15
  return std::ldexp(sum, static_cast<int>(k));
}

bool Before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

Status CheckRange(const char* name, double value, double low, double high, bool low_open) {
  const bool inside = (low_open ? value > low : value >= low) && value <= high;  // false for NaN
  if (inside) return OkStatus();
  return InvalidArgument(
      fmt::format("{} is {}, must be in {}{}, {}]", name, value, low_open ? '(' : '[', low, high));
}

}  // namespace

Status Validate(const SamplingOptions& options) {
  HGA_RETURN_IF_ERROR(CheckRange("temperature", options.temperature, 0, 100, false));
  if (options.top_k < 0) {
    return InvalidArgument(fmt::format("top_k is {}, must be 0 (off) or more", options.top_k));
  }
  HGA_RETURN_IF_ERROR(CheckRange("top_p", options.top_p, 0, 1, true));
  HGA_RETURN_IF_ERROR(CheckRange("min_p", options.min_p, 0, 1, false));
  HGA_RETURN_IF_ERROR(CheckRange("repetition_penalty", options.repetition_penalty, 0, 100, true));
  HGA_RETURN_IF_ERROR(CheckRange("presence_penalty", options.presence_penalty, -2, 2, false));
  HGA_RETURN_IF_ERROR(CheckRange("frequency_penalty", options.frequency_penalty, -2, 2, false));
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0) return InvalidArgument(fmt::format("logit_bias has token id {}, below 0", id));
    HGA_RETURN_IF_ERROR(
        CheckRange(fmt::format("logit_bias of token {}", id).c_str(), bias, -100, 100, false));
  }
  return OkStatus();
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), state_(options.seed) {}

std::vector<std::byte> Sampler::state() const {
  std::vector<std::byte> bytes;
  for (int shift = 0; shift < 64; shift += 8) {
    bytes.push_back(static_cast<std::byte>(state_ >> shift & 0xff));
  }
  return bytes;
}

Status Sampler::set_state(std::span<const std::byte> state) {
  if (state.size() != sizeof(state_)) {
    return InvalidArgument(fmt::format("a sampler's state has {} bytes, this one has {}",
                                       sizeof(state_), state.size()));
  }
  state_ = 0;
  for (size_t i = 0; i < state.size(); ++i) {
    state_ |= static_cast<uint64_t>(state[i]) << (8 * i);
  }
  return OkStatus();
}

void Sampler::Penalise(std::span<const int32_t> prompt, std::span<const int32_t> answer) {
  const auto vocab = static_cast<int32_t>(logits_.size());
  for (const auto& [id, bias] : options_.logit_bias) {
    if (id < vocab) logits_[id] = static_cast<float>(logits_[id] + bias);
  }
  const bool repetition = options_.repetition_penalty != 1;
  if (!repetition && options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
  counts_.assign(logits_.size(), 0);
  const auto known = [vocab](int32_t id) { return id >= 0 && id < vocab; };
  for (int32_t id : prompt) {
    if (known(id)) counts_[id] = -1;
  }
  for (int32_t id : answer) {
    if (known(id)) counts_[id] = std::max(counts_[id], 0) + 1;
  }
  for (int32_t id = 0; id < vocab; ++id) {
    if (counts_[id] == 0) continue;
    double logit = logits_[id];
    if (repetition) {
      logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    }
    if (counts_[id] > 0) {
      logit -= options_.presence_penalty + options_.frequency_penalty * counts_[id];
    }
    logits_[id] = static_cast<float>(logit);
  }
}

// NaN is never chosen.
void Sampler::Forbid(std::span<const uint64_t> allowed) {
  for (size_t id = 0; id < logits_.size(); ++id) {
    const bool is_allowed = id / 64 < allowed.size() && (allowed[id / 64] >> (id % 64) & 1) != 0;
    if (!is_allowed) logits_[id] = std::numeric_limits<float>::quiet_NaN();
  }
}

double Sampler::Weight(float logit) const {
  return ExpOfNegative((static_cast<double>(logit) - best_) / options_.temperature);
}

// Puts the best `count` candidates first, in order. Returns the sum of their weights.
double Sampler::SortHead(size_t count) {
  const auto middle = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
  if (middle != candidates_.end()) {
    std::nth_element(candidates_.begin(), middle, candidates_.end(), Before);
  }
  std::sort(candidates_.begin(), middle, Before);
  double sum = 0;
  for (auto it = candidates_.begin(); it != middle; ++it) sum += Weight(it->first);
  return sum;
}

// Keeps the fewest best candidates that hold top_p of the probability. Sorting grows from a small
// head because the nucleus is nearly always short beside the vocabulary.
void Sampler::KeepTopP() {
  double total = 0;
  for (const Candidate& c : candidates_) total += Weight(c.first);
  const double wanted = options_.top_p * total;
  size_t head = std::min<size_t>(256, candidates_.size());
  while (SortHead(head) < wanted && head < candidates_.size()) {
    head = std::min(candidates_.size(), head * 8);
  }
  double sum = 0;
  size_t kept = 0;
  while (kept < head && sum < wanted) sum += Weight(candidates_[kept++].first);
  candidates_.resize(std::max<size_t>(kept, 1));
}

int32_t Sampler::Draw() {
  double total = 0;
  for (const Candidate& c : candidates_) total += Weight(c.first);
  const double target = NextUnit(&state_) * total;
  double sum = 0;
  for (const Candidate& c : candidates_) {
    sum += Weight(c.first);
    if (sum > target) return c.second;
  }
  return candidates_.front().second;
}

int32_t Sampler::Sample(std::span<const float> logits, std::span<const int32_t> prompt,
                        std::span<const int32_t> answer, std::span<const uint64_t> allowed) {
  logits_.assign(logits.begin(), logits.end());
  Penalise(prompt, answer);
  if (!allowed.empty()) Forbid(allowed);
  int32_t best_id = -1;
  for (size_t id = 0; id < logits_.size(); ++id) {
    if (std::isnan(logits_[id])) continue;
    if (best_id < 0 || logits_[id] > logits_[best_id]) best_id = static_cast<int32_t>(id);
  }
  if (best_id < 0) return -1;
  best_ = logits_[best_id];
  if (options_.temperature == 0 || options_.top_k == 1 || std::isinf(best_)) return best_id;

  candidates_.clear();
  for (size_t id = 0; id < logits_.size(); ++id) {
    if (logits_[id] > -std::numeric_limits<float>::infinity()) {  // false for NaN
      candidates_.emplace_back(logits_[id], static_cast<int32_t>(id));
    }
  }
  const auto top_k = static_cast<size_t>(options_.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    SortHead(top_k);
    candidates_.resize(top_k);
  }
  if (options_.top_p < 1) KeepTopP();
  if (options_.min_p > 0) {
    std::erase_if(candidates_,
                  [this](const Candidate& c) { return Weight(c.first) < options_.min_p; });
  }
  return Draw();
}

}  // namespace hga
