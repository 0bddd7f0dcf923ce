// SPDX-License-Identifier: Apache-2.0
// The keywords of JSON schema that are understood, and the shape their values must have.
#ifndef HGA_ENGINE_CONSTRAINT_KEYWORDS_H_
#define HGA_ENGINE_CONSTRAINT_KEYWORDS_H_

#include <string>

#include "engine/constraint_schema.h"
#include "hga/status.h"

namespace hga {

// kUnsupported for a keyword that is not understood and could forbid a value; kInvalidArgument for
// values of the wrong shape. `where` starts each message. `is_root`: $id is allowed.
Status CheckKeywords(const Json& node, const std::string& where, bool is_root);
// Whether the node says anything beside annotations and applicators.
bool Restricts(const Json& node);

}  // namespace hga

#endif  // HGA_ENGINE_CONSTRAINT_KEYWORDS_H_
