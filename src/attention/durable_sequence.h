// SPDX-License-Identifier: Apache-2.0
// What a sequence of a session keeps up to date so that a checkpoint can be taken at any time.
#ifndef HGA_ATTENTION_DURABLE_SEQUENCE_H_
#define HGA_ATTENTION_DURABLE_SEQUENCE_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hga/engine.h"
#include "hga/status.h"
#include "store/history.h"
#include "store/session.h"

namespace hga {

// Of a model, as sessions remember it. `weights` is ModelWeights::Fingerprint.
SessionIdentity MakeIdentity(const HistoryShape& shape, std::string_view config_json,
                             std::string_view tokenizer_json,
                             const std::array<uint8_t, 16>& weights);

class DurableSequence {
 public:
  // With what the session was saved with.
  DurableSequence(SessionFiles files, std::vector<SpanRun> spans, std::vector<RuleRun> rules,
                  std::vector<int32_t> tokens);

  int data_file() const { return files_.data_file(); }
  const std::string& directory() const { return files_.directory(); }
  uint64_t next_generation() const { return files_.next_generation(); }
  // Before `next` follows the first `length` tokens: whether a checkpoint must say first that what
  // was saved behind them no longer counts, since other records will overwrite it.
  bool MustPublish(int64_t length, std::span<const int32_t> next) const;

  // The tokens from `length` on are forgotten.
  void Cut(int64_t length);
  // `tokens` more were computed in one span under the rules described by `rule`.
  void Extend(int64_t tokens, const std::string& rule);
  // Errors as SessionFiles::Checkpoint. Nothing may be under way on the disk.
  Status Checkpoint(std::span<const int32_t> tokens, const SessionNote& note, KvHistory* history);

 private:
  SessionFiles files_;
  std::vector<SpanRun> spans_;
  std::vector<RuleRun> rules_;
  std::vector<int32_t> saved_;  // tokens of the last checkpoint
  int64_t changed_from_ = 0;    // first chunk that may differ from the last checkpoint
};

}  // namespace hga

#endif  // HGA_ATTENTION_DURABLE_SEQUENCE_H_
