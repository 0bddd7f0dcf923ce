// SPDX-License-Identifier: Apache-2.0
// Hugging Face model ids resolved in the local cache, without a network.
#ifndef HGA_MODEL_HF_CACHE_H_
#define HGA_MODEL_HF_CACHE_H_

#include <string>
#include <string_view>

#include "hga/status.h"

namespace hga {

// HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
// HOME/.cache/huggingface/hub; "" when none of them is set.
std::string HuggingFaceCacheDirectory();

// Whether `text` could be a model id: NAME or ORG/NAME.
bool IsModelId(std::string_view text);

// The snapshot directory of a model id under `cache` (models--ORG--NAME/snapshots/COMMIT).
// `revision` is a branch, a tag or a 40-digit commit; "" is "main". kNotFound gives the `hf
// download` line; kInvalidArgument for a malformed id, revision or ref file.
Result<std::string> ResolveInCache(const std::string& cache, const std::string& id,
                                   const std::string& revision);

}  // namespace hga

#endif  // HGA_MODEL_HF_CACHE_H_
