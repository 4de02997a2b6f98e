#pragma once
// Matrix products on the GPU, through cuBLASLt: bfloat16 operands with float32 accumulation, or float32
// operands in true float32 (no tf32). Matrices are views whose last dim is contiguous; the other stride is
// free. On the current stream; no allocation after the first call of a stream, so a call can be captured. The
// same shapes give the same algorithm and the same bits.

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// y [T, O] = x [T, I] w[O, I]ᵀ. `y` has the dtype of x, or is float32.
void multiply_transposed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y);
/// dx [T, I] = dy [T, O] w [O, I].
void multiply(const at::Tensor& dy, const at::Tensor& w, const at::Tensor& dx);
/// dw [O, I] += dy [T, O]ᵀ x [T, I]; dw is float32 and accumulated in float32.
void add_outer_products(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& dw);

}  // namespace dm::kernels
