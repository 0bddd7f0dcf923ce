// SPDX-License-Identifier: Apache-2.0
// The CUDA backend.
#ifndef HGA_CUDA_CUDA_BACKEND_H_
#define HGA_CUDA_CUDA_BACKEND_H_

#include <memory>

#include "backend/registry.h"

namespace hga {

// GPUs this process can use; 0 without one or without a driver.
int CudaDeviceCount();

// Ops on GPU `ordinal` and its own stream. kUnsupported without such a GPU, or with one older than
// this build has code for.
Result<std::unique_ptr<Ops>> OpenCuda(int ordinal, const BackendOptions& options);

}  // namespace hga

#endif  // HGA_CUDA_CUDA_BACKEND_H_
