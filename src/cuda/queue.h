// SPDX-License-Identifier: Apache-2.0
// What a launch needs: the stream it goes to and where its failure is noted.
#ifndef HGA_CUDA_QUEUE_H_
#define HGA_CUDA_QUEUE_H_

#include <cuda_runtime_api.h>

#include "hga/status.h"

namespace hga::cuda {

// A CUDA error as a Status; ok for cudaSuccess.
Status StatusOf(cudaError_t code, const char* what);

// Keeps the first failure.
class ErrorLatch {
 public:
  void Note(cudaError_t code, const char* what) {
    if (code != cudaSuccess) Note(StatusOf(code, what));
  }
  void Note(Status status);
  const Status& status() const { return status_; }

 private:
  Status status_;
};

// By value; must not outlive the backend.
struct Queue {
  cudaStream_t stream = nullptr;
  ErrorLatch* latch = nullptr;
  // After a launch: notes a configuration the driver refused. Does not wait.
  void Launched(const char* kernel) const { latch->Note(cudaGetLastError(), kernel); }
};

}  // namespace hga::cuda

#endif  // HGA_CUDA_QUEUE_H_
