// SPDX-License-Identifier: Apache-2.0
// Mutations that keep JSON mostly well-formed, so that fuzzing gets past the syntax: a sound
// document to start from, words of the format put in, numbers replaced by awkward ones.
#ifndef HGA_TESTS_FUZZ_JSON_MUTATOR_H_
#define HGA_TESTS_FUZZ_JSON_MUTATOR_H_

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <string_view>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace hga {

inline constexpr std::string_view kNumbers[] = {"0",
                                                "1",
                                                "-1",
                                                "128",
                                                "4.0",
                                                "1e1",
                                                "1e308",
                                                "2147483648",
                                                "4294967296",
                                                "281474976710656",
                                                "9223372036854775807",
                                                "18446744073709551615",
                                                "18446744073709551616"};

// Puts `word` over the run of digits at or after `at`, or in there if there is none.
inline void ReplaceNumber(std::string& text, size_t at, std::string_view word) {
  while (at < text.size() && !std::isdigit(static_cast<unsigned char>(text[at]))) ++at;
  size_t end = at;
  while (end < text.size() && std::isdigit(static_cast<unsigned char>(text[end]))) ++end;
  text.replace(at, end - at, word);
}

// Copies some piece of the text to another place: doubled keys, nested parts.
inline void CopyPiece(std::string& text, std::mt19937& random) {
  if (text.empty()) return;
  const size_t from = random() % text.size();
  const std::string piece = text.substr(from, random() % 64);
  text.insert(random() % text.size(), piece);
}

// For LLVMFuzzerCustomMutator. `keep` leading bytes choose the target and are mutated as bytes.
inline size_t MutateJson(uint8_t* data, size_t size, size_t max_size, unsigned seed, size_t keep,
                         std::span<const std::string_view> words,
                         std::span<const std::string_view> documents) {
  std::mt19937 random(seed);
  const unsigned choice = random() % 8;
  if (choice < 3 || size < keep) return LLVMFuzzerMutate(data, size, max_size);
  std::string text(reinterpret_cast<char*>(data) + keep, size - keep);
  const size_t at = text.empty() ? 0 : random() % text.size();
  if (text.size() < 2 || choice == 3) {
    text = documents[random() % documents.size()];
  } else if (choice == 4) {
    ReplaceNumber(text, at, kNumbers[random() % std::size(kNumbers)]);
  } else if (choice == 5) {
    CopyPiece(text, random);
  } else {
    text.insert(at, words[random() % words.size()]);
  }
  if (text.size() + keep > max_size) text.resize(max_size - keep);
  std::memcpy(data + keep, text.data(), text.size());
  return keep + text.size();
}

}  // namespace hga

#endif  // HGA_TESTS_FUZZ_JSON_MUTATOR_H_
