// SPDX-License-Identifier: Apache-2.0
// The public facts of a checkpoint from its configuration.
#ifndef HGA_MODEL_MODEL_INFO_H_
#define HGA_MODEL_MODEL_INFO_H_

#include "hga/engine.h"
#include "model/model_config.h"

namespace hga {

// Everything config.json says; directory, weight format and sizes are the caller's.
ModelInfo InfoOf(const ModelConfig& config);

}  // namespace hga

#endif  // HGA_MODEL_MODEL_INFO_H_
