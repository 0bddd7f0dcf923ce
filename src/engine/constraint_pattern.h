// SPDX-License-Identifier: Apache-2.0
// The regular part of ECMA 262 patterns, and the formats that are understood, as automata.
#ifndef HGA_ENGINE_CONSTRAINT_PATTERN_H_
#define HGA_ENGINE_CONSTRAINT_PATTERN_H_

#include <optional>
#include <string_view>

#include "engine/constraint_chars.h"

namespace hga {

// Texts in which `pattern` (UTF-8) is found. Literals, `.`, classes, \d \w \s and their opposites,
// groups, `|`, quantifiers, ^ at the start and $ at the end of a branch of the whole pattern;
// anything else is kUnsupported, named with its offset. Where engines differ in what a class holds
// (ASCII or Unicode), only what all of them hold is taken. `where` starts each message; `work` as
// for Determinise.
Result<CharDfa> CompilePattern(std::string_view pattern, std::string_view where, int64_t* work);

// A pattern for the `format` keyword: date, time, date-time, uuid; nothing for others.
std::optional<std::string_view> PatternOfFormat(std::string_view format);

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_PATTERN_H_
