// SPDX-License-Identifier: Apache-2.0
// What the tests of constraints share: grammars over single bytes, fed byte by byte.
#ifndef HGA_TESTS_UNIT_CONSTRAINT_FIXTURE_H_
#define HGA_TESTS_UNIT_CONSTRAINT_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "hga/constraint.h"
#include "tests/byte_tokenizer.h"

namespace hga {

inline std::shared_ptr<const Grammar::Vocabulary> Bytes() {
  static const auto vocabulary = Grammar::MakeVocabulary(ByteTokenizer()).value();
  return vocabulary;
}

inline bool IsAllowed(Constraint& constraint, int32_t id) {
  return (constraint.Allowed()[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
}

// Feeds bytes; at each the mask must say what Accept does.
inline bool Fits(const Grammar& grammar, std::string_view text) {
  const auto constraint = grammar.Start();
  for (const char c : text) {
    const int32_t id = static_cast<unsigned char>(c);
    const bool allowed = IsAllowed(*constraint, id);
    EXPECT_EQ(constraint->Accept(id).ok(), allowed) << text;
    if (!allowed) return false;
  }
  return constraint->MayEnd();
}

inline std::shared_ptr<const Grammar> Make(std::string_view schema) {
  auto grammar = Grammar::JsonSchema(Bytes(), schema);
  EXPECT_TRUE(grammar.ok()) << schema << ": " << grammar.status().message();
  return grammar.ok() ? *grammar : nullptr;
}

}  // namespace hga

#endif  // HGA_TESTS_UNIT_CONSTRAINT_FIXTURE_H_
