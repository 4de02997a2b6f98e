#pragma once
// Matrix products on the GPU, through cuBLASLt: bfloat16 operands with float32 accumulation, or float32
// operands in true float32 (no tf32). Matrices are views whose last dim is contiguous; the other stride is
// free. On the current stream; no allocation after the first call of a stream, so a call can be captured. The
// same shapes give the same algorithm and the same bits.

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// y [T, O] = x [T, I] w[O, I]ᵀ. `y` has the dtype of x, or is float32.
void multiply_transposed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y);
/// dx [T, I] = dy [T, O] w [O, I]; with `add` it is added to what dx holds.
void multiply(const at::Tensor& dy, const at::Tensor& w, const at::Tensor& dx, bool add = false);
struct OuterProduct {
  at::Tensor dy, x;  // [T, O], [T, I]
  at::Tensor dw;     // [O, I] float32
};
/// dw += dyᵀ x, accumulated in float32.
void add_outer_product(const OuterProduct& product);
/// Two of one shape and dtype by one launch, which fills a GPU better than one after the other. Each tensor
/// of the second stands behind that of the first in memory, or is the same.
void add_outer_products(const OuterProduct& first, const OuterProduct& second);

}  // namespace dm::kernels
