// SPDX-License-Identifier: Apache-2.0
// How strings, numbers and blanks are written in JSON, as parts of rules.
#ifndef HGA_ENGINE_CONSTRAINT_JSON_H_
#define HGA_ENGINE_CONSTRAINT_JSON_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/constraint_chars.h"
#include "engine/constraint_machine.h"
#include "hga/status.h"

namespace hga {

// Rules that every grammar shares; made in a machine when they are first asked for. A returned -1
// means too many rules, and the machine's SetRule of the caller's draft will not be reached: see
// status().
class JsonRules {
 public:
  explicit JsonRules(Machine* machine) : machine_(*machine) {}

  // One space, or a line break with up to 20 spaces or 10 tabs.
  int Blanks() { return Get(kBlanks); }
  int String() { return Get(kString); }    // any, with its quotes
  int Number() { return Get(kNumber); }    // up to 15 digits, 15 decimals and a short exponent
  int Integer() { return Get(kInteger); }  // up to 18 digits
  // Adds blanks or nothing; returns the state behind them.
  int AddBlanks(RuleDraft* draft, int from);
  // A string of `least` to `most` (< 0: without end) characters, however they are written.
  void AddSized(RuleDraft* draft, int from, int64_t least, int64_t most, int to);
  // The texts of `dfa` and a closing quote, each written in one way only: as itself, or, where it
  // must be escaped, in the short form or with lower-case digits.
  void AddChars(RuleDraft* draft, int from, const CharDfa& dfa, int to);
  // The first error of any rule.
  const Status& status() const { return status_; }

 private:
  enum Kind { kBlanks, kString, kNumber, kInteger, kBeyondAscii, kEscape, kLongChar, kKinds };

  int Get(Kind kind);
  void Fill(Kind kind, RuleDraft* draft);
  void AddSet(RuleDraft* draft, int from, const CharSet& set, int to);

  Machine& machine_;
  std::array<int, kKinds> rules_ = [] {
    std::array<int, kKinds> none;
    none.fill(-1);
    return none;
  }();
  Status status_;
};

// Whole multiples of 10^-decimals from `low` to `high` (in these units) in plain decimal notation
// with at most `digits` digits before the point. digits + decimals <= 18.
struct DecimalRange {
  int64_t low, high;
  int digits, decimals;
};
void AddDecimals(RuleDraft* draft, int from, const DecimalRange& range, int to);

// `text` in quotes, written as AddChars does.
std::string QuoteJson(std::string_view text);

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_JSON_H_
