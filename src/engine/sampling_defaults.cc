// SPDX-License-Identifier: Apache-2.0
// What a checkpoint's authors suggest for sampling, as SamplingOptions.
#include "hga/sampler.h"
#include "model/model_config.h"

namespace hga {

Result<SamplingOptions> ReadSamplingDefaults(const std::string& directory) {
  HGA_ASSIGN_OR_RETURN(const GenerationDefaults defaults, ReadGenerationDefaults(directory));
  SamplingOptions options;
  options.temperature = defaults.do_sample ? defaults.temperature : 0;
  options.top_k = defaults.top_k;
  options.top_p = defaults.top_p;
  options.min_p = defaults.min_p;
  options.repetition_penalty = defaults.repetition_penalty;
  HGA_RETURN_IF_ERROR(Validate(options));
  return options;
}

}  // namespace hga
