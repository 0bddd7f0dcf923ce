// SPDX-License-Identifier: Apache-2.0
// A fixed story that uses all a store does: spill, reload, evict, prefetch, save, cut, resume,
// delete. Each step says what shall be, so that it can be taken again after it failed.
#ifndef HGA_TESTS_FAULT_RIG_SCRIPT_H_
#define HGA_TESTS_FAULT_RIG_SCRIPT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/fault/rig_engine.h"

namespace hga::rigs {

class RigScript {
 public:
  // `seed` chooses lengths, slots and buffers. The disk outlives it.
  RigScript(RigDisk* disk, uint64_t seed);
  ~RigScript();

  // Takes the steps one after another. One that fails is taken again `retries` times, the last time
  // by a program that was started anew. Returns the error it ended with.
  Status Play(int retries);
  // Closes everything, works without faults from here on, and says what is not as it must be:
  // slots or bytes that were not given back, a checkpoint that is lost. Empty if all is well.
  std::string End();

  const RigReport& report() const { return report_; }
  const std::string& step() const { return step_; }  // taken last
  int64_t retried() const { return retried_; }
  // Told of each checkpoint of the session: its tokens, and whether it is acknowledged already.
  std::function<void(const std::vector<int32_t>&, bool)> on_checkpoint;
  // Told of each step before it is taken.
  std::function<void(std::string_view)> on_step;

  static constexpr const char* kSession = "story";
  static constexpr int kNumber = 1;  // of the session's sequence
  // Steps after which less than a whole checkpoint may come back: records of the same tokens are
  // written again, the session goes.
  static constexpr std::string_view kRepair = "cutting and the same again", kDelete = "deleting";

 private:
  struct Step {
    std::string_view name;
    std::function<Status()> take;
  };
  std::vector<Step> Steps();
  Status Restart();
  Status OpenAll();
  // The sequence gets exactly these tokens.
  Status Reach(std::unique_ptr<RigSequence>& sequence, const std::vector<int32_t>& tokens);
  Status ReachBoth(const std::vector<int32_t>& a, const std::vector<int32_t>& b);
  Status Delete();
  std::string CheckClosed();
  std::string CheckSaved();
  std::vector<int32_t> Tokens(const std::vector<std::pair<int64_t, int32_t>>& runs) const;

  RigDisk* disk_;
  RigConfig config_;
  uint64_t seed_;
  int64_t stretch_;  // of all lengths
  RigReport report_;
  std::unique_ptr<RigEngine> engine_;
  std::unique_ptr<RigSequence> saved_, passing_;
  std::vector<int32_t> acknowledged_;
  std::vector<std::vector<int32_t>> begun_;  // since then
  bool deleted_ = false;
  bool repairing_ = false;  // records of the last checkpoint may be between two states
  std::string step_;
  int64_t retried_ = 0;
};

}  // namespace hga::rigs

#endif  // HGA_TESTS_FAULT_RIG_SCRIPT_H_
