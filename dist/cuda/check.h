#pragma once
// DM_CUDA(cudaMemcpyAsync(...)): an error of the CUDA runtime's is a GPU that was lost. Only the sources of
// dist/ that a CUDA build compiles include this.

#include <cuda_runtime.h>

#include "core/error.h"

#define DM_CUDA(call)                                                                                        \
  do {                                                                                                       \
    if (const cudaError_t dm_cuda_code = (call); dm_cuda_code != cudaSuccess) [[unlikely]]                   \
      DM_FAIL(::dm::ExitCode::lost, "the GPU answered '{}' to {}", cudaGetErrorString(dm_cuda_code), #call); \
  } while (false)
