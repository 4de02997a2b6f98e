#pragma once
// The two ways of norm_cuda.cuh: `fast` holds rows in registers (norm_rows.cuh), `plain` serves every shape.

#include "kernels/norm/cuda/norm_cuda.cuh"

namespace dm::kernels::cuda {

bool norm_is_fast(const NormInputs& in);

/// Rows [dweight, dbias] of sums that the backward pass leaves in the workspace; dbias of layer_norm only.
int64_t norm_fast_parts(const NormInputs& in);
int64_t norm_plain_parts(const NormInputs& in);

cudaError_t norm_fast_forward(const NormForward& args, cudaStream_t stream);
cudaError_t norm_fast_backward(const NormBackward& args, cudaStream_t stream);
cudaError_t norm_plain_forward(const NormForward& args, cudaStream_t stream);
cudaError_t norm_plain_backward(const NormBackward& args, cudaStream_t stream);

/// Calls `call` with an element of x and one of y.
template <class Call>
auto for_elements(Element x, Element y, const Call& call) {
  return for_element(x, [&](auto x_element) {
    return for_element(y, [&](auto y_element) { return call(x_element, y_element); });
  });
}

}  // namespace dm::kernels::cuda
