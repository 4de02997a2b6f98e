#pragma once
// The squared norm of a flat range on a GPU, and where it stops being finite, in one pass.

#include <ATen/core/Tensor.h>

namespace dm::kernels {

/// Scalars on the GPU.
struct SquareSum {
  at::Tensor sum;              // float64: Σ x², which no finite float32 makes overflow
  at::Tensor first_nonfinite;  // int64: the smallest i with x_i infinite or NaN; -1 if there is none
};

/// values: float32 [count], contiguous. Added in float64 and in one order: the same bits on every GPU.
SquareSum square_sum_cuda(const at::Tensor& values);

}  // namespace dm::kernels
