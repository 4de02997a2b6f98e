#pragma once
// The two ways of gated_norm_cuda.cuh: `fast` holds a token in the registers of one thread block, eight
// channels a thread; `plain` serves every shape.

#include "kernels/gated_norm/cuda/gated_norm_cuda.cuh"

namespace dm::kernels::cuda {

/// Whether spans, sections, branches and all strides are multiples of eight channels, E is at most 8192, and
/// memory is aligned to 16 bytes.
bool gated_norm_is_fast(const GatedNormInputs& in);

/// Blocks of the backward pass; each leaves a row [E + S] of sums in the workspace (S: of a scale that is the
/// same for all tokens, else 0).
int64_t gated_norm_fast_parts(const GatedNormInputs& in);
int64_t gated_norm_plain_parts(const GatedNormInputs& in);

cudaError_t gated_norm_fast_forward(const GatedNormForward& args, cudaStream_t stream);
cudaError_t gated_norm_fast_backward(const GatedNormBackward& args, cudaStream_t stream);
cudaError_t gated_norm_plain_forward(const GatedNormForward& args, cudaStream_t stream);
cudaError_t gated_norm_plain_backward(const GatedNormBackward& args, cudaStream_t stream);

__host__ __device__ inline int64_t gated_norm_width(const GatedNormInputs& in) {
  return in.branches * in.inner;
}
/// Columns of a row of sums.
__host__ __device__ inline int64_t gated_norm_sums(const GatedNormInputs& in) {
  return gated_norm_width(in) + (in.scale_by_token ? 0 : in.sections);
}

}  // namespace dm::kernels::cuda
