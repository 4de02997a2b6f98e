#pragma once
// Which of the scan's CUDA kernels an operation runs on.

#include "kernels/ssd/cuda/ssd_cuda.cuh"

namespace dm::kernels {

/// cuda::ssd_path(). Says in the log, once for each head width and state, where bfloat16 tensors have a shape
/// that only the plain kernels serve.
cuda::SsdPath chosen_ssd_path(const cuda::SsdInputs& in);

}  // namespace dm::kernels
