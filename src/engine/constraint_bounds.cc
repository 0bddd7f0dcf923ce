// SPDX-License-Identifier: Apache-2.0
// Bounds in decimal: a number's text is compared, so that no rounding lets a value slip through.
#include "engine/constraint_bounds.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>

namespace hga {
namespace {

constexpr int kWholeDigits = 18;
constexpr int kNumberDigits = 15;
constexpr int kUsualDigits = 9;  // in front of the point where only one side is bound

// sign * digits * 10^exponent; the shortest decimal that is the number.
struct Decimal {
  bool is_negative = false;
  std::string digits;  // without leading zeros; "" is zero
  int exponent = 0;
};

Decimal ReadDecimal(const Json& number) {
  const std::string text =
      number.is_number_float() ? fmt::format("{}", number.get<double>()) : number.dump();
  Decimal decimal;
  size_t at = 0;
  if (text[at] == '-') decimal.is_negative = true, ++at;
  bool behind_point = false;
  for (; at < text.size() && text[at] != 'e'; ++at) {
    if (text[at] == '.') {
      behind_point = true;
      continue;
    }
    if (!decimal.digits.empty() || text[at] != '0') decimal.digits += text[at];
    if (behind_point) --decimal.exponent;
  }
  if (at < text.size()) decimal.exponent += std::stoi(text.substr(at + 1));
  return decimal;
}

// The whole number of units of 10^-decimals at or next to the bound on its inner side; beyond
// `limit` it is limit + 1 or its opposite.
int64_t InUnits(const Decimal& bound, int decimals, bool is_low, bool exclusive, int64_t limit) {
  std::string digits = bound.digits;
  const int shift = bound.exponent + decimals;
  bool is_exact = true;
  if (shift < 0) {
    const size_t cut = std::min(digits.size(), static_cast<size_t>(-shift));
    is_exact = digits.find_first_not_of('0', digits.size() - cut) == digits.npos;
    digits.resize(digits.size() - cut);
  } else if (!digits.empty()) {
    digits.append(static_cast<size_t>(std::min(shift, 20)), '0');
  }
  int64_t size = limit + 1;
  if (digits.size() <= kWholeDigits) size = digits.empty() ? 0 : std::stoll(digits);
  size = std::min(size, limit + 1);
  int64_t units = bound.is_negative ? -size : size;
  // Cutting moved the value towards zero.
  if (!is_exact && is_low && !bound.is_negative) return units + 1;
  if (!is_exact && !is_low && bound.is_negative) return units - 1;
  if (is_exact && exclusive) units += is_low ? 1 : -1;
  return units;
}

int DigitsBeforePoint(const Decimal& decimal) {
  return std::max(1, static_cast<int>(decimal.digits.size()) + decimal.exponent);
}

struct Bound {
  Decimal value;
  const Json* node;
  bool is_low, exclusive;
};

std::vector<Bound> BoundsOf(const Conjunction& nodes) {
  std::vector<Bound> bounds;
  for (const Json* node : nodes) {
    for (const auto& [name, is_low, exclusive] :
         {std::tuple("minimum", true, false), std::tuple("exclusiveMinimum", true, true),
          std::tuple("maximum", false, false), std::tuple("exclusiveMaximum", false, true)}) {
      const auto bound = node->find(name);
      if (bound != node->end()) bounds.push_back({ReadDecimal(*bound), node, is_low, exclusive});
    }
  }
  return bounds;
}

}  // namespace

Result<std::optional<DecimalRange>> NumbersOf(const Conjunction& nodes, bool whole,
                                              const Schema& schema) {
  const std::vector<Bound> bounds = BoundsOf(nodes);
  if (bounds.empty()) return std::optional<DecimalRange>();
  DecimalRange range{0, 0, kWholeDigits, 0};
  if (!whole) {
    int digits = 1;
    bool has_low = false, has_high = false;
    for (const Bound& bound : bounds) {
      digits = std::max(digits, std::min(DigitsBeforePoint(bound.value), kNumberDigits));
      (bound.is_low ? has_low : has_high) = true;
    }
    if (!has_low || !has_high) digits = std::max(digits, kUsualDigits);
    range.digits = digits;
    range.decimals = kNumberDigits - digits;
  }
  int64_t limit = 9;
  for (int i = 1; i < range.digits + range.decimals; ++i) limit = limit * 10 + 9;
  range.low = -limit;
  range.high = limit;
  for (const Bound& bound : bounds) {
    const int64_t units =
        InUnits(bound.value, range.decimals, bound.is_low, bound.exclusive, limit);
    if (bound.is_low ? units > limit : units < -limit) {
      return Unsupported(
          fmt::format("{}: numbers beyond a bound of more than {} digits are not supported",
                      schema.Where(*bound.node), range.digits));
    }
    if (bound.is_low) {
      range.low = std::max(range.low, units);
    } else {
      range.high = std::min(range.high, units);
    }
  }
  return std::optional(range);
}

bool KeepsBounds(const Conjunction& nodes, const Json& value) {
  // Holds every 64-bit integer and every double.
  const auto as_real = [](const Json& number) -> long double {
    if (number.is_number_unsigned()) return static_cast<long double>(number.get<uint64_t>());
    if (number.is_number_integer()) return static_cast<long double>(number.get<int64_t>());
    return static_cast<long double>(number.get<double>());
  };
  const long double real = as_real(value);
  for (const Json* node : nodes) {
    const auto has = [node](const char* name) { return node->contains(name); };
    if (has("minimum") && real < as_real((*node)["minimum"])) return false;
    if (has("exclusiveMinimum") && real <= as_real((*node)["exclusiveMinimum"])) return false;
    if (has("maximum") && real > as_real((*node)["maximum"])) return false;
    if (has("exclusiveMaximum") && real >= as_real((*node)["exclusiveMaximum"])) return false;
  }
  return true;
}

}  // namespace hga
