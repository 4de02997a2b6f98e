#pragma once
// The plain path: the recurrence of kernels/ssd/ssd.h token by token, any P and N, float32 or bfloat16
// tensors and float32 sums. Slow, exact, and what the fast path answers to on the device.

#include <cuda_runtime_api.h>

#include "kernels/ssd/cuda/params.h"

namespace dm::kernels::cuda {

/// The forward pass saves the state before every 32nd token in float32; the backward pass redoes what lies
/// between.
constexpr int64_t kPlainInterval = 32;

int64_t plain_saved_bytes(const SsdShape& shape);
int64_t plain_workspace_bytes(const SsdShape& shape);
cudaError_t plain_forward(const SsdForward& args, cudaStream_t stream);
cudaError_t plain_backward(const SsdBackward& args, cudaStream_t stream);
cudaError_t plain_passage(const SsdPassage& args, cudaStream_t stream);

}  // namespace dm::kernels::cuda
