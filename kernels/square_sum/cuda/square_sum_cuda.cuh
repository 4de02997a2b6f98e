#pragma once
// kernels/square_sum/square_sum_cuda.h on raw memory.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace dm::kernels::cuda {

int64_t square_sum_workspace_bytes();
cudaError_t square_sum(const float* values, int64_t count, void* workspace, double* sum,
                       int64_t* first_nonfinite, cudaStream_t stream);

}  // namespace dm::kernels::cuda
