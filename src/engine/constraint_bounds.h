// SPDX-License-Identifier: Apache-2.0
// minimum, maximum and their exclusive forms as exact decimal bounds.
#ifndef HGA_ENGINE_CONSTRAINT_BOUNDS_H_
#define HGA_ENGINE_CONSTRAINT_BOUNDS_H_

#include <optional>

#include "engine/constraint_json.h"
#include "engine/constraint_schema.h"
#include "hga/status.h"

namespace hga {

// The numbers that all of `nodes` allow; nothing where no node has a bound. low > high: none.
// `whole`: integers only. Else numbers have at most 15 digits, so that decimals that differ are
// doubles that differ. kUnsupported for bounds out of reach of such numbers.
Result<std::optional<DecimalRange>> NumbersOf(const Conjunction& nodes, bool whole,
                                              const Schema& schema);
// Whether `value`, a number, keeps the bounds of all of `nodes`.
bool KeepsBounds(const Conjunction& nodes, const Json& value);

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_BOUNDS_H_
