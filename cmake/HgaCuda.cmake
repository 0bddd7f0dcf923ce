# The CUDA compiler and runtime, and how kernels are compiled.
if(NOT DEFINED CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
# Machine code for Ampere, Ada, Hopper and Blackwell workstations; newer GPUs compile the last one's
# intermediate code when they load it.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 89-real 90-real 120)
endif()
enable_language(CUDA)
# CMake before 3.26 does not know that nvcc has it.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
find_package(CUDAToolkit REQUIRED)
if(HGA_CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${HGA_CCACHE})
endif()
# Products and sums are fused only where a kernel says fmaf, so that one function has the same bits
# in every kernel that inlines it. Law functions of spec/ are constexpr or marked.
add_library(hga_cuda_options INTERFACE)
target_compile_options(hga_cuda_options INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false --expt-relaxed-constexpr -Xcompiler=-Wall>)
target_compile_definitions(hga_options INTERFACE HGA_WITH_CUDA=1)
