// SPDX-License-Identifier: Apache-2.0
// Marks the pure functions that GPU kernels call too, so that a law is written once.
#ifndef HGA_BASE_HOST_DEVICE_H_
#define HGA_BASE_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define HGA_HD __host__ __device__
#else
#define HGA_HD
#endif

#endif  // HGA_BASE_HOST_DEVICE_H_
