// SPDX-License-Identifier: Apache-2.0
// Power cuts at every write and sync of a story: the store opens, the newest acknowledged
// checkpoint is there with all of its records, and whatever is read is right. HGA_CRASH_STATES=N:
// states in all (2,000). HGA_CRASH_AT, as failures print it, checks one.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>

#include "tests/fault/rig_script.h"

namespace hga::rigs {
namespace {

constexpr int64_t kStatesOfAStory = 500;

struct State {
  size_t event = 0;
  CrashChoice choice;
};

// A story, and what was promised when.
class Story {
 public:
  explicit Story(uint64_t seed) : seed_(seed) {
    SimOptions options;
    options.seed = seed;
    disk_ = std::make_unique<RigDisk>(std::make_unique<SimDisk>(options));
    RigScript script(disk_.get(), seed);
    script.on_checkpoint = [this](const std::vector<int32_t>& tokens, bool done) {
      if (!done) return checkpoints_.push_back({events(), kNever, kNever, tokens});
      checkpoints_.back().acknowledged = events();
    };
    script.on_step = [this](std::string_view step) {
      if (step == RigScript::kRepair) checkpoints_.back().repaired = events();
      if (step == RigScript::kDelete) deleted_ = events();
    };
    const Status status = script.Play(0);
    EXPECT_TRUE(status.ok()) << status.message();
    end_ = events();
    EXPECT_EQ(script.End(), "");
  }

  uint64_t seed() const { return seed_; }

  // Every combination of moment and choice, in random order.
  std::vector<State> States() const {
    std::vector<State> states;
    for (size_t event = 0; event <= end_; ++event) {
      const int pending = disk_->simulated()->Pending(event);
      for (const int64_t tear : {0, 512, 4096}) {
        states.push_back({event, {CrashKeep::kAll, 0, event, tear}});
        if (tear == 0) states.push_back({event, {CrashKeep::kNone, 0, event, tear}});
        for (int which = 0; which < pending; ++which) {
          states.push_back({event, {CrashKeep::kOne, which, event, tear}});
          states.push_back({event, {CrashKeep::kAllBut, which, event, tear}});
        }
        for (uint64_t s = 0; s < 6 && pending > 1; ++s) {
          states.push_back({event, {CrashKeep::kRandom, 0, event * 100 + s, tear}});
        }
      }
    }
    std::mt19937_64 random(seed_);
    std::ranges::shuffle(states, random);
    return states;
  }

  // What does not hold after the cut; empty if all does.
  std::string Check(const State& state, int64_t* recomputed) const {
    RigDisk disk(disk_->simulated()->CrashImage(state.event, state.choice));
    RigReport report;
    auto engine = RigEngine::Open(&disk, {}, state.event, &report);
    if (!engine.ok()) return "the store: " + engine.status().message();
    auto opened = (*engine)->OpenSession(RigScript::kNumber, RigScript::kSession);
    if (!opened.ok()) return "the session: " + opened.status().message();
    RigSequence& s = **opened;
    *recomputed += report.recomputed;
    std::string text = CheckTokens(state.event, s.tokens, report.recomputed);
    // It is read, and goes on.
    Status status = (*engine)->Verify(s);
    if (status.ok()) status = (*engine)->Feed(s, std::vector<int32_t>(90, kMostAge));
    if (status.ok()) status = (*engine)->Checkpoint(s);
    if (status.ok()) status = (*engine)->Verify(s);
    if (!status.ok()) text += "going on: " + status.message();
    if (report.wrong != 0) text += report.first;
    return text;
  }

 private:
  static constexpr size_t kNever = ~size_t{0};
  struct Moments {
    size_t begun, acknowledged;
    size_t repaired;  // from here on some of its records may be between two states
    std::vector<int32_t> tokens;
  };

  size_t events() const { return disk_->simulated()->events(); }

  std::string CheckTokens(size_t event, const std::vector<int32_t>& tokens,
                          int64_t recomputed) const {
    if (event >= deleted_ && tokens.empty()) return "";
    // The newest that was acknowledged, and those begun since.
    size_t first = checkpoints_.size();
    for (size_t i = 0; i < checkpoints_.size(); ++i) {
      if (checkpoints_[i].acknowledged <= event) first = i;
    }
    if (first == checkpoints_.size()) {
      if (tokens.empty()) return "";
      first = 0;
    }
    for (size_t i = first; i < checkpoints_.size() && checkpoints_[i].begun <= event; ++i) {
      const Moments& moments = checkpoints_[i];
      if (moments.tokens != tokens) continue;
      const bool whole = moments.acknowledged <= event && event < moments.repaired;
      if (!whole || recomputed == 0) return "";
      return fmt::format("{} tokens of an acknowledged checkpoint were computed again", recomputed);
    }
    return fmt::format("{} tokens came back", tokens.size());
  }

  uint64_t seed_;
  std::unique_ptr<RigDisk> disk_;
  std::vector<Moments> checkpoints_;
  size_t deleted_ = kNever;
  size_t end_ = 0;
};

std::string NameOf(uint64_t seed, const State& state) {
  const CrashChoice& c = state.choice;
  return fmt::format("HGA_CRASH_AT=\"{} {} {} {} {} {}\"", seed, state.event,
                     static_cast<int>(c.keep), c.which, c.seed, c.tear);
}

TEST(CrashStates, NoAcknowledgedCheckpointIsLost) {
  if (getenv("HGA_CRASH_AT") != nullptr) GTEST_SKIP() << "one state is wanted";
  const int64_t wanted = FromEnvironment("HGA_CRASH_STATES", 2000);
  const int64_t of_a_story = std::max(kStatesOfAStory, wanted / 20);
  int64_t states = 0, recomputed = 0, stories = 0;
  for (uint64_t seed = 1; states < wanted && !HasFailure(); ++seed, ++stories) {
    const Story story(seed);
    int64_t left = std::min(of_a_story, wanted - states);
    for (const State& state : story.States()) {
      if (left-- == 0 || HasFailure()) break;
      ++states;
      EXPECT_EQ(story.Check(state, &recomputed), "") << NameOf(seed, state);
    }
  }
  std::printf("%lld crash states of %lld stories, %lld tokens computed again\n",
              static_cast<long long>(states), static_cast<long long>(stories),
              static_cast<long long>(recomputed));
}

TEST(CrashStates, OneState) {
  const char* text = getenv("HGA_CRASH_AT");
  if (text == nullptr) GTEST_SKIP() << "checks the state of HGA_CRASH_AT";
  unsigned long long seed = 0, event = 0, choice_seed = 0;
  int keep = 0, which = 0;
  long long tear = 0;
  ASSERT_EQ(
      sscanf(text, "%llu %llu %d %d %llu %lld", &seed, &event, &keep, &which, &choice_seed, &tear),
      6);
  int64_t recomputed = 0;
  const State state{event, {static_cast<CrashKeep>(keep), which, choice_seed, tear}};
  EXPECT_EQ(Story(seed).Check(state, &recomputed), "") << NameOf(seed, state);
}

}  // namespace
}  // namespace hga::rigs
